//! `rpc_process_plugin_deliveries`: dispatch on demand. Requests the dispatch of due rows and makes
//! sure that a worker runs. Never waits for the network, never sends.

use pgrx::prelude::*;

use super::registration;
use crate::delivery::{queue, waiting};
use crate::error::{Error, Result};
use crate::wake::wake_at_commit;
use crate::{instance, pg, settings};

const DEFAULT_BATCH: i32 = 25;
const MAX_BATCH: i32 = 10_000;

#[pg_extern(sql = false)]
fn rpc_process_plugin_deliveries(p_batch_size: Option<i32>) -> Result<i32> {
    if pg::is_in_recovery() {
        return Err(Error::Standby.into());
    }
    let batch = match p_batch_size {
        Some(size) if size >= 1 => size.min(MAX_BATCH),
        _ => DEFAULT_BATCH,
    };
    if let Some(reason) = instance::paused_because() {
        instance::warn_paused(&reason);
        return Ok(0);
    }
    queue::recover(false);
    if !registration::ensure_running() {
        // Rows that nobody would take must stay pending.
        return Ok(0);
    }
    let rows = waiting::oldest(usize::try_from(batch).unwrap_or(0));
    let moved = queue::request_dispatch(rows, settings::lease());
    wake_at_commit();
    Ok(i32::try_from(moved).unwrap_or(i32::MAX))
}
