//! Owns signing and checking of webhook bodies: lower-case hex HMAC-SHA256.
//! Never looks up a secret and never sees anything but bytes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length in bytes of an HMAC-SHA256 tag.
const TAG_LEN: usize = 32;

/// Signs `body` with `secret`: 64 lower-case hex digits of HMAC-SHA256.
///
/// Any secret length is legal, also zero; whether an empty secret counts as a secret is the
/// caller's decision.
///
/// ```
/// use plugin_webhooks_core::signature::{sign, verify};
///
/// let signature = sign(b"secret", b"{\"a\": 1}");
/// assert!(verify(b"secret", b"{\"a\": 1}", &signature));
/// assert!(!verify(b"other", b"{\"a\": 1}", &signature));
/// ```
pub fn sign(secret: &[u8], body: &[u8]) -> String {
    hex::encode(keyed(secret).chain_update(body).finalize().into_bytes())
}

/// Tells whether `signature` is the signature of `body` under `secret`.
///
/// ASCII whitespace around it is ignored and hex digits may be of either case. The tags are
/// compared in constant time. Anything that is not exactly 64 hex digits is `false`.
pub fn verify(secret: &[u8], body: &[u8], signature: &str) -> bool {
    let mut given = [0; TAG_LEN];
    hex::decode_to_slice(signature.trim_ascii(), &mut given).is_ok()
        && keyed(secret)
            .chain_update(body)
            .verify_slice(&given)
            .is_ok()
}

/// The hash with a key, before any message.
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4231, test cases 1, 2, 3, 4, 6 and 7.
    #[test]
    fn agrees_with_the_published_vectors() {
        let counting: Vec<u8> = (1..=25).collect();
        let vectors: [(&[u8], &[u8], &str); 6] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                &counting,
                &[0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than \
                  block-size data. The key needs to be hashed before being used by the HMAC \
                  algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (secret, body, expected) in vectors {
            assert_eq!(sign(secret, body), expected);
        }
    }

    #[test]
    fn ignores_case_and_space_around() {
        let signature = sign(b"secret", b"body");
        assert!(verify(b"secret", b"body", &signature.to_uppercase()));
        assert!(verify(
            b"secret",
            b"body",
            &format!(" \t\r\n{signature}\n ")
        ));
    }

    #[test]
    fn refuses_whatever_is_not_the_signature() {
        let good = sign(b"secret", b"body");
        let bad = [
            String::new(),
            " ".to_owned(),
            good[..62].to_owned(),
            good[..63].to_owned(),
            format!("{good}0"),
            format!("{good}00"),
            format!("{good}{good}"),
            format!("0x{good}"),
            format!("sha256={good}"),
            format!("{} {}", &good[..32], &good[32..]),
            good.replace(|c: char| c.is_ascii_hexdigit(), "g"),
            // Full-width digits are not hex digits, and NBSP is not ASCII white space.
            "０".repeat(64),
            format!("\u{a0}{good}"),
            sign(b"Secret", b"body"),
            sign(b"secret", b"body "),
        ];
        for signature in bad {
            assert!(!verify(b"secret", b"body", &signature), "{signature:?}");
        }
    }

    proptest! {
        #[test]
        fn verifies_what_it_signs(secret: Vec<u8>, body: Vec<u8>) {
            let signature = sign(&secret, &body);
            prop_assert_eq!(signature.len(), 64);
            prop_assert!(signature.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
            prop_assert!(verify(&secret, &body, &signature));
        }

        #[test]
        fn notices_a_changed_bit(
            secret: Vec<u8>,
            mut body in prop::collection::vec(any::<u8>(), 1..200),
            at: prop::sample::Index,
            bit in 0..8_u32,
        ) {
            let signature = sign(&secret, &body);
            let at = at.index(body.len());
            body[at] ^= 1_u8 << bit;
            prop_assert!(!verify(&secret, &body, &signature));
        }

        #[test]
        fn never_panics(secret: Vec<u8>, body: Vec<u8>, signature: String) {
            prop_assert!(!verify(&secret, &body, &signature));
        }
    }
}
