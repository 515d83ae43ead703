//! Receivers on loopback that answer well or badly, and a sender that is allowed to reach them.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use plugin_webhooks_core::{
    address_policy::AllowedNetworks,
    endpoint::read_stored,
    failure::Failure,
    request::Request,
    sender::{Outcome, Sender, SenderConfig},
};

/// Bound of every wait in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server on 127.0.0.1 that lets `serve` handle each connection in a thread of its own.
pub struct Receiver {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    /// `serve` gets the connection and its number, from 0.
    pub fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let n = counter.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(stream, n));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request on every connection with the same bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(
            move |mut stream, _| {
                while read_request(&mut stream).is_ok() && stream.write_all(&answer).is_ok() {}
            },
        )
    }

    /// Reads one request, then sends the same bytes until the peer goes away.
    pub fn flooding(head: &'static str, bytes: impl Into<Vec<u8>>, pause: Duration) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut stream, _| {
            stream.set_nodelay(true).unwrap();
            let _ = read_request(&mut stream);
            let mut result = stream.write_all(head.as_bytes());
            while result.is_ok() {
                thread::sleep(pause);
                result = stream.write_all(&bytes);
            }
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One request as it came over the wire.
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
}

/// Reads one request with a Content-Length.
pub fn read_request(stream: &mut impl Read) -> io::Result<Received> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let mut more = |bytes: &mut Vec<u8>| -> io::Result<()> {
        let amount = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..amount]);
        if amount == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    };
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        more(&mut bytes)?;
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).unwrap();
    let length: usize = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head_len + length {
        more(&mut bytes)?;
    }
    let body = bytes[head_len..].to_vec();
    Ok(Received { head, body })
}

/// A sender with its notifications.
pub struct Bench {
    pub sender: Sender,
    notified: Mutex<mpsc::Receiver<()>>,
}

impl Bench {
    pub fn new(threads: usize) -> Self {
        Self::with(threads, "127.0.0.0/8, ::1", None)
    }

    pub fn with(threads: usize, allowed: &str, extra_ca_pem: Option<String>) -> Self {
        Self::start(SenderConfig {
            threads,
            allowed_networks: AllowedNetworks::parse(allowed).unwrap(),
            show_internal_bodies: true,
            extra_ca_pem: extra_ca_pem.map(String::into_bytes),
            connect_timeout: Duration::from_secs(5),
        })
    }

    /// One thread that may reach loopback but not quote it.
    pub fn discreet() -> Self {
        Self::start(SenderConfig {
            threads: 1,
            allowed_networks: AllowedNetworks::parse("127.0.0.0/8").unwrap(),
            show_internal_bodies: false,
            extra_ca_pem: None,
            connect_timeout: Duration::from_secs(5),
        })
    }

    fn start(config: SenderConfig) -> Self {
        let (notify, notified) = mpsc::channel();
        let sender = Sender::start(config, move || notify.send(()).unwrap_or(())).unwrap();
        Self {
            sender,
            notified: Mutex::new(notified),
        }
    }

    /// Waits for the next outcome.
    pub fn recv(&self) -> (u64, Outcome) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(outcome) = self.sender.try_recv() {
                return outcome;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let notified = self.notified.lock().unwrap().recv_timeout(left);
            notified.expect("an outcome in time");
        }
    }

    pub fn send(&self, request: Request) -> Outcome {
        self.sender.submit(7, request);
        let (tag, outcome) = self.recv();
        assert_eq!(tag, 7);
        outcome
    }

    pub fn failure(&self, request: Request) -> Failure {
        let outcome = self.send(request);
        let failure = outcome.result.expect_err("a failed attempt");
        assert!(failure.message.chars().count() <= 500);
        assert!(!failure.message.contains(char::is_control));
        failure
    }
}

/// A request to `url` with a timeout of one second.
pub fn request(url: &str) -> Request {
    request_within(url, 1000)
}

pub fn request_within(url: &str, timeout_ms: u32) -> Request {
    let config = serde_json::json!({"webhook_url": url, "timeout_ms": timeout_ms});
    Request {
        delivery_id: "5f0e8400-e29b-41d4-a716-446655440000".to_owned(),
        event_type: "entity_change.work_orders.insert".to_owned(),
        body: r#"{"v": 1, "ä": "ö"}"#.to_owned(),
        signature: Some("ab12".to_owned()),
        endpoint: read_stored(Some(&config.to_string())).unwrap(),
    }
}
