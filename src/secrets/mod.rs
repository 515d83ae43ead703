//! A secret by its name: from Supabase Vault (`vault`) where there is one, else from the embedded store
//! (`store`), encrypted with a key that never enters the database (`key_file`). Plaintext lives in
//! memory that is wiped; it reaches neither the server log nor an error.

mod key_file;
mod store;
mod vault;

use pgrx::Uuid;
use pgrx::prelude::*;
use zeroize::Zeroizing;

use crate::error::{Result, required};
use crate::limits::ShortText;
use crate::pg;

/// A secret, wiped when dropped.
pub type Plaintext = Zeroizing<String>;

/// The secret of this name, or `None`. An empty secret counts as none.
pub fn by_name(name: &str) -> Result<Option<Plaintext>> {
    let found = if vault::exists() {
        vault::find(name)
    } else {
        store::find(name)?
    };
    Ok(found.filter(|secret| !secret.is_empty()))
}

/// The signing secret of an installation, or `None`.
fn of_installation(installation: Uuid) -> Result<Option<Plaintext>> {
    let name = pg::one::<ShortText>(
        "SELECT secret_ref FROM int.plugin_installations WHERE id = $1",
        &[installation.into()],
    );
    match name.and_then(|name| name.0) {
        Some(name) => by_name(&name),
        None => Ok(None),
    }
}

#[pg_extern(sql = false)]
fn resolve_installation_signing_secret(p_installation_id: Option<Uuid>) -> Result<Option<String>> {
    let installation = required("p_installation_id", p_installation_id)?;
    Ok(of_installation(installation)?.map(|secret| secret.to_string()))
}
