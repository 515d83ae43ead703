//! What a receiver does with `X-Plugin-Signature`, written against another library than the
//! extension's so that a mistake there cannot hide here.

use ring::hmac::{HMAC_SHA256, Key};

use crate::receiver::Received;

/// Whether `header` is the lower-case hex HMAC-SHA256 of `body` under the UTF-8 bytes of `secret`.
pub fn verify_signature(secret: &str, body: &[u8], header: &str) -> bool {
    header
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && decode_hex(header)
            .is_some_and(|tag| ring::hmac::verify(&key(secret), body, &tag).is_ok())
}

/// Asserts that a request is signed with `secret`.
#[track_caller]
pub fn assert_signed(request: &Received, secret: &str) {
    let signature = request.header("X-Plugin-Signature").expect("a signature");
    assert!(
        verify_signature(secret, &request.body, signature),
        "not signed with {secret}: {request:?}"
    );
}

/// The signature a partner puts on `body`: lower-case hex HMAC-SHA256.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let tag = ring::hmac::sign(&key(secret), body);
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn key(secret: &str) -> Key {
    Key::new(HMAC_SHA256, secret.as_bytes())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}
