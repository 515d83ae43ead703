//! Owns one attempt: from a request to a 2xx status or a failure that a tenant may read.
//! Never decides what happens next and never says which address it talked to.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustls::{CertificateError, ClientConfig};
use ureq::{
    Agent, Body, Error, Timeout,
    config::{AutoHeaderValue, Config},
    http::{HeaderMap, Response, header},
};

use super::{
    config::SenderConfig,
    connector::{self, WireConnector, WireError},
    pool::lock,
    resolver::PolicyResolver,
};
use crate::{
    address_policy::{self, AllowedNetworks, Denied},
    failure::{Failure, FailureKind},
    request::Request,
    retry::MAX_RETRY_AFTER,
};

/// Size of the buffers of a connection, in each direction.
const BUFFER: usize = 32 * 1024;
/// Longest response head. Smaller than the buffer, so that a longer one is noticed and not
/// taken for the end of the connection.
const MAX_HEAD: usize = BUFFER - 1;
/// Bytes of a response body that are read, most of them only to be able to keep the connection.
const MAX_BODY: usize = 64 * 1024;
/// Bytes of a response body that are kept: enough for [`MAX_MESSAGE`] characters of UTF-8.
const MAX_SHOWN: usize = 4 * MAX_MESSAGE;
/// Longest [`Failure::message`], in characters.
const MAX_MESSAGE: usize = 500;
/// Longest [`Exchange::response`], in bytes.
const MAX_RESPONSE: usize = 1024;
/// Time to read a response body: the status has decided already.
const BODY_TIME: Duration = Duration::from_secs(1);
/// How long an idle connection is kept. Most receivers keep theirs longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What came of one attempt, apart from its times: see [`Outcome`](super::Outcome).
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// The 2xx status, or what went wrong.
    pub(super) result: Result<u16, Failure>,
    /// The start of the response's body, at most 1 KiB, without control characters; `None` when it
    /// is empty or there is none.
    pub(super) response: Option<String>,
}

/// Makes attempts; the threads that call it share its connections.
pub(super) struct Client {
    parts: Parts,
    agent: Mutex<Agent>,
}

struct Parts {
    threads: usize,
    allowed_networks: AllowedNetworks,
    show_internal_bodies: bool,
    connect_timeout: Duration,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// Fails when the extra certificates cannot be read.
    pub(super) fn new(config: &SenderConfig) -> Result<Self, String> {
        let parts = Parts {
            threads: config.threads,
            allowed_networks: config.allowed_networks.clone(),
            show_internal_bodies: config.show_internal_bodies,
            connect_timeout: config.connect_timeout,
            tls: connector::tls_config(config.extra_ca_pem.as_deref())?,
        };
        let agent = Mutex::new(parts.agent());
        Ok(Self { parts, agent })
    }

    /// Makes one attempt within the endpoint's timeout.
    pub(super) fn attempt(&self, request: &Request) -> Exchange {
        let _guard = RenewAgentOnPanic(self);
        let agent = lock(&self.agent).clone();
        match send(&agent, request) {
            Ok(response) => {
                let show = self.parts.show_internal_bodies;
                let quote = connector::last_peer()
                    .is_some_and(|peer| address_policy::may_be_quoted(peer, show));
                judge(response, quote)
            }
            Err(error) => Exchange {
                result: Err(self.failure(error, request)),
                response: None,
            },
        }
    }

    fn failure(&self, error: Error, request: &Request) -> Failure {
        let total_ms = request.endpoint.timeout.as_millis();
        let connect_ms = self.parts.connect_timeout.as_millis().min(total_ms);
        let (kind, message) = match error {
            Error::Timeout(Timeout::Resolve) => (
                FailureKind::Dns,
                format!("the host name could not be resolved within {connect_ms} ms"),
            ),
            Error::Timeout(Timeout::Connect) => (
                FailureKind::Timeout,
                format!("timeout: no connection within {connect_ms} ms"),
            ),
            Error::Timeout(_) => (
                FailureKind::Timeout,
                format!("timeout: no answer within {total_ms} ms"),
            ),
            Error::HostNotFound => (
                FailureKind::Dns,
                "the host name could not be resolved".to_owned(),
            ),
            Error::Io(error) => io_failure(&error),
            Error::Tls(reason) => (FailureKind::Tls, format!("TLS: {reason}")),
            Error::Protocol(error) => (FailureKind::Protocol, protocol_message(&error.to_string())),
            Error::LargeResponseHeader(..) => (
                FailureKind::Protocol,
                format!("the head of the answer is longer than {MAX_HEAD} bytes"),
            ),
            Error::Other(error) => other_failure(error.as_ref()),
            Error::Http(_) | Error::BadUri(_) => (
                FailureKind::Setting,
                format!("the request cannot be built: {error}"),
            ),
            error => (FailureKind::Internal, error.to_string()),
        };
        Failure {
            kind,
            status: None,
            message: shorten(&clean(&message)),
            retry_after: None,
        }
    }
}

/// A panic may have poisoned the pool of the agent, for every later attempt.
struct RenewAgentOnPanic<'a>(&'a Client);

impl Drop for RenewAgentOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            *lock(&self.0.agent) = self.0.parts.agent();
        }
    }
}

impl Parts {
    fn agent(&self) -> Agent {
        let config = Config::builder()
            // The default is taken from the environment.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .accept_encoding(AutoHeaderValue::None)
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .timeout_recv_body(Some(BODY_TIME))
            .max_response_header_size(MAX_HEAD)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(self.threads)
            .max_idle_connections_per_host(self.threads)
            .max_idle_age(KEEP_ALIVE)
            .build();
        let connector = WireConnector {
            tls: Arc::clone(&self.tls),
        };
        // A lookup may outlive its attempt: twice the threads leave room for those.
        let resolver = PolicyResolver::new(self.allowed_networks.clone(), 2 * self.threads);
        Agent::with_parts(config, connector, resolver)
    }
}

/// Sends the request, over a kept connection if there is one. When the receiver closed that one
/// meanwhile, once more over a new one: it did not read the request.
fn send(agent: &Agent, request: &Request) -> Result<Response<Body>, Error> {
    let start = Instant::now();
    match send_once(agent, request, request.endpoint.timeout, KEEP_ALIVE) {
        Err(Error::Other(error)) if matches!(error.downcast_ref(), Some(WireError::Stale)) => {
            let left = request.endpoint.timeout.saturating_sub(start.elapsed());
            send_once(agent, request, left, Duration::ZERO)
        }
        result => result,
    }
}

fn send_once(
    agent: &Agent,
    request: &Request,
    timeout: Duration,
    keep_alive: Duration,
) -> Result<Response<Body>, Error> {
    let mut builder = agent
        .post(request.endpoint.url.as_str())
        .config()
        .timeout_global(Some(timeout))
        .max_idle_age(keep_alive)
        .build();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let timestamp = now.map_or(0, |since| since.as_secs());
    for (name, value) in request.headers(timestamp) {
        builder = builder.header(name, value);
    }
    builder.send(request.body.as_bytes())
}

/// `quote`: whether a tenant may read the body.
fn judge(mut response: Response<Body>, quote: bool) -> Exchange {
    let status = response.status();
    let start = read_start(response.body_mut());
    let shown = if quote {
        clean(&String::from_utf8_lossy(&start))
    } else {
        String::new()
    };
    let result = if status.is_success() {
        Ok(status.as_u16())
    } else {
        let body = match shown.as_str() {
            _ if !quote => "(the body of an internal receiver is not shown)",
            "" if status.is_redirection() => "redirects are not followed",
            "" => "(empty body)",
            body => body,
        };
        Err(Failure {
            kind: FailureKind::Status,
            status: Some(status.as_u16()),
            message: shorten(&format!("http {}: {body}", status.as_u16())),
            retry_after: retry_after(response.headers()),
        })
    };
    let end = shown.floor_char_boundary(MAX_RESPONSE);
    Exchange {
        result,
        response: (end > 0).then(|| shown[..end].to_owned()),
    }
}

/// The first bytes of the body. Reads on until its end, if that is near, because only then the
/// connection can be kept. A body that breaks off or is too slow changes nothing.
fn read_start(body: &mut Body) -> Vec<u8> {
    let mut reader = body.as_reader();
    let mut start = Vec::new();
    let mut buffer = [0; 4096];
    let mut total = 0;
    while total < MAX_BODY {
        let Ok(amount @ 1..) = reader.read(&mut buffer) else {
            break;
        };
        total += amount;
        let room = MAX_SHOWN.saturating_sub(start.len());
        start.extend_from_slice(&buffer[..amount.min(room)]);
    }
    start
}

/// Printable text.
fn clean(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    printable.trim().to_owned()
}

/// At most [`MAX_MESSAGE`] characters.
fn shorten(text: &str) -> String {
    text.chars().take(MAX_MESSAGE).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit mean: very long.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value)
            .ok()?
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    };
    Some(after.min(MAX_RETRY_AFTER))
}

fn io_failure(error: &io::Error) -> (FailureKind, String) {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return (FailureKind::Tls, tls_message(error));
    }
    let message = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => "the host is unreachable",
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => "the connection was closed before a complete answer",
        kind => return (FailureKind::Connect, format!("connection failed: {kind}")),
    };
    (FailureKind::Connect, message.to_owned())
}

/// The type of these errors is not exported, and most of their words mean nothing to a tenant.
fn protocol_message(error: &str) -> String {
    if error.contains("too many headers") {
        "the answer has too many headers".to_owned()
    } else {
        "the answer is not valid HTTP".to_owned()
    }
}

/// Own words, because those of rustls list the names and addresses in the certificate.
fn tls_message(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(error) = error else {
        return format!("TLS: {error}");
    };
    let reason = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not signed by a trusted authority"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is not valid for the host name"
        }
        CertificateError::Revoked => "has been revoked",
        _ => "is not acceptable for a server",
    };
    format!("TLS: the certificate {reason}")
}

fn other_failure(error: &(dyn std::error::Error + 'static)) -> (FailureKind, String) {
    if let Some(denied) = error.downcast_ref::<Denied>() {
        return (FailureKind::Denied, denied.to_string());
    }
    let kind = match error.downcast_ref() {
        Some(WireError::Endless) => FailureKind::Protocol,
        Some(WireError::Stale) => FailureKind::Connect,
        None => FailureKind::Internal,
    };
    (kind, error.to_string())
}
