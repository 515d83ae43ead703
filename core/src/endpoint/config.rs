//! Owns the configuration as a whole: its keys, its size, the timeout and the retry schedule.
//! `url` and `headers` own what stands in theirs.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use ::url::{Host, Url};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    error::{ConfigError, Unusable},
    headers,
    json::{array, number, text},
    url,
};
use crate::{
    address_policy::{self, AllowedNetworks, Denied},
    excerpt::excerpt,
    retry::{MAX_DELAY, MAX_DELAYS, MIN_DELAY, Schedule},
};

/// Longest configuration that may be stored, in bytes as PostgreSQL prints it.
pub const MAX_CONFIG_BYTES: usize = 64 * 1024;
/// Longest configuration that is read: what could be stored before there was the limit above.
pub const MAX_READ_CONFIG_BYTES: usize = 1024 * 1024;
/// Timeout of an attempt when `timeout_ms` is absent or not a number.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(15_000);
/// Shortest timeout: smaller numbers count as this.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Longest timeout: larger numbers count as this.
pub const MAX_TIMEOUT: Duration = Duration::from_millis(120_000);

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
        let port = self.url.port_or_known_default()?;
        address_policy::check(SocketAddr::new(address, port), plain_http, allowed).err()
    }
}

/// Checks a configuration that a tenant wants to store.
///
/// `config_json` is what PostgreSQL prints for the jsonb. It has to be an object of at most
/// [`MAX_CONFIG_BYTES`]. These keys have a meaning, and `null` means absent for each; all other keys
/// are the plugin's own, are not looked at and may nest as deeply as PostgreSQL allows:
///
/// - `webhook_url`: text, an absolute `http` or `https` URL with a host, without credentials,
///   fragment, white space and control characters, at most `MAX_URL_CHARS` characters.
/// - `timeout_ms`: a whole number; out of range is legal and clamped when used.
/// - `headers`: an object of texts, at most `MAX_HEADERS` with
///   `MAX_HEADER_BYTES` bytes together, with legal names that are not
///   reserved, and values of visible ASCII, space and tab.
/// - `retry_schedule`: an array of at most [`MAX_DELAYS`] whole numbers, the seconds from
///   [`MIN_DELAY`] to [`MAX_DELAY`] after the first, second, … failure. The failure after the last
///   one is final; with an empty array the first one is.
///
/// # Errors
/// The first rule that is broken.
pub fn validate(config_json: &str) -> Result<(), ConfigError> {
    if config_json.len() > MAX_CONFIG_BYTES {
        return Err(too_long());
    }
    let config = Config::read(config_json).ok_or_else(|| {
        ConfigError::new(
            "config",
            "the configuration is not a JSON object",
            "Pass an object like {\"webhook_url\": \"https://example.com/hook\"}.",
        )
    })?;
    if let Some(value) = config.webhook_url {
        url::validate(value)?;
    }
    if let Some(value) = config.timeout_ms {
        validate_timeout(value)?;
    }
    if let Some(value) = config.headers {
        headers::validate(value)?;
    }
    if let Some(value) = config.retry_schedule {
        validate_retry_schedule(value)?;
    }
    Ok(())
}

/// The error for a configuration of more than [`MAX_CONFIG_BYTES`].
#[must_use]
pub fn too_long() -> ConfigError {
    ConfigError::too_long(
        "config",
        format!("the configuration is longer than {MAX_CONFIG_BYTES} bytes"),
        "Keep only what is needed to send.",
    )
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
        url: url::stored(config.webhook_url)?,
        headers: headers::stored(config.headers)?,
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

fn validate_timeout(value: &RawValue) -> Result<(), ConfigError> {
    match number(value.get()) {
        // Beyond the range of f64 there are no fractions.
        Some(ms) if ms.fract() == 0.0 || ms.is_infinite() => Ok(()),
        _ => Err(ConfigError::new(
            "timeout_ms",
            format!("timeout_ms is not a whole number: {}", excerpt(value.get())),
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
            "Give an array of at most {MAX_DELAYS} numbers of seconds from {min} to {max}, \
             like [60, 300, 3600]; an empty one means a single attempt."
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
                excerpt(delay.get())
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
