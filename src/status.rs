//! The values of the status columns, as enums. The CHECK constraint of each column allows the same
//! values; tests in the database compare them. Knows no table and no transition between values.

use crate::text_enum::TextEnum;

/// `status` of `int.plugin_delivery_queue`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryStatus {
    /// Waits for an attempt.
    Pending,
    /// Claimed by a worker.
    Sending,
    Delivered,
    /// Never set by the extension; older applications did.
    Failed,
    /// Given up.
    Dead,
}

impl TextEnum for DeliveryStatus {
    const ALL: &'static [Self] = &[
        Self::Pending,
        Self::Sending,
        Self::Delivered,
        Self::Failed,
        Self::Dead,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }
}

/// `status` of `int.plugin_installations`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InstallationStatus {
    Installed,
    Disabled,
    Uninstalled,
}

impl TextEnum for InstallationStatus {
    const ALL: &'static [Self] = &[Self::Installed, Self::Disabled, Self::Uninstalled];

    fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Disabled => "disabled",
            Self::Uninstalled => "uninstalled",
        }
    }
}
