//! Owns the connections: TCP with an absolute deadline for every operation, and TLS on top.
//! Never chooses an address: it dials those that the resolver let pass.

use std::{
    cell::Cell,
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use ureq::{
    Error, Timeout,
    unversioned::transport::{
        Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
    },
};

use super::{
    deadline::{deadline, time_left},
    resolver::bare_host,
};

/// Bytes taken of one answer. An honest one ends long before, because its body is not read
/// further than a part of this; a flood of interim answers runs into it.
const MAX_ANSWER: usize = 256 * 1024;
/// Socket timeouts are rounded up to a multiple of this, so that they rarely change between two
/// operations. The deadline itself is checked by the clock.
const TIMEOUT_STEP: Duration = Duration::from_millis(50);

thread_local! {
    /// ureq does not tell which connection an answer came over.
    static LAST_PEER: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// The address that this thread sent its last request to.
pub(super) fn last_peer() -> Option<IpAddr> {
    LAST_PEER.get()
}

/// Why the wire gave up, beyond what [`ureq::Error`] knows.
#[derive(Debug)]
pub(super) enum WireError {
    /// A kept connection was closed by the receiver before it answered anything.
    Stale,
    /// The receiver sent more than [`MAX_ANSWER`] bytes without coming to a point.
    Endless,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the kept connection was closed",
            Self::Endless => "the answer does not come to an end",
        })
    }
}

impl std::error::Error for WireError {}

/// The TLS settings of all connections: Mozilla's roots and those in `extra_ca_pem`.
pub(super) fn tls_config(extra_ca_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(pem) = extra_ca_pem {
        let mozilla = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("broken PEM: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("broken certificate: {error}"))?;
        }
        if roots.len() == mozilla {
            return Err("no certificate in the PEM text".to_owned());
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Opens connections to the addresses that it is given, with TLS for `https`.
#[derive(Debug)]
pub(super) struct WireConnector {
    pub(super) tls: Arc<ClientConfig>,
}

impl Connector for WireConnector {
    type Out = Wire;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let deadline = deadline(details.timeout);
        // Also when it is the whole attempt whose time is over: this is what it waited for.
        let lost = |error| lost(error, Timeout::Connect);
        let mut socket = dial(&details.addrs, deadline).map_err(lost)?;
        let stream = if details.needs_tls() {
            let name = ServerName::try_from(bare_host(details.uri).to_owned())
                .map_err(|_| Error::Tls("the host name cannot be used with TLS"))?;
            let mut session = ClientConnection::new(Arc::clone(&self.tls), name)
                .map_err(|error| Error::Io(io::Error::other(error)))?;
            while session.is_handshaking() {
                session.complete_io(&mut socket).map_err(lost)?;
            }
            Stream::Tls(Box::new(StreamOwned::new(session, socket)))
        } else {
            Stream::Plain(socket)
        };
        let config = details.config;
        Ok(Some(Wire {
            stream,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            reused: false,
            received: 0,
        }))
    }
}

/// Tries the addresses one after the other, each with an equal share of the time that is left.
fn dial(addresses: &[SocketAddr], deadline: Instant) -> io::Result<Socket> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (n, address) in addresses.iter().enumerate() {
        let left = time_left(deadline)?;
        let addresses_left = u32::try_from(addresses.len() - n).unwrap_or(u32::MAX);
        let share = (left / addresses_left).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, share) {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(Socket {
                    tcp,
                    peer: address.ip(),
                    deadline,
                    reads: Direction::new(TcpStream::set_read_timeout),
                    writes: Direction::new(TcpStream::set_write_timeout),
                });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One connection, plain or TLS, as ureq uses it.
pub(super) struct Wire {
    stream: Stream,
    buffers: LazyBuffers,
    /// An exchange ended on it before.
    reused: bool,
    /// Bytes received in the current exchange.
    received: usize,
}

enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Stream {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }

    /// Tells whether decrypted bytes wait, which nobody asked for between two exchanges.
    fn holds_plaintext(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => match stream.conn.reader().read(&mut [0]) {
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                Ok(_) => true,
            },
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => {
                stream.write_all(bytes)?;
                // Writing swallows the errors of the socket; flushing does not.
                stream.flush()
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Wire {
    fn error(&self, error: io::Error, timeout: NextTimeout) -> Error {
        if self.reused && self.received == 0 && is_closed(&error) {
            Error::Other(Box::new(WireError::Stale))
        } else {
            lost(error, timeout.reason)
        }
    }
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let socket = self.stream.socket();
        socket.deadline = deadline(timeout);
        LAST_PEER.set(Some(socket.peer));
        let output = &self.buffers.output()[..amount];
        self.stream
            .send(output)
            .map_err(|error| self.error(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        if self.received > MAX_ANSWER {
            return Err(Error::Other(Box::new(WireError::Endless)));
        }
        self.stream.socket().deadline = deadline(timeout);
        let amount = match self.stream.receive(self.buffers.input_append_buf()) {
            Ok(0) => return self.end_of_input(timeout),
            Ok(amount) => amount,
            Err(error) => return Err(self.error(error, timeout)),
        };
        self.received += amount;
        self.buffers.input_appended(amount);
        Ok(true)
    }

    // ureq asks when it puts the connection aside and when it takes it up again.
    fn is_open(&mut self) -> bool {
        self.reused = true;
        self.received = 0;
        !self.stream.holds_plaintext() && self.stream.socket().is_silent().unwrap_or(false)
    }

    fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

impl Wire {
    fn end_of_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match self.error(io::ErrorKind::UnexpectedEof.into(), timeout) {
            stale @ Error::Other(_) => Err(stale),
            // What the end means depends on how the body is delimited: ureq knows.
            _ => Ok(false),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

fn lost(error: io::Error, waiting: Timeout) -> Error {
    if error.kind() == io::ErrorKind::TimedOut {
        Error::Timeout(waiting)
    } else {
        Error::Io(error)
    }
}

/// A TCP socket whose reads and writes end at `deadline`, however slowly the bytes trickle.
struct Socket {
    tcp: TcpStream,
    peer: IpAddr,
    deadline: Instant,
    reads: Direction,
    writes: Direction,
}

/// The reads of a socket, or its writes.
struct Direction {
    /// What the socket is set to; zero before it was set.
    timeout: Duration,
    set_timeout: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
}

impl Direction {
    fn new(set_timeout: fn(&TcpStream, Option<Duration>) -> io::Result<()>) -> Self {
        Self {
            timeout: Duration::ZERO,
            set_timeout,
        }
    }

    /// Repeats an operation until it comes to something, or to the deadline.
    fn run(
        &mut self,
        tcp: &TcpStream,
        deadline: Instant,
        mut operation: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let timeout = step(deadline)?;
            if timeout != self.timeout {
                (self.set_timeout)(tcp, Some(timeout))?;
                self.timeout = timeout;
            }
            match operation(tcp) {
                Err(error) if is_pause(&error) => {}
                result => return result,
            }
        }
    }
}

/// The timeout of one operation.
fn step(deadline: Instant) -> io::Result<Duration> {
    let left = time_left(deadline)?.as_millis();
    let step = TIMEOUT_STEP.as_millis();
    let rounded = left.div_ceil(step).max(1) * step;
    Ok(Duration::from_millis(
        u64::try_from(rounded).unwrap_or(u64::MAX / 1_000_000),
    ))
}

impl Socket {
    /// Tells whether the connection is open and holds no unread byte.
    fn is_silent(&mut self) -> io::Result<bool> {
        self.tcp.set_nonblocking(true)?;
        let peeked = self.tcp.peek(&mut [0]);
        self.tcp.set_nonblocking(false)?;
        Ok(matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock))
    }
}

/// Neither is an error before the deadline.
fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads
            .run(&self.tcp, self.deadline, |mut tcp| tcp.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes
            .run(&self.tcp, self.deadline, |mut tcp| tcp.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
