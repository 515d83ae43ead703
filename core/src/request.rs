//! Owns the shape of an outbound request: which headers, in which order, with which values.
//! Never touches the body: it is sent byte for byte as it was signed.

use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::endpoint::Endpoint;
use crate::signing_key::SigningKey;

/// `User-Agent` of every request whose configuration does not set one.
pub const USER_AGENT: &str = concat!("plugin_webhooks/", env!("CARGO_PKG_VERSION"));

/// One attempt to deliver: everything a sender thread needs.
#[derive(Clone, Debug)]
pub struct Request {
    /// Id of the delivery; a receiver recognises repeated deliveries by it.
    pub delivery_id: String,
    /// `entity_change.<table>.<operation>`; may hold any character.
    pub event_type: String,
    /// The payload exactly as PostgreSQL printed it.
    pub body: String,
    /// What `body` is signed with, when the installation has a secret.
    pub key: Option<Arc<SigningKey>>,
    /// Where to.
    pub endpoint: Endpoint,
}

impl Request {
    /// The headers in the order in which they are sent: those of the configuration, then
    /// `Content-Type`, `X-Plugin-Delivery-Id`, `X-Plugin-Event-Type`, then with a secret
    /// `X-Plugin-Signature` and those of [Standard Webhooks](https://www.standardwebhooks.com) if its key is
    /// for them, and `User-Agent` unless the configuration sets one.
    ///
    /// Ids and event types are made legal with [`header_value`]. `timestamp`: Unix seconds of this attempt;
    /// receivers refuse one that is more than five minutes off.
    pub fn headers(&self, timestamp: u64) -> Vec<(&str, String)> {
        let configured = self.endpoint.headers.iter();
        let mut headers: Vec<_> = configured
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        headers.push(("Content-Type", "application/json".to_owned()));
        headers.push(("X-Plugin-Delivery-Id", header_value(&self.delivery_id)));
        headers.push(("X-Plugin-Event-Type", header_value(&self.event_type)));
        if let Some(key) = &self.key {
            let body = self.body.as_bytes();
            headers.push(("X-Plugin-Signature", key.body_signature(body)));
            if let Some(signature) = key.standard_signature(&self.delivery_id, timestamp, body) {
                headers.push(("webhook-id", self.delivery_id.clone()));
                headers.push(("webhook-timestamp", timestamp.to_string()));
                headers.push(("webhook-signature", signature));
            }
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
        {
            headers.push(("User-Agent", USER_AGENT.to_owned()));
        }
        headers
    }
}

/// Makes any text a legal header value: each byte of its UTF-8 that is not visible ASCII, and each
/// `%`, becomes `%` and two upper-case hex digits. Percent-decoding gives the text back.
///
/// ```
/// use plugin_webhooks_core::request::header_value;
///
/// assert_eq!(header_value("entity_change.work_orders.insert"), "entity_change.work_orders.insert");
/// assert_eq!(header_value("entity_change.Größe 100%.insert"), "entity_change.Gr%C3%B6%C3%9Fe%20100%25.insert");
/// ```
pub fn header_value(text: &str) -> String {
    utf8_percent_encode(text, &NOT_PLAIN).to_string()
}

/// ASCII that [`header_value`] encodes.
const NOT_PLAIN: AsciiSet = CONTROLS.add(b' ').add(b'%');

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;
    use ureq::http::HeaderValue;

    use super::*;
    use crate::endpoint::read_stored;

    const TIMESTAMP: u64 = 1_731_705_121;

    fn request(config: &str) -> Request {
        Request {
            delivery_id: "5f0e8400-e29b-41d4-a716-446655440000".to_owned(),
            event_type: "entity_change.work_orders.insert".to_owned(),
            body: "{}".to_owned(),
            key: Some(Arc::new(SigningKey::new("a text", true).unwrap())),
            endpoint: read_stored(Some(config)).unwrap(),
        }
    }

    #[test]
    fn the_configured_headers_come_first_then_ours() {
        let request = request(
            r#"{"webhook_url": "https://example.com",
                "headers": {"B": "2", "A": "1", "x-plugin-signature": "forged",
                            "webhook-id": "forged", "Content-Type": "text/plain"}}"#,
        );
        let key = SigningKey::new("a text", true).unwrap();
        let body_signature = key.body_signature(b"{}");
        let standard = key.standard_signature(&request.delivery_id, TIMESTAMP, b"{}");
        let expected = [
            ("B", "2"),
            ("A", "1"),
            ("Content-Type", "application/json"),
            (
                "X-Plugin-Delivery-Id",
                "5f0e8400-e29b-41d4-a716-446655440000",
            ),
            ("X-Plugin-Event-Type", "entity_change.work_orders.insert"),
            ("X-Plugin-Signature", &body_signature),
            ("webhook-id", "5f0e8400-e29b-41d4-a716-446655440000"),
            ("webhook-timestamp", "1731705121"),
            ("webhook-signature", &standard.unwrap()),
            ("User-Agent", USER_AGENT),
        ];
        assert_eq!(
            request.headers(TIMESTAMP),
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn a_configured_user_agent_wins() {
        let request = request(
            r#"{"webhook_url": "https://example.com", "headers": {"user-agent": "mine/1"}}"#,
        );
        let agents: Vec<_> = request
            .headers(TIMESTAMP)
            .into_iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("user-agent"))
            .collect();
        assert_eq!(agents, [("user-agent", "mine/1".to_owned())]);
    }

    #[test]
    fn without_a_secret_there_is_no_header_of_a_signature() {
        let mut request = request(r#"{"webhook_url": "https://example.com"}"#);
        request.key = None;
        let headers = request.headers(TIMESTAMP);
        let ours = |name: &str| name.contains("Signature") || name.starts_with("webhook-");
        assert!(!headers.iter().any(|(name, _)| ours(name)), "{headers:?}");
    }

    #[test]
    fn of_ascii_only_visible_characters_other_than_percent_stay() {
        let visible: String = ('!'..='~').collect();
        let expected = visible.replace('%', "%25");
        assert_eq!(header_value(&visible), expected);
        assert_eq!(header_value("\0\t\r\n \x1f\x7f"), "%00%09%0D%0A%20%1F%7F");
        assert_eq!(header_value("ä\u{80}€"), "%C3%A4%C2%80%E2%82%AC");
    }

    proptest! {
        #[test]
        fn any_event_type_becomes_a_legal_and_reversible_value(text: String) {
            let value = header_value(&text);
            prop_assert!(HeaderValue::from_str(&value).is_ok());
            prop_assert!(value.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(percent_decode_str(&value).decode_utf8().unwrap(), text);
        }
    }
}
