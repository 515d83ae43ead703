//! A secret in memory. Knows neither where it is stored nor which names are allowed.

use pgrx::Uuid;
use zeroize::Zeroizing;

/// A secret, and whose it is.
pub struct Secret {
    /// Wiped when dropped.
    plaintext: Zeroizing<String>,
    /// `None`: any.
    tenant: Option<Uuid>,
    plugin: Option<String>,
}

impl Secret {
    /// `None` for tenant or plugin: any.
    pub fn new(plaintext: Zeroizing<String>, tenant: Option<Uuid>, plugin: Option<String>) -> Self {
        Self {
            plaintext,
            tenant,
            plugin,
        }
    }

    pub fn text(&self) -> &str {
        &self.plaintext
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.plaintext.as_bytes()
    }

    /// Whether installations of this plugin may use it in this tenant.
    pub fn is_for(&self, tenant: Uuid, plugin: &str) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
            && self.plugin.as_deref().is_none_or(|own| own == plugin)
    }
}
