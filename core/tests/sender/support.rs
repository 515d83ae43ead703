//! Receivers on loopback that answer well or badly, and a sender that is allowed to reach them.

use std::{
    io::Write,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use plugin_webhooks_core::{
    address_policy::AllowedNetworks,
    endpoint::read_stored,
    failure::Failure,
    request::Request,
    sender::{Outcome, Sender, SenderConfig},
    signing_key::SigningKey,
};
use plugin_webhooks_kit::{Received, Receiver, Reply};

/// Bound of every wait in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Answers every request on every connection with the same bytes.
pub fn answering(answer: impl Into<Vec<u8>>) -> Receiver {
    let answer = answer.into();
    Receiver::raw(
        move |mut stream, _| {
            while Received::read(&mut stream).is_ok() && stream.write_all(&answer).is_ok() {}
        },
    )
}

/// Reads one request, then sends the same bytes until the peer goes away.
pub fn flooding(head: &str, bytes: impl Into<Vec<u8>>, pause: Duration) -> Receiver {
    let receiver = Receiver::http();
    let reply = Reply::Drip {
        head: head.into(),
        chunk: bytes.into(),
        every: pause,
    };
    receiver.answer(PATH, reply);
    receiver
}

/// Where requests go by default.
pub const PATH: &str = "/hook";

/// A request to `receiver` with a timeout of one second.
pub fn request_to(receiver: &Receiver) -> Request {
    request(&receiver.url(PATH))
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
            announced_within: Duration::MAX,
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
            announced_within: Duration::MAX,
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

/// What each request is signed with.
pub const SECRET: &str = "a secret";

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
        key: Some(Arc::new(SigningKey::new(SECRET, false).unwrap())),
        endpoint: read_stored(Some(&config.to_string())).unwrap(),
    }
}
