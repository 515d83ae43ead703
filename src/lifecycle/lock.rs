//! The locks that a take-over, an update and the way back begin with: `lock_for()`, which is SQL, decides
//! which, in what order, and for how long to wait.

use pgrx::prelude::*;

use crate::error::{Error, Result, required};
use crate::pg;

#[pg_extern(sql = false)]
fn lock_relation(relation: Option<pg_sys::Oid>, mode: Option<&str>) -> Result<()> {
    if !pg::current_user_is_superuser() {
        return Err(Error::SuperusersOnly("plugin_webhooks.lock_relation()").into());
    }
    let relation = required("relation", relation)?;
    let lock = match required("mode", mode)? {
        "SHARE ROW EXCLUSIVE" => pg::TableLock::ShareRowExclusive,
        _ => pg::TableLock::AccessExclusive,
    };
    pg::lock_and_look_for_deadlocks(relation, lock);
    Ok(())
}
