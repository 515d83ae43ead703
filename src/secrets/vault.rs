//! Supabase Vault: its secrets are read as the owner of its view, and never written.

use zeroize::Zeroizing;

use crate::pg::{self, TableName};

const SECRETS: TableName<'static> = TableName::new(c"vault", c"decrypted_secrets");

/// Whether this database has a Vault.
pub fn exists() -> bool {
    pg::relation(SECRETS).is_some()
}

/// The secret of this name, or `None`.
pub fn find(name: &str) -> Option<Zeroizing<String>> {
    pg::as_owner_of(SECRETS, || {
        pg::one_row(
            "SELECT decrypted_secret::pg_catalog.text FROM vault.decrypted_secrets WHERE name = $1 LIMIT 1",
            &[name.into()],
            |row| Ok(pg::take_text(row)),
        )
        .flatten()
    })
}
