//! Owns the rules of an installation's `config`: strict when a tenant stores one, lenient when an
//! old row is read for sending. Never resolves the host; addresses are judged by `address_policy`.

mod config;
mod error;
mod headers;
mod json;
mod url;

pub use self::{
    config::{
        DEFAULT_TIMEOUT, Endpoint, MAX_CONFIG_BYTES, MAX_READ_CONFIG_BYTES, MAX_TIMEOUT,
        MIN_TIMEOUT, read_stored, too_long, validate,
    },
    error::{ConfigError, Unusable},
};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
