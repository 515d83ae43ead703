//! The sender and certificates: whom it trusts, and what it says when it does not.

use std::{
    io::{Read, Write},
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use plugin_webhooks_core::failure::FailureKind;
use plugin_webhooks_kit::{Ca, Identity, Receiver};

use crate::support::{Bench, request};

const ALLOWED: &str = "127.0.0.0/8, ::1";

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

fn serve(identity: &Identity) -> Receiver {
    Receiver::https_as(identity, Ipv4Addr::LOCALHOST.into())
}

fn url(receiver: &Receiver, host: &str) -> String {
    format!("https://{host}:{}/hook", receiver.address().port())
}

fn refused(bench: &Bench, receiver: &Receiver) -> String {
    let failure = bench.failure(request(&url(receiver, "localhost")));
    assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.message);
    failure.message
}

#[test]
fn an_own_authority_is_trusted_by_name_and_by_address() {
    let authority = Ca::new();
    let receiver = serve(&authority.identity(NAMES));
    let bench = Bench::with(1, ALLOWED, Some(authority.pem()));
    for host in ["localhost", "127.0.0.1"] {
        for _ in 0..5 {
            assert_eq!(bench.send(request(&url(&receiver, host))).result, Ok(200));
        }
    }
    // One connection for each of the two names.
    assert_eq!(receiver.connections(), 2);
}

#[test]
fn several_authorities_fit_into_one_file() {
    let (first, second) = (Ca::new(), Ca::new());
    let receiver = serve(&second.identity(NAMES));
    let pem = format!("# first\n{}\n# second\n{}", first.pem(), second.pem());
    let bench = Bench::with(1, ALLOWED, Some(pem));
    assert_eq!(
        bench.send(request(&url(&receiver, "localhost"))).result,
        Ok(200)
    );
}

#[test]
fn strangers_are_not_trusted() {
    let authority = Ca::new();
    let without = Bench::with(1, ALLOWED, None);
    let receiver = serve(&authority.identity(NAMES));
    let message = "TLS: the certificate is not signed by a trusted authority";
    assert_eq!(refused(&without, &receiver), message);
    let with = Bench::with(1, ALLOWED, Some(authority.pem()));
    assert_eq!(
        refused(&with, &serve(&Identity::self_signed(NAMES))),
        message
    );
}

#[test]
fn certificates_out_of_time_are_refused() {
    let authority = Ca::new();
    let cases = [
        (
            authority.expired_identity(NAMES),
            "TLS: the certificate has expired",
        ),
        (
            authority.early_identity(NAMES),
            "TLS: the certificate is not valid yet",
        ),
    ];
    let bench = Bench::with(1, ALLOWED, Some(authority.pem()));
    for (identity, message) in cases {
        let receiver = serve(&identity);
        assert_eq!(refused(&bench, &receiver), message);
    }
}

#[test]
fn a_wrong_name_is_refused_and_the_right_one_is_not_told() {
    let authority = Ca::new();
    let receiver = serve(&authority.identity(&["10.9.8.7", "internal.example"]));
    let bench = Bench::with(1, ALLOWED, Some(authority.pem()));
    let message = refused(&bench, &receiver);
    assert_eq!(
        message,
        "TLS: the certificate is not valid for the host name"
    );
}

#[test]
fn whoever_does_not_speak_tls_is_refused() {
    let bench = Bench::with(1, ALLOWED, None);
    // What a server of plain HTTP says to a handshake.
    let plain = Receiver::raw(|mut stream, _| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(refused(&bench, &plain).starts_with("TLS: "));
    let talking = Receiver::raw(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(refused(&bench, &talking).starts_with("TLS: "));
}

#[test]
fn a_frozen_handshake_ends_at_the_timeout() {
    let bench = Bench::with(1, ALLOWED, None);
    let frozen = Receiver::raw(|mut stream, _| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    // A record header that announces more than ever comes, one byte at a time.
    let trickling = Receiver::raw(|mut stream, _| {
        let bytes = [0x16, 3, 3, 0x40, 0].into_iter().chain([0; 1000]);
        for byte in bytes {
            thread::sleep(Duration::from_millis(100));
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    for receiver in [frozen, trickling] {
        let start = Instant::now();
        let failure = bench.failure(request(&url(&receiver, "127.0.0.1")));
        assert_eq!(failure.kind, FailureKind::Timeout);
        assert_eq!(failure.message, "timeout: no connection within 1000 ms");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
