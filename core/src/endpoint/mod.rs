//! Owns the rules of an installation's `config`: strict when a tenant stores one, lenient when an
//! old row is read for sending. Never resolves the host; addresses are judged by `address_policy`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use ureq::http;
use url::{Host, Url};

use crate::address_policy::{self, AllowedNetworks, Denied};

use crate::retry::{MAX_DELAY, MAX_DELAYS, MIN_DELAY, Schedule};

/// Longest configuration that is accepted, in bytes as PostgreSQL prints it.
pub const MAX_CONFIG_BYTES: usize = 1024 * 1024;
/// Longest `webhook_url` that is accepted, in characters.
pub const MAX_URL_CHARS: usize = 2048;
/// Largest number of `headers`.
pub const MAX_HEADERS: usize = 50;
/// Largest sum of the lengths of all header names and values, in bytes.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Timeout of an attempt when `timeout_ms` is absent or not a number.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(15_000);
/// Shortest timeout: smaller numbers count as this.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Longest timeout: larger numbers count as this.
pub const MAX_TIMEOUT: Duration = Duration::from_millis(120_000);

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
const RESERVED_PREFIXES: [&str; 2] = ["x-plugin-", "proxy-"];

/// A configuration that a tenant may not store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key at fault, like `webhook_url` or `headers.X-Token`; `config` for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl ConfigError {
    fn new(field: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Where and how one installation receives its deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Absolute `http` or `https` URL without credentials and fragment. Its host is in the form
    /// that is dialled: `http://0x7f.1/` has become `http://127.0.0.1/`.
    pub url: Url,
    /// Additional request headers with legal names and values, in the order of the configuration.
    pub headers: Vec<(String, String)>,
    /// Time for the whole attempt, 1 to 120 seconds.
    pub timeout: Duration,
    /// The installation's own retry schedule, when it has one.
    pub retry_schedule: Option<Schedule>,
}

impl Endpoint {
    /// Why the address policy refuses the URL as it is written, without resolving its name.
    pub fn refused_as_written(&self, allowed: &AllowedNetworks) -> Option<Denied> {
        let plain_http = self.url.scheme() == "http";
        let address: IpAddr = match self.url.host()? {
            Host::Ipv4(ip) => ip.into(),
            Host::Ipv6(ip) => ip.into(),
            Host::Domain("localhost") => Ipv4Addr::LOCALHOST.into(),
            // Its addresses may be opened.
            Host::Domain(_) if *allowed != AllowedNetworks::default() => return None,
            Host::Domain(_) => return plain_http.then_some(Denied::PlainHttp),
        };
        address_policy::check(address, plain_http, allowed).err()
    }
}

/// Why a stored configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is no usable `webhook_url`: the delivery is dead at once. The text names
    /// `webhook_url`.
    NoUrl(String),
    /// Another setting is broken: a failed attempt with this reason.
    BadSetting(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUrl(reason) | Self::BadSetting(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Unusable {}

/// Checks a configuration that a tenant wants to store.
///
/// `config_json` is what PostgreSQL prints for the jsonb. It has to be an object of at most
/// [`MAX_CONFIG_BYTES`]. These keys have a meaning, and `null` means absent for each; all other keys are the plugin's own, are not
/// looked at and may nest as deeply as PostgreSQL allows:
///
/// - `webhook_url`: text, an absolute `http` or `https` URL with a host, without credentials,
///   fragment, white space and control characters, at most [`MAX_URL_CHARS`] characters.
/// - `timeout_ms`: a whole number; out of range is legal and clamped when used.
/// - `headers`: an object of texts, at most [`MAX_HEADERS`] with [`MAX_HEADER_BYTES`] bytes
///   together, with legal names that are not reserved, and values of visible ASCII, space and tab.
/// - `retry_schedule`: an array of at most [`MAX_DELAYS`] whole numbers, the seconds from
///   [`MIN_DELAY`] to [`MAX_DELAY`] after the first, second, … failure. The failure after the last
///   one is final; with an empty array the first one is.
///
/// # Errors
/// The first rule that is broken.
pub fn validate(config_json: &str) -> Result<(), ConfigError> {
    if config_json.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::new(
            "config",
            format!("the configuration is longer than {MAX_CONFIG_BYTES} bytes"),
            "Keep only what is needed to send; each delivery reads it.",
        ));
    }
    let config = Config::read(config_json).ok_or_else(|| {
        ConfigError::new(
            "config",
            "the configuration is not a JSON object",
            "Pass an object like {\"webhook_url\": \"https://example.com/hook\"}.",
        )
    })?;
    if let Some(value) = config.webhook_url {
        validate_url(value)?;
    }
    if let Some(value) = config.timeout_ms {
        validate_timeout(value)?;
    }
    if let Some(value) = config.headers {
        validate_headers(value)?;
    }
    if let Some(value) = config.retry_schedule {
        validate_retry_schedule(value)?;
    }
    Ok(())
}

/// Reads a stored configuration, whatever it holds.
///
/// - `timeout_ms` may be a number or the text of one and is clamped to [`MIN_TIMEOUT`] and
///   [`MAX_TIMEOUT`]; anything else means [`DEFAULT_TIMEOUT`].
/// - `headers` that is not an object counts as empty. Numbers and booleans in it count as their
///   text, `null` as absent. Reserved names are dropped, because the sender's own win.
/// - `retry_schedule` that is not an array of numbers or of their texts counts as absent. Delays are
///   clamped to [`MIN_DELAY`] and [`MAX_DELAY`], and those after the first [`MAX_DELAYS`] dropped.
/// - A fragment of `webhook_url`, which HTTP never sends, is dropped, and so is space around it.
///
/// # Errors
/// [`Unusable::NoUrl`] when `webhook_url` is missing or not usable; [`Unusable::BadSetting`] when
/// a header cannot be sent or the headers are too many.
pub fn read_stored(config_json: Option<&str>) -> Result<Endpoint, Unusable> {
    let config = config_json.and_then(Config::read).ok_or_else(|| {
        Unusable::NoUrl("the installation has no configuration with a webhook_url".to_owned())
    })?;
    Ok(Endpoint {
        url: stored_url(config.webhook_url)?,
        headers: stored_headers(config.headers)?,
        timeout: stored_timeout(config.timeout_ms),
        retry_schedule: config.retry_schedule.and_then(stored_retry_schedule),
    })
}

/// The keys that have a meaning, as the text that PostgreSQL printed; `null` counts as absent.
#[derive(Default)]
struct Config<'a> {
    webhook_url: Option<&'a RawValue>,
    timeout_ms: Option<&'a RawValue>,
    headers: Option<&'a RawValue>,
    retry_schedule: Option<&'a RawValue>,
}

impl<'a> Config<'a> {
    /// `None` when `json` is not an object.
    fn read(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

// By hand, because this way serde_json skips unknown values without recursion and without
// reading their numbers: neither depth nor 1e400 in them is an error.
impl<'de: 'a, 'a> Deserialize<'de> for Config<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ConfigVisitor)
    }
}

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = Config<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut config = Config::default();
        while let Some(key) = map.next_key::<String>()? {
            let slot = match key.as_str() {
                "webhook_url" => &mut config.webhook_url,
                "timeout_ms" => &mut config.timeout_ms,
                "headers" => &mut config.headers,
                "retry_schedule" => &mut config.retry_schedule,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value: &RawValue = map.next_value()?;
            *slot = (value.get() != "null").then_some(value);
        }
        Ok(config)
    }
}

/// The names and values of a JSON object in their order; `None` when it is not an object.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Entries<'a> {
    fn read(json: &'a RawValue) -> Option<Self> {
        serde_json::from_str(json.get()).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// `None` when `json` is not a string.
fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

/// `None` when `json` is not an array.
fn array(json: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json.get()).ok()
}

fn parse_url(text: &str) -> Result<Url, &'static str> {
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
    let same_target = url
        .as_str()
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.host() == url.host_str() && uri.port_u16() == url.port());
    if !same_target {
        return Err("cannot be sent as an HTTP request target");
    }
    Ok(url)
}

fn validate_url(value: &RawValue) -> Result<(), ConfigError> {
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
        return Err(error(&format!("has more than {MAX_URL_CHARS} characters")));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(error("contains white space or control characters"));
    }
    let url = parse_url(&text).map_err(error)?;
    if url.fragment().is_some() {
        return Err(error("has a fragment"));
    }
    Ok(())
}

fn stored_url(value: Option<&RawValue>) -> Result<Url, Unusable> {
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
    let mut url = parse_url(text).map_err(unusable)?;
    url.set_fragment(None);
    Ok(url)
}

/// `None` when `text` is not a decimal number.
fn number(text: &str) -> Option<f64> {
    // `f64::from_str` takes "inf" and "nan".
    let decimal = text
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    text.parse().ok().filter(|_| decimal)
}

fn validate_timeout(value: &RawValue) -> Result<(), ConfigError> {
    match number(value.get()) {
        // Beyond the range of f64 there are no fractions.
        Some(ms) if ms.fract() == 0.0 || ms.is_infinite() => Ok(()),
        _ => Err(ConfigError::new(
            "timeout_ms",
            format!(
                "timeout_ms is not a whole number: {}",
                excerpt(value.get(), 40)
            ),
            "Give milliseconds as a JSON number from 1000 to 120000.",
        )),
    }
}

fn stored_timeout(value: Option<&RawValue>) -> Duration {
    let Some(value) = value else {
        return DEFAULT_TIMEOUT;
    };
    let text = text(value).unwrap_or_else(|| value.get().to_owned());
    match number(text.trim()) {
        Some(ms) => {
            let min = MIN_TIMEOUT.as_millis() as f64;
            let max = MAX_TIMEOUT.as_millis() as f64;
            Duration::from_millis(ms.clamp(min, max) as u64)
        }
        None => DEFAULT_TIMEOUT,
    }
}

fn validate_retry_schedule(value: &RawValue) -> Result<(), ConfigError> {
    let (min, max) = (MIN_DELAY.as_secs_f64(), MAX_DELAY.as_secs_f64());
    let error = |message: String| {
        let hint = format!(
            "Give an array of at most {MAX_DELAYS} numbers of seconds from {min} to {max}, like [60, 300, 3600]; an empty one means a single attempt."
        );
        ConfigError::new("retry_schedule", message, hint)
    };
    let delays = array(value).ok_or_else(|| error("retry_schedule is not an array".to_owned()))?;
    if delays.len() > MAX_DELAYS {
        return Err(error(format!(
            "retry_schedule has more than {MAX_DELAYS} entries"
        )));
    }
    for delay in delays {
        let fits = |seconds: &f64| seconds.fract() == 0.0 && (min..=max).contains(seconds);
        if number(delay.get()).filter(fits).is_none() {
            return Err(error(format!(
                "retry_schedule holds {}, which is not a whole number from {min} to {max}",
                excerpt(delay.get(), 40)
            )));
        }
    }
    Ok(())
}

fn stored_retry_schedule(value: &RawValue) -> Option<Schedule> {
    let delays = array(value)?
        .into_iter()
        .take(MAX_DELAYS)
        .map(|delay| {
            let text = text(delay).unwrap_or_else(|| delay.get().to_owned());
            let seconds = number(text.trim())?;
            Some(Duration::from_secs_f64(
                seconds.clamp(MIN_DELAY.as_secs_f64(), MAX_DELAY.as_secs_f64()),
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Schedule::new(delays))
}

/// Tells whether `name` belongs to the sender or to HTTP itself, so that a configuration may not
/// set it. Case does not matter.
pub fn is_reserved_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_header_value(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t')
}

fn check_header_sizes(headers: &[(String, String)]) -> Result<(), String> {
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

fn validate_headers(value: &RawValue) -> Result<(), ConfigError> {
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
    check_header_sizes(&headers)
        .map_err(|message| ConfigError::new("headers", message, "Send fewer or shorter headers."))
}

fn validate_header(name: &str, value: &RawValue) -> Result<String, ConfigError> {
    let shown = excerpt(name, 60);
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

fn stored_headers(value: Option<&RawValue>) -> Result<Vec<(String, String)>, Unusable> {
    let entries = value.and_then(Entries::read).map_or(Vec::new(), |e| e.0);
    let mut headers = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        if value.get() == "null" || is_reserved_header(name.trim()) {
            continue;
        }
        let unusable = |what: &str| {
            let name = excerpt(&name, 60);
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
    check_header_sizes(&headers)
        .map_err(|reason| Unusable::BadSetting(format!("config.{reason}")))?;
    Ok(headers)
}

/// The start of `text` for a message, without control characters.
fn excerpt(text: &str, chars: usize) -> String {
    let mut shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(chars)
        .collect();
    if text.chars().count() > chars {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use ureq::http::{HeaderName, HeaderValue};

    use super::*;

    fn with_url(url: &str) -> String {
        format!(
            r#"{{"webhook_url": {}}}"#,
            serde_json::to_string(url).unwrap()
        )
    }

    fn with(key: &str, json: &str) -> String {
        format!(r#"{{"webhook_url": "https://example.com/", "{key}": {json}}}"#)
    }

    #[test]
    fn stores_legal_configurations() {
        let deep = 100_000;
        let deep = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let legal = [
            "{}".to_owned(),
            r#"{"webhook_url": null, "timeout_ms": null, "headers": null}"#.to_owned(),
            with_url("https://example.com"),
            with_url("http://10.0.0.1:8080/hook?a=b&c=%20"),
            with_url("HTTPS://EXAMPLE.COM/"),
            with_url("https://[2001:db8::1]:8443/x"),
            with_url("https://bücher.example/größe"),
            with_url("https://my_host.example/{id}|^`\"<>?q={}|^`'"),
            with_url(&format!("https://example.com/{}", "a".repeat(2028))),
            with("timeout_ms", "5000"),
            with("timeout_ms", "5000.0"),
            with("timeout_ms", "0"),
            with("timeout_ms", "-1"),
            with("timeout_ms", "12345678901234567890123"),
            with("timeout_ms", "1e400"),
            with("headers", "{}"),
            with(
                "headers",
                r#"{"Authorization": "Bearer a\tb", "X-Empty": "", "x!#$%&'*+-.^_`|~9": "~"}"#,
            ),
            with("retry_schedule", "null"),
            with("retry_schedule", "[]"),
            with("retry_schedule", "[1, 60.0, 6e1, 604800]"),
            with("retry_schedule", &format!("[{}]", ["9"; 20].join(","))),
            with("color", r#""blue""#),
            with("factor", "1e400"),
            with("id", "12345678901234567890123.000000000000000001"),
            with("tree", &deep),
            with(
                "a\\u0022b",
                r#"{"webhook_url": 1, "headers": [], "x": "\n\uD83D\uDE00"}"#,
            ),
        ];
        for config in legal {
            let shown = &config[..config.len().min(120)];
            assert_eq!(validate(&config), Ok(()), "{shown}");
        }
    }

    #[test]
    fn names_the_field_that_it_refuses() {
        let many: Vec<_> = (0..51).map(|n| format!(r#""X-{n}": "v""#)).collect();
        let long = format!(r#"{{"X-Long": "{}"}}"#, "v".repeat(8 * 1024));
        let delays = format!("[{}]", ["9"; 21].join(","));
        let refused = [
            ("retry_schedule", with("retry_schedule", "60")),
            ("retry_schedule", with("retry_schedule", "\"60, 300\"")),
            ("retry_schedule", with("retry_schedule", r#"{"1": 60}"#)),
            ("retry_schedule", with("retry_schedule", "[60, null]")),
            ("retry_schedule", with("retry_schedule", "[60, \"300\"]")),
            ("retry_schedule", with("retry_schedule", "[60, [300]]")),
            ("retry_schedule", with("retry_schedule", "[60, 0]")),
            ("retry_schedule", with("retry_schedule", "[60, -60]")),
            ("retry_schedule", with("retry_schedule", "[60, 1.5]")),
            ("retry_schedule", with("retry_schedule", "[60, 604801]")),
            ("retry_schedule", with("retry_schedule", "[60, 1e400]")),
            ("retry_schedule", with("retry_schedule", &delays)),
            ("config", "[]".to_owned()),
            ("config", "null".to_owned()),
            ("config", "\"{}\"".to_owned()),
            ("config", "1".to_owned()),
            ("config", "{".to_owned()),
            ("config", String::new()),
            ("webhook_url", r#"{"webhook_url": 1}"#.to_owned()),
            (
                "webhook_url",
                r#"{"webhook_url": ["https://a.example"]}"#.to_owned(),
            ),
            ("webhook_url", with_url("")),
            ("webhook_url", with_url("example.com")),
            ("webhook_url", with_url("/hook")),
            ("webhook_url", with_url("//example.com/hook")),
            ("webhook_url", with_url("https:")),
            ("webhook_url", with_url("https://")),
            ("webhook_url", with_url("https://:443/")),
            ("webhook_url", with_url("https:///example.com/")),
            ("webhook_url", with_url("https:example.com/")),
            ("webhook_url", with_url("https:\\\\example.com/")),
            ("webhook_url", with_url("https://example.com\\@127.0.0.1/")),
            ("webhook_url", with_url("https://example.com:0/")),
            ("webhook_url", with_url("https://example.com:65536/")),
            ("webhook_url", with_url("https://exa mple.com/")),
            ("webhook_url", with_url("https://example.com/a b")),
            ("webhook_url", with_url(" https://example.com/")),
            ("webhook_url", with_url("https://example.com/\n")),
            ("webhook_url", with_url("https://example.com/\u{a0}")),
            ("webhook_url", with_url("https://exam\tple.com/")),
            ("webhook_url", with_url("https://example.com/\u{7f}")),
            ("webhook_url", with_url("https://user@example.com/")),
            ("webhook_url", with_url("https://user:pass@example.com/")),
            ("webhook_url", with_url("https://:pass@example.com/")),
            ("webhook_url", with_url("https://example.com/#")),
            ("webhook_url", with_url("https://example.com/#part")),
            ("webhook_url", with_url("ftp://example.com/")),
            ("webhook_url", with_url("file:///etc/passwd")),
            ("webhook_url", with_url("javascript:alert(1)")),
            ("webhook_url", with_url("https://[fe80::1%25eth0]/")),
            ("webhook_url", with_url("https://256.1.1.1/")),
            ("webhook_url", with_url("https://exa%00mple.com/")),
            (
                "webhook_url",
                with_url(&format!("https://example.com/{}", "a".repeat(2029))),
            ),
            ("timeout_ms", with("timeout_ms", "\"5000\"")),
            ("timeout_ms", with("timeout_ms", "2.5")),
            ("timeout_ms", with("timeout_ms", "true")),
            ("timeout_ms", with("timeout_ms", "[1]")),
            ("headers", with("headers", "[]")),
            ("headers", with("headers", "\"X: y\"")),
            (
                "headers",
                with("headers", &format!("{{{}}}", many.join(","))),
            ),
            ("headers", with("headers", &long)),
            ("headers.", with("headers", r#"{"": "v"}"#)),
            ("headers.X Y", with("headers", r#"{"X Y": "v"}"#)),
            ("headers.X:", with("headers", r#"{"X:": "v"}"#)),
            ("headers.Größe", with("headers", r#"{"Größe": "v"}"#)),
            ("headers.XY", with("headers", r#"{"X\nY": "v"}"#)),
            ("headers.X", with("headers", r#"{"X": 1}"#)),
            ("headers.X", with("headers", r#"{"X": null}"#)),
            ("headers.X", with("headers", r#"{"X": {"a": "b"}}"#)),
            ("headers.X", with("headers", r#"{"X": "a\r\nY: b"}"#)),
            ("headers.X", with("headers", r#"{"X": "a\u0000b"}"#)),
            ("headers.X", with("headers", r#"{"X": "a\u007fb"}"#)),
            ("headers.X", with("headers", r#"{"X": "ä"}"#)),
        ];
        for (field, config) in refused {
            let error = validate(&config).expect_err(&config);
            assert_eq!(error.field, field, "{config}");
            assert!(!error.message.is_empty() && !error.hint.is_empty());
            assert!(!error.message.contains(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn reserved_headers_are_refused_in_any_case_and_dropped_from_old_rows() {
        let reserved = [
            "Host",
            "CONTENT-LENGTH",
            "content-type",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "Proxy-Authorization",
            "proxy-connection",
            "TE",
            "Trailer",
            "Upgrade",
            "Expect",
            "Accept-Encoding",
            "X-Plugin-Signature",
            "x-plugin-delivery-id",
            "X-PLUGIN-ANYTHING",
        ];
        for name in reserved {
            let config = with("headers", &format!(r#"{{"{name}": "v", "X-Kept": "v"}}"#));
            let error = validate(&config).unwrap_err();
            assert_eq!(error.field, format!("headers.{name}"));
            let endpoint = read_stored(Some(&config)).unwrap();
            let kept = [("X-Kept".to_owned(), "v".to_owned())];
            assert_eq!(endpoint.headers, kept, "{name}");
        }
    }

    #[test]
    fn old_rows_without_a_usable_url_say_so() {
        let unusable = [
            None,
            Some("null".to_owned()),
            Some("[]".to_owned()),
            Some("\"https://example.com/\"".to_owned()),
            Some("17".to_owned()),
            Some("{}".to_owned()),
            Some(r#"{"webhook_url": null}"#.to_owned()),
            Some(r#"{"webhook_url": 5}"#.to_owned()),
            Some(r#"{"webhook_url": {"url": "https://example.com/"}}"#.to_owned()),
            Some(with_url("")),
            Some(with_url("  ")),
            Some(with_url("example.com")),
            Some(with_url("ftp://example.com/")),
            Some(with_url("https://user:pass@example.com/")),
            Some(with_url("https://exa\nmple.com/")),
            Some(with_url(&format!(
                "https://example.com/{}",
                "a".repeat(70_000)
            ))),
            // The URL decides before a broken header does.
            Some(r#"{"headers": {"a b": "c"}}"#.to_owned()),
        ];
        for config in unusable {
            let error = read_stored(config.as_deref()).unwrap_err();
            assert!(matches!(error, Unusable::NoUrl(_)), "{config:?}");
            assert!(error.to_string().contains("webhook_url"), "{error}");
        }
    }

    #[test]
    fn old_rows_are_read_with_patience() {
        let endpoint = read_stored(Some(&with_url(" https://example.com/a#part "))).unwrap();
        assert_eq!(endpoint.url.as_str(), "https://example.com/a");
        assert_eq!(endpoint.headers, []);
        assert_eq!(endpoint.timeout, DEFAULT_TIMEOUT);

        let config = with(
            "headers",
            r#"{"N": 1.10, "Big": 12345678901234567890123, "Yes": true, "No": null, "T": "text"}"#,
        );
        let headers = read_stored(Some(&config)).unwrap().headers;
        let expected = [
            ("N", "1.10"),
            ("Big", "12345678901234567890123"),
            ("Yes", "true"),
            ("T", "text"),
        ];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        for odd in ["[]", "1", "\"X: y\"", "null"] {
            let endpoint = read_stored(Some(&with("headers", odd))).unwrap();
            assert_eq!(endpoint.headers, [], "{odd}");
        }
    }

    #[test]
    fn headers_of_old_rows_that_cannot_be_sent_are_bad_settings() {
        let many: Vec<_> = (0..51).map(|n| format!(r#""X-{n}": "v""#)).collect();
        let bad = [
            r#"{"X Y": "v"}"#.to_owned(),
            r#"{"": "v"}"#.to_owned(),
            r#"{"X": "a\r\nHost: b"}"#.to_owned(),
            r#"{"X": "ä"}"#.to_owned(),
            r#"{"X\u0000": "v"}"#.to_owned(),
            r#"{"X": "\u0000"}"#.to_owned(),
            r#"{"X": ["ä"]}"#.to_owned(),
            format!("{{{}}}", many.join(",")),
        ];
        for headers in bad {
            let error = read_stored(Some(&with("headers", &headers))).unwrap_err();
            assert!(matches!(error, Unusable::BadSetting(_)), "{headers}");
            assert!(error.to_string().contains("headers"), "{error}");
        }
    }

    #[test]
    fn the_timeout_is_clamped_or_the_default() {
        let cases = [
            ("5000", 5000),
            ("5000.9", 5000),
            ("\"5000\"", 5000),
            ("\" 7000 \"", 7000),
            ("999", 1000),
            ("0", 1000),
            ("-5", 1000),
            ("\"-5\"", 1000),
            ("120001", 120_000),
            ("12345678901234567890123", 120_000),
            ("1e400", 120_000),
            ("-1e400", 1000),
            ("\"abc\"", 15_000),
            ("\"\"", 15_000),
            ("\"NaN\"", 15_000),
            ("\"inf\"", 15_000),
            ("\"5s\"", 15_000),
            ("true", 15_000),
            ("null", 15_000),
            ("[5000]", 15_000),
            ("{\"ms\": 5000}", 15_000),
        ];
        for (json, ms) in cases {
            let endpoint = read_stored(Some(&with("timeout_ms", json))).unwrap();
            assert_eq!(endpoint.timeout, Duration::from_millis(ms), "{json}");
        }
    }

    #[test]
    fn an_installation_may_bring_its_own_retry_schedule() {
        let week = 604_800.0;
        let many = format!("[{}]", ["9"; 25].join(","));
        let cases: [(&str, Option<&[f64]>); 14] = [
            ("null", None),
            ("[60, 300, 3600]", Some(&[60.0, 300.0, 3600.0])),
            ("[]", Some(&[])),
            // Only old rows hold these.
            (r#"["60", " 300 "]"#, Some(&[60.0, 300.0])),
            ("[0, -5, 0.25, 1.5]", Some(&[1.0, 1.0, 1.0, 1.5])),
            ("[604801, 1e400]", Some(&[week, week])),
            (&many, Some(&[9.0; 20])),
            ("[60, null]", None),
            (r#"[60, "soon"]"#, None),
            ("[60, [300]]", None),
            (r#"{"first": 60}"#, None),
            (r#""60, 300""#, None),
            ("60", None),
            ("true", None),
        ];
        for (json, expected) in cases {
            let endpoint = read_stored(Some(&with("retry_schedule", json))).unwrap();
            let expected = expected.map(|delays| {
                Schedule::new(
                    delays
                        .iter()
                        .copied()
                        .map(Duration::from_secs_f64)
                        .collect(),
                )
            });
            assert_eq!(endpoint.retry_schedule, expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_may_be_stored_can_be_read(url in "https?://[a-z]{1,8}(\\.[a-z]{2,5})?(:[1-9][0-9]{0,3})?/[!-~]{0,20}", name in "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", value in "[\t -~]{0,30}", timeout: i64) {
            let config = serde_json::json!({"webhook_url": url, "headers": {name: value}, "timeout_ms": timeout}).to_string();
            if validate(&config).is_ok() {
                let endpoint = read_stored(Some(&config)).unwrap();
                let uri: http::Uri = endpoint.url.as_str().parse().unwrap();
                prop_assert_eq!(uri.host(), endpoint.url.host_str());
                prop_assert_eq!(uri.scheme_str(), Some(endpoint.url.scheme()));
                prop_assert_eq!(endpoint.headers.len(), 1);
                prop_assert!((MIN_TIMEOUT..=MAX_TIMEOUT).contains(&endpoint.timeout));
            }
        }

        #[test]
        fn headers_that_are_read_can_be_sent(name: String, value: String) {
            let config = serde_json::json!({"webhook_url": "https://a.example", "headers": {name: value}}).to_string();
            if let Ok(endpoint) = read_stored(Some(&config)) {
                for (name, value) in endpoint.headers {
                    prop_assert!(name.parse::<HeaderName>().is_ok());
                    prop_assert!(value.parse::<HeaderValue>().is_ok());
                }
            }
        }

        #[test]
        fn never_panics(config: String, url: String) {
            let _ = validate(&config);
            let _ = read_stored(Some(&config));
            let config = serde_json::json!({"webhook_url": url}).to_string();
            prop_assert!(validate(&config).is_err() || read_stored(Some(&config)).is_ok());
        }
    }
}
