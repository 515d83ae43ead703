//! The listening socket, its connections and what came over them.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::received::{Received, read_request};
use super::reply::{Reply, send};
use crate::tls::{Ca, Identity};

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;
type Raw = dyn Fn(TcpStream, u64) + Send + Sync;

/// What is spoken on the connections.
#[derive(Clone)]
enum Speech {
    Http,
    Https(Arc<ServerConfig>),
    /// What the test says.
    Raw(Arc<Raw>),
}

/// A running receiver; dropping it stops it.
pub struct Receiver {
    address: SocketAddr,
    speech: Speech,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: Arc<AtomicBool>,
    acceptor: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    handlers: RwLock<HashMap<String, Arc<Handler>>>,
    requests: Mutex<Vec<Arc<Received>>>,
    arrival: Condvar,
    counted: AtomicUsize,
    count_only: AtomicBool,
    connections: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Receiver {
    /// A plain receiver on 127.0.0.1; every path answers 200 until told otherwise.
    pub fn http() -> Receiver {
        Receiver::http_on(Ipv4Addr::LOCALHOST.into())
    }

    /// A plain receiver on another loopback address.
    pub fn http_on(address: IpAddr) -> Receiver {
        Receiver::start(address, Speech::Http)
    }

    /// A TLS receiver on 127.0.0.1 whose certificate is for `localhost`, 127.0.0.1 and ::1.
    pub fn https(ca: &Ca) -> Receiver {
        Receiver::https_on(
            ca,
            Ipv4Addr::LOCALHOST.into(),
            &["localhost", "127.0.0.1", "::1"],
        )
    }

    /// A TLS receiver on another loopback address, or with a certificate for other names.
    pub fn https_on(ca: &Ca, address: IpAddr, names: &[&str]) -> Receiver {
        Receiver::https_as(&ca.identity(names), address)
    }

    /// A TLS receiver on another loopback address that shows this certificate.
    pub fn https_as(identity: &Identity, address: IpAddr) -> Receiver {
        Receiver::start(address, Speech::Https(identity.server_config()))
    }

    /// A receiver on 127.0.0.1 that lets `serve` do with each connection what it wants; it gets the
    /// connection's number, too, from 0. Nothing that comes is kept.
    pub fn raw(serve: impl Fn(TcpStream, u64) + Send + Sync + 'static) -> Receiver {
        Receiver::start(Ipv4Addr::LOCALHOST.into(), Speech::Raw(Arc::new(serve)))
    }

    fn start(address: IpAddr, speech: Speech) -> Receiver {
        assert!(
            address.is_loopback(),
            "a receiver listens on a loopback address, not on {address}"
        );
        let listener = TcpListener::bind((address, 0))
            .unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        let address = listener.local_addr().expect("the address we listen on");
        let receiver = Receiver {
            address,
            speech,
            shared: Arc::default(),
            running: Mutex::new(None),
        };
        receiver.accept_from(listener);
        receiver
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path (with its leading slash).
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.address)
    }

    /// The same with a host name instead of the address.
    pub fn url_for(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme(), self.address.port())
    }

    fn scheme(&self) -> &'static str {
        match self.speech {
            Speech::Https(_) => "https",
            Speech::Http | Speech::Raw(_) => "http",
        }
    }

    /// Says how `path` answers from now on.
    pub fn on(
        &self,
        path: &str,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> &Self {
        let mut handlers = self
            .shared
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.insert(path.to_owned(), Arc::new(handler));
        drop(handlers);
        self
    }

    /// Gives `path` one answer from now on.
    pub fn answer(&self, path: &str, reply: Reply) -> &Self {
        self.on(path, move |_| reply.clone())
    }

    /// Counts requests from now on instead of keeping them: for benchmarks.
    pub fn count_only(&self) -> &Self {
        self.shared.count_only.store(true, Ordering::Relaxed);
        self
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Arc<Received>> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.shared.counted.load(Ordering::Acquire)
    }

    /// How many connections were accepted so far, whether a request came or not.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        let mut requests = lock(&self.shared.requests);
        requests.clear();
        self.shared.counted.store(0, Ordering::Release);
    }

    /// Waits for at least `count` requests and returns all of them.
    ///
    /// # Panics
    /// When `deadline` has passed.
    #[track_caller]
    pub fn wait_for(&self, count: usize, deadline: Duration) -> Vec<Arc<Received>> {
        let requests = lock(&self.shared.requests);
        let (requests, _) = self
            .shared
            .arrival
            .wait_timeout_while(requests, deadline, |_| self.count() < count)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(
            self.count() >= count,
            "waited {deadline:?} in vain for {count} requests; came: {:?}",
            requests
                .iter()
                .map(|request| &request.target)
                .collect::<Vec<_>>(),
        );
        requests.clone()
    }

    /// Stops listening and closes every connection; the requests stay.
    pub fn stop(&self) {
        let Some(running) = lock(&self.running).take() else {
            return;
        };
        running.stop.store(true, Ordering::Release);
        // A connection of our own makes `accept` return; without one there is nothing to wake.
        let _ = TcpStream::connect(self.address);
        // An acceptor that panicked has stopped too.
        let _ = running.acceptor.join();
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again on the same port.
    pub fn start_again(&self) {
        assert!(lock(&self.running).is_none(), "the receiver is running");
        let listener = TcpListener::bind(self.address)
            .unwrap_or_else(|error| panic!("cannot listen on {} again: {error}", self.address));
        self.accept_from(listener);
    }

    fn accept_from(&self, listener: TcpListener) {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shared, speech) = (
            Arc::clone(&stop),
            Arc::clone(&self.shared),
            self.speech.clone(),
        );
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                if let Ok(stream) = stream {
                    let (shared, speech) = (Arc::clone(&shared), speech.clone());
                    let number = shared.register(&stream);
                    thread::spawn(move || {
                        // How a connection ends is the sender's business; the test sees the requests.
                        let _ = shared.serve(number, stream, speech);
                        lock(&shared.open).remove(&number);
                    });
                }
            }
        });
        *lock(&self.running) = Some(Running { stop, acceptor });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn register(&self, stream: &TcpStream) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::AcqRel);
        if let Ok(handle) = stream.try_clone() {
            lock(&self.open).insert(number, handle);
        }
        number
    }

    fn serve(&self, number: u64, stream: TcpStream, speech: Speech) -> io::Result<()> {
        const BUFFER: usize = 16 * 1024;
        stream.set_nodelay(true)?;
        match speech {
            Speech::Http => self.talk(number, BufReader::with_capacity(BUFFER, stream)),
            Speech::Https(config) => {
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                let stream = StreamOwned::new(session, stream);
                self.talk(number, BufReader::with_capacity(BUFFER, stream))
            }
            Speech::Raw(serve) => {
                serve(stream, number);
                Ok(())
            }
        }
    }

    fn talk<S: Read + Write>(&self, number: u64, mut stream: BufReader<S>) -> io::Result<()> {
        let mut line = Vec::with_capacity(256);
        let mut out = Vec::with_capacity(512);
        while let Some(request) = read_request(&mut stream, &mut line, number)? {
            let request = Arc::new(request);
            let handler = self.handler(request.path());
            let reply = handler.map_or_else(Reply::ok, |handler| handler(&request));
            let last = request
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            self.keep(request);
            if let Reply::Reset(bytes) = &reply {
                stream.get_mut().write_all(bytes)?;
                stream.get_mut().flush()?;
                return self.reset(number);
            }
            if !send(stream.get_mut(), reply, &mut out)? || last {
                break;
            }
        }
        Ok(())
    }

    /// With a linger time of zero the close sends a reset instead of an end.
    fn reset(&self, number: u64) -> io::Result<()> {
        if let Some(stream) = lock(&self.open).get(&number) {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn handler(&self, path: &str) -> Option<Arc<Handler>> {
        let handlers = self.handlers.read().unwrap_or_else(PoisonError::into_inner);
        handlers.get(path).cloned()
    }

    fn keep(&self, request: Arc<Received>) {
        let mut requests = lock(&self.requests);
        if !self.count_only.load(Ordering::Relaxed) {
            requests.push(request);
        }
        self.counted.fetch_add(1, Ordering::AcqRel);
        drop(requests);
        self.arrival.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
