//! Supabase Vault: its secrets are read as the owner of its view, and never written.

use zeroize::Zeroizing;

use crate::host::Bound;
use crate::pg;

/// The secret of this name, or `None`.
pub fn find(vault: Bound, name: &str) -> Option<Zeroizing<String>> {
    vault.as_owner(|| {
        pg::one_row(
            "SELECT decrypted_secret FROM vault.decrypted_secrets WHERE name = $1 LIMIT 1",
            &[name.into()],
            |row| Ok(pg::take_text(row)),
        )
        .flatten()
    })
}
