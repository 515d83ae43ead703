//! What only the SQL of older versions calls, for databases that have not been updated yet. Each function keeps
//! its symbol and does what it did; nothing else belongs here.

use pgrx::prelude::*;

use crate::audit;
use crate::error::{self, required};

/// `audit.track(regclass)` of version 0.1.0.
#[pg_extern(sql = false)]
fn track(p_table: Option<pg_sys::Oid>) -> error::Result<()> {
    audit::track_table(required("p_table", p_table)?, None)
}
