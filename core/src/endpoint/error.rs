//! Why a configuration is refused when it is stored, or cannot be used when it is read.

use std::fmt;

/// A configuration that a tenant may not store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key at fault, like `webhook_url` or `headers.X-Token`; `config` for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether it is too long, and not wrong in itself.
    pub too_long: bool,
}

impl ConfigError {
    pub(super) fn new(
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            hint: hint.into(),
            too_long: false,
        }
    }

    /// For a value that is longer than it may be.
    pub(super) fn too_long(
        field: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            too_long: true,
            ..Self::new(field, message, hint)
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for ConfigError {}

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
