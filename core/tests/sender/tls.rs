//! The sender and certificates: whom it trusts, and what it says when it does not.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Bench, Receiver, read_request, request};
use plugin_webhooks_core::failure::FailureKind;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

const ALLOWED: &str = "127.0.0.0/8, ::1";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    fn certify(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::new(certificate.der().clone(), &key)
    }
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Self { certificate, key }
    }

    fn self_signed() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = server_params().self_signed(&key).unwrap();
        Self::new(certificate.der().clone(), &key)
    }

    fn serve(self) -> Receiver {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate], self.key)
            .unwrap();
        let config = Arc::new(config);
        Receiver::start(move |stream, _| answer(stream, Arc::clone(&config)))
    }
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    while read_request(&mut stream).is_ok() {
        if stream.write_all(OK.as_bytes()).is_err() || stream.flush().is_err() {
            return;
        }
    }
}

fn server_params() -> CertificateParams {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn url(receiver: &Receiver, host: &str) -> String {
    format!("https://{host}:{}/hook", receiver.address.port())
}

fn refused(bench: &Bench, receiver: &Receiver) -> String {
    let failure = bench.failure(request(&url(receiver, "localhost")));
    assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.message);
    failure.message
}

#[test]
fn an_own_authority_is_trusted_by_name_and_by_address() {
    let authority = Authority::new();
    let receiver = authority.certify(server_params()).serve();
    let bench = Bench::with(1, ALLOWED, Some(authority.pem));
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
    let (first, second) = (Authority::new(), Authority::new());
    let receiver = second.certify(server_params()).serve();
    let pem = format!("# first\n{}\n# second\n{}", first.pem, second.pem);
    let bench = Bench::with(1, ALLOWED, Some(pem));
    assert_eq!(
        bench.send(request(&url(&receiver, "localhost"))).result,
        Ok(200)
    );
}

#[test]
fn strangers_are_not_trusted() {
    let authority = Authority::new();
    let without = Bench::with(1, ALLOWED, None);
    let receiver = authority.certify(server_params()).serve();
    let message = "TLS: the certificate is not signed by a trusted authority";
    assert_eq!(refused(&without, &receiver), message);
    let with = Bench::with(1, ALLOWED, Some(authority.pem));
    assert_eq!(refused(&with, &Identity::self_signed().serve()), message);
}

#[test]
fn certificates_out_of_time_are_refused() {
    let authority = Authority::new();
    let mut expired = server_params();
    expired.not_before = date_time_ymd(2019, 1, 1);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = server_params();
    early.not_before = date_time_ymd(4000, 1, 1);
    let cases = [
        (expired, "TLS: the certificate has expired"),
        (early, "TLS: the certificate is not valid yet"),
    ];
    let bench = Bench::with(1, ALLOWED, Some(authority.pem.clone()));
    for (params, message) in cases {
        let receiver = authority.certify(params).serve();
        assert_eq!(refused(&bench, &receiver), message);
    }
}

#[test]
fn a_wrong_name_is_refused_and_the_right_one_is_not_told() {
    let authority = Authority::new();
    let names = ["10.9.8.7".to_owned(), "internal.example".to_owned()];
    let params = CertificateParams::new(names).unwrap();
    let receiver = authority.certify(params).serve();
    let bench = Bench::with(1, ALLOWED, Some(authority.pem));
    let message = refused(&bench, &receiver);
    assert_eq!(
        message,
        "TLS: the certificate is not valid for the host name"
    );
}

#[test]
fn whoever_does_not_speak_tls_is_refused() {
    let bench = Bench::with(1, ALLOWED, None);
    let plain = Receiver::answering(OK);
    let failure = bench.failure(request(&url(&plain, "127.0.0.1")));
    assert!(
        matches!(failure.kind, FailureKind::Tls | FailureKind::Timeout),
        "{failure:?}"
    );
    let talking = Receiver::start(|mut stream, _| {
        let _ = stream.write_all(OK.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(refused(&bench, &talking).starts_with("TLS: "));
}

#[test]
fn a_frozen_handshake_ends_at_the_timeout() {
    let bench = Bench::with(1, ALLOWED, None);
    let frozen = Receiver::start(|mut stream, _| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    // A record header that announces more than ever comes, one byte at a time.
    let trickling = Receiver::start(|mut stream, _| {
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
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
