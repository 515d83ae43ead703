//! Owns what is known of a failed attempt: its kind, and what a tenant may read of it.
//! Never decides what follows it: that is `retry`.

use std::time::Duration;

use crate::retry::Answer;

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure, for counting.
    pub kind: FailureKind,
    /// The HTTP status, when one arrived.
    pub status: Option<u16>,
    /// What a tenant may read: `http <status>: <start of body>` or what went wrong with the
    /// network. At most 500 characters, without control characters, never with an address that
    /// the host name resolved to, and without the body of a receiver that may not be quoted
    /// ([`may_be_quoted`](crate::address_policy::may_be_quoted)).
    pub message: String,
    /// How long the receiver asked to be left alone (`Retry-After`), at most
    /// [`MAX_RETRY_AFTER`](crate::retry::MAX_RETRY_AFTER).
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// What the next step depends on.
    pub fn answer(&self) -> Answer {
        Answer {
            status: self.status,
            retry_after: self.retry_after,
        }
    }
}

/// Kinds of failure, of attempts that were made and of those that could not even be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The receiver answered, but not 2xx.
    Status,
    /// The time was over before a status arrived.
    Timeout,
    /// The host name has no address, or none in time.
    Dns,
    /// The address policy forbids the target.
    Denied,
    /// No TCP connection, or it broke.
    Connect,
    /// No TLS session, mostly a certificate that is not trusted.
    Tls,
    /// The answer is not HTTP.
    Protocol,
    /// The configuration does not make an HTTP request.
    Setting,
    /// The signing secret is missing or cannot be read.
    Secret,
    /// The payload cannot be sent.
    Payload,
    /// A defect of this extension.
    Internal,
}

impl FailureKind {
    /// Every kind, in the order in which the documentation lists them.
    pub const ALL: [Self; 11] = [
        Self::Status,
        Self::Timeout,
        Self::Dns,
        Self::Denied,
        Self::Connect,
        Self::Tls,
        Self::Protocol,
        Self::Setting,
        Self::Secret,
        Self::Payload,
        Self::Internal,
    ];

    /// The lower-case name, as the record of an attempt shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Denied => "denied",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Setting => "setting",
            Self::Secret => "secret",
            Self::Payload => "payload",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_queries_and_dashboards_rely_on() {
        let names =
            "status timeout dns denied connect tls protocol setting secret payload internal";
        assert_eq!(FailureKind::ALL.map(FailureKind::as_str).join(" "), names);
    }
}
