//! Owns the rules of `webhook_url`. What passes is dialled as it was judged: every reader of the URL
//! sees the same host and port.

use serde_json::value::RawValue;
use ureq::http;
use url::Url;

use super::{
    error::{ConfigError, Unusable},
    json::text,
};

/// Longest `webhook_url` that is accepted, in characters.
const MAX_URL_CHARS: usize = 2048;

fn parse(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not an absolute URL with a valid host")?;
    // Browsers read "https:///host" and "https:\\host" like "https://host". Nobody who writes
    // such a thing into a configuration means well.
    let (_, rest) = text.split_once("://").ok_or("is not an absolute URL")?;
    if rest.starts_with('/') {
        return Err("has no host");
    }
    if text.contains('\\') {
        return Err("contains a backslash");
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is neither http nor https");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains credentials");
    }
    if url.port() == Some(0) {
        return Err("has port 0");
    }
    // The sender reads the URL again with this type: both have to see the same target.
    let sent = url.as_str().parse::<http::Uri>();
    if !sent.is_ok_and(|uri| is_same_target(&url, &uri)) {
        return Err("cannot be sent as an HTTP request target");
    }
    Ok(url)
}

fn is_same_target(url: &Url, uri: &http::Uri) -> bool {
    uri.host() == url.host_str() && uri.port_u16() == url.port()
}

pub(super) fn validate(value: &RawValue) -> Result<(), ConfigError> {
    let hint = "Use an absolute URL like https://example.com/hook.";
    let error = |message: &str| {
        let hint = match message {
            "contains credentials" => "Send credentials in a header, see \"headers\".",
            "has a fragment" => "Remove the \"#\" and what follows; it is never sent.",
            _ => hint,
        };
        ConfigError::new("webhook_url", format!("webhook_url {message}"), hint)
    };
    let text = text(value).ok_or_else(|| error("is not a text"))?;
    if text.chars().count() > MAX_URL_CHARS {
        return Err(ConfigError::too_long(
            "webhook_url",
            format!("webhook_url has more than {MAX_URL_CHARS} characters"),
            "Use a shorter URL.",
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(error("contains white space or control characters"));
    }
    let url = parse(&text).map_err(error)?;
    if url.fragment().is_some() {
        return Err(error("has a fragment"));
    }
    Ok(())
}

pub(super) fn stored(value: Option<&RawValue>) -> Result<Url, Unusable> {
    let unusable = |reason: &str| Unusable::NoUrl(format!("webhook_url {reason}"));
    let value = value.ok_or_else(|| unusable("is not configured"))?;
    let text = text(value).ok_or_else(|| unusable("is not a text"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(unusable("is empty"));
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err(unusable("contains control characters"));
    }
    let mut url = parse(text).map_err(unusable)?;
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // No URL is known that the two types read differently, so this stands beside the rule itself.
    #[test]
    fn another_host_or_port_is_another_target() {
        let url = Url::parse("https://a.example:8443/x").unwrap();
        let same = |uri: &'static str| is_same_target(&url, &http::Uri::from_static(uri));
        assert!(same("https://a.example:8443/y"));
        assert!(!same("https://b.example:8443/x"));
        assert!(!same("https://a.example:8444/x"));
        assert!(!same("https://a.example/x"));
    }
}
