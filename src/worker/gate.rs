//! The gate before every claim: a worker sends only from the active instance, and says once why it does
//! not. Decides nothing about single deliveries.

use crate::instance;

/// Remembers what it has said, so that a paused database does not fill the server log.
#[derive(Default)]
pub struct Gate {
    said: Option<String>,
    was_open: bool,
}

impl Gate {
    /// What the last look found.
    pub fn was_open(&self) -> bool {
        self.was_open
    }

    /// Whether this database may send now. Call it in the transaction that claims.
    pub fn is_open(&mut self) -> bool {
        self.was_open = instance::is_active();
        if self.was_open {
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
