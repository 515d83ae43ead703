//! Owns what a delivery is signed with: the keys that a secret stands for, and both forms of signature that
//! receivers verify. Keeps no plaintext; never looks up a secret and never reads a clock.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::signature::keyed;

/// What the Standard Webhooks libraries take off a secret before they decode it. The longer one comes first.
const PREFIXES: [&str; 2] = ["v1,whsec_", "whsec_"];

/// Base64 of RFC 4648, section 4; padding is optional.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that begins with `whsec_` and does not go on with base64 of at least one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

impl std::fmt::Display for NotBase64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the secret begins with whsec_, but no base64 follows")
    }
}

impl std::error::Error for NotBase64 {}

/// The key that a secret stands for in [Standard Webhooks](https://www.standardwebhooks.com): what is
/// base64-decoded after `whsec_` or `v1,whsec_`, of any other secret its UTF-8 bytes.
fn standard_key(secret: &str) -> Result<Zeroizing<Vec<u8>>, NotBase64> {
    let encoded = PREFIXES
        .iter()
        .find_map(|prefix| secret.strip_prefix(prefix));
    let Some(encoded) = encoded else {
        return Ok(Zeroizing::new(secret.as_bytes().to_vec()));
    };
    match FORGIVING.decode(encoded) {
        Ok(key) if !key.is_empty() => Ok(Zeroizing::new(key)),
        _ => Err(NotBase64),
    }
}

/// Whether a secret stands for a key.
///
/// # Errors
/// [`NotBase64`].
pub fn check(secret: &str) -> Result<(), NotBase64> {
    standard_key(secret).map(|_| ())
}

/// A secret in the form that every Standard Webhooks library takes: `whsec_` and base64 of the key.
///
/// ```
/// use plugin_webhooks_core::signing_key::receiver_secret;
///
/// assert_eq!(*receiver_secret("a text")?, "whsec_YSB0ZXh0");
/// assert_eq!(*receiver_secret("v1,whsec_YSB0ZXh0")?, "whsec_YSB0ZXh0");
/// # Ok::<_, plugin_webhooks_core::signing_key::NotBase64>(())
/// ```
///
/// # Errors
/// [`NotBase64`].
pub fn receiver_secret(secret: &str) -> Result<Zeroizing<String>, NotBase64> {
    let key = standard_key(secret)?;
    let mut text = Zeroizing::new(String::from("whsec_"));
    STANDARD.encode_string(&*key, &mut text);
    Ok(text)
}

/// A keyed hash for each form of signature.
#[derive(Clone)]
pub struct SigningKey {
    body: Hmac<Sha256>,
    /// Only if Standard Webhooks headers are wanted.
    standard: Option<Hmac<Sha256>>,
}

impl SigningKey {
    /// `standard`: whether Standard Webhooks headers are wanted.
    ///
    /// # Errors
    /// [`NotBase64`], only with `standard`: the other form takes the secret's text as it is.
    pub fn new(secret: &str, standard: bool) -> Result<Self, NotBase64> {
        let standard = match standard {
            true => Some(keyed(&standard_key(secret)?)),
            false => None,
        };
        Ok(Self {
            body: keyed(secret.as_bytes()),
            standard,
        })
    }

    /// The value of `X-Plugin-Signature`: lower-case hex HMAC-SHA256 of the body with the secret's UTF-8 bytes.
    pub fn body_signature(&self, body: &[u8]) -> String {
        let mac = self.body.clone().chain_update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    /// The value of `webhook-signature`: `v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`; `None` where
    /// Standard Webhooks headers are not wanted.
    pub fn standard_signature(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        let mac = self.standard.clone()?;
        let mac = mac
            .chain_update(format!("{id}.{timestamp}."))
            .chain_update(body);
        let mut signature = String::from("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut signature);
        Some(signature)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signature;

    #[test]
    fn agrees_with_the_vector_of_the_specification() {
        let key = SigningKey::new("whsec_plJ3nmyCDGBKInavdOK15jsl", true).unwrap();
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        assert_eq!(
            key.standard_signature("msg_loFOjxBNrRLzqYUf", 1_731_705_121, body),
            Some("v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=".to_owned())
        );
    }

    #[test]
    fn the_prefix_says_how_the_key_is_written() {
        let sign = |secret| {
            let key = SigningKey::new(secret, true).unwrap();
            key.standard_signature("a", 1, b"{}").unwrap()
        };
        let text = sign("a text");
        assert_eq!(sign("whsec_YSB0ZXh0"), text);
        assert_eq!(sign("v1,whsec_YSB0ZXh0"), text);
        assert_eq!(sign("whsec_YSB0ZXg="), sign("a tex"));
        assert_eq!(sign("whsec_YSB0ZXg"), sign("a tex"));
        assert_ne!(sign("WHSEC_YSB0ZXh0"), text);
        assert_ne!(sign("YSB0ZXh0"), text);
    }

    #[test]
    fn what_is_not_base64_after_the_prefix_is_no_key() {
        for secret in [
            "whsec_",
            "v1,whsec_",
            "whsec_ YSB0ZXh0",
            "whsec_YSB0ZXh0\n",
            "whsec_YSB0Z",
            "whsec_YSB0_-h0",
            "whsec_ä",
        ] {
            assert_eq!(check(secret), Err(NotBase64), "{secret:?}");
            assert!(SigningKey::new(secret, true).is_err(), "{secret:?}");
            // Without Standard Webhooks its text signs the body as it always did.
            let key = SigningKey::new(secret, false).unwrap();
            assert_eq!(
                key.body_signature(b"{}"),
                signature::sign(secret.as_bytes(), b"{}")
            );
            assert_eq!(key.standard_signature("a", 1, b"{}"), None);
        }
    }

    #[test]
    fn nothing_printed_tells_the_key() {
        let key = SigningKey::new("a text", true).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }

    proptest! {
        #[test]
        fn what_a_receiver_gets_stands_for_the_same_key(secret: String, body: Vec<u8>) {
            prop_assume!(check(&secret).is_ok() && !secret.is_empty());
            let ours = SigningKey::new(&secret, true).unwrap();
            let theirs = SigningKey::new(&receiver_secret(&secret).unwrap(), true).unwrap();
            prop_assert_eq!(
                ours.standard_signature("id", 1, &body),
                theirs.standard_signature("id", 1, &body)
            );
            prop_assert_eq!(ours.body_signature(&body), signature::sign(secret.as_bytes(), &body));
        }
    }
}
