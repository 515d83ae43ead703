//! Owns the rules of the request headers that a configuration adds. The sender's own headers are
//! reserved: no configuration sets them.

use serde_json::value::RawValue;
use ureq::http::HeaderName;

use super::{
    error::{ConfigError, Unusable},
    json::{Entries, text},
};
use crate::excerpt::excerpt;

/// Largest number of `headers`.
const MAX_HEADERS: usize = 50;
/// Largest sum of the lengths of all header names and values, in bytes.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Headers that the sender or HTTP itself sets.
const RESERVED_HEADERS: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "via",
];
const RESERVED_PREFIXES: [&str; 4] = ["x-plugin-", "webhook-", "ce-", "proxy-"];

/// Tells whether `name` belongs to the sender or to HTTP itself, so that a configuration may not
/// set it. Case does not matter.
fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
}

fn is_header_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

fn is_header_value(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t')
}

fn check_sizes(headers: &[(String, String)]) -> Result<(), String> {
    if headers.len() > MAX_HEADERS {
        return Err(format!("headers holds more than {MAX_HEADERS} headers"));
    }
    let bytes: usize = headers.iter().map(|(n, v)| n.len() + v.len()).sum();
    if bytes > MAX_HEADER_BYTES {
        return Err(format!(
            "headers holds more than {MAX_HEADER_BYTES} bytes of names and values"
        ));
    }
    Ok(())
}

pub(super) fn validate(value: &RawValue) -> Result<(), ConfigError> {
    let entries = Entries::read(value).ok_or_else(|| {
        ConfigError::new(
            "headers",
            "headers is not a JSON object",
            "Give an object of texts, like {\"Authorization\": \"Bearer …\"}.",
        )
    })?;
    let mut headers = Vec::with_capacity(entries.0.len());
    for (name, value) in entries.0 {
        let value = validate_header(&name, value)?;
        headers.push((name, value));
    }
    check_sizes(&headers)
        .map_err(|message| ConfigError::new("headers", message, "Send fewer or shorter headers."))
}

fn validate_header(name: &str, value: &RawValue) -> Result<String, ConfigError> {
    let shown = excerpt(name);
    let error = |message: &str, hint: &str| {
        Err(ConfigError::new(
            format!("headers.{shown}"),
            format!("header \"{shown}\" {message}"),
            hint,
        ))
    };
    if !is_header_name(name) {
        return error(
            "does not have a legal name",
            "Header names consist of letters, digits and !#$%&'*+-.^_`|~ only.",
        );
    }
    if is_reserved_header(name) {
        return error(
            "is reserved",
            "The extension or HTTP itself sets this header; choose another name.",
        );
    }
    let Some(value) = text(value) else {
        return error("is not a text", "Put the value between double quotes.");
    };
    if !is_header_value(&value) {
        return error(
            "has a value that cannot be sent",
            "Header values consist of visible ASCII characters, spaces and tabs only.",
        );
    }
    Ok(value)
}

pub(super) fn stored(value: Option<&RawValue>) -> Result<Vec<(String, String)>, Unusable> {
    let entries = value.and_then(Entries::read).map_or(Vec::new(), |e| e.0);
    let mut headers = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        if value.get() == "null" || is_reserved_header(name.trim()) {
            continue;
        }
        let unusable = |what: &str| {
            let name = excerpt(&name);
            Unusable::BadSetting(format!("config.headers: \"{name}\" {what}"))
        };
        if !is_header_name(&name) {
            return Err(unusable("is not a legal header name"));
        }
        let value = text(value).unwrap_or_else(|| value.get().to_owned());
        if !is_header_value(&value) {
            return Err(unusable("has a value that cannot be sent"));
        }
        headers.push((name, value));
    }
    check_sizes(&headers).map_err(|reason| Unusable::BadSetting(format!("config.{reason}")))?;
    Ok(headers)
}
