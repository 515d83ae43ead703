//! What only the SQL of older versions calls, for databases that have not been updated yet. Each function keeps
//! its symbol and does what it did; nothing else belongs here.

use pgrx::prelude::*;

use crate::error::{self, required};
use crate::{audit, secrets};

/// `audit.track(regclass)` of version 0.1.0.
#[pg_extern(sql = false)]
fn track(p_table: Option<pg_sys::Oid>) -> error::Result<()> {
    audit::track_table(required("p_table", p_table)?, None)
}

/// `plugin_webhooks.create_secret(text, text, text)` of versions 0.1.0 and 0.2.0.
#[pg_extern(sql = false)]
fn create_secret(
    new_secret: Option<&str>,
    new_name: Option<&str>,
    new_description: Option<&str>,
) -> error::Result<Option<pgrx::Uuid>> {
    secrets::create(new_secret, new_name, new_description, None, None)
}
