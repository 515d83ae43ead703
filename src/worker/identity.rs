//! The gate before every claim: a worker sends only where the data is at home.

use crate::home;

/// Remembers what it has said, so that a paused database fills no log.
#[derive(Default)]
pub struct Gate {
    said: Option<String>,
}

impl Gate {
    /// Whether this database may send now. Call it in the transaction that claims.
    pub fn is_open(&mut self) -> bool {
        if home::is_here() {
            self.said = None;
            return true;
        }
        let reason = home::paused_because();
        if let Some(reason) = reason
            .as_deref()
            .filter(|reason| self.said.as_deref() != Some(*reason))
        {
            home::warn_paused(reason);
        }
        self.said = reason;
        false
    }
}
