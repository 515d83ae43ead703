//! The gate before every claim: a worker sends only from the active instance, and says once why it does
//! not. Decides nothing about single deliveries.

use crate::instance;

/// Remembers what it has said, so that a paused database does not fill the server log.
#[derive(Default)]
pub struct Gate {
    said: Option<String>,
}

impl Gate {
    /// Whether this database may send now. Call it in the transaction that claims.
    pub fn is_open(&mut self) -> bool {
        if instance::is_active() {
            self.said = None;
            return true;
        }
        let reason = instance::paused_because();
        if let Some(reason) = reason
            .as_deref()
            .filter(|reason| self.said.as_deref() != Some(*reason))
        {
            instance::warn_paused(reason);
        }
        self.said = reason;
        false
    }
}
