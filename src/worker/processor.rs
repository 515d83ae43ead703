//! `rpc_process_plugin_deliveries`: dispatch on demand. Settles what cannot be sent, requests the dispatch
//! of other due rows and makes sure that a worker runs. Never waits for the network, never sends.

use std::collections::HashMap;
use std::time::Duration;

use pgrx::Uuid;
use pgrx::prelude::*;

use super::dispatcher::{new_claim_id, schedule};
use super::prepare::{Preparer, Refusal, Unsendable};
use super::registration;
use super::unsettled;
use crate::delivery::{queue, waiting};
use crate::error::{Error, Result};
use crate::wake::wake_at_commit;
use crate::{instance, pg, settings};

const DEFAULT_BATCH: i32 = 25;
const MAX_BATCH: i32 = 10_000;

/// How often rows are looked for that a worker has locked.
const MOST_LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

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
    let refusals = Preparer::in_call().refusals(rows.iter().map(|(_, installation)| *installation));
    let (unsendable, sendable): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|(_, installation)| refusals.contains_key(installation));
    let moved = settle(ids(unsendable), &refusals)
        + queue::request_dispatch(ids(sendable), settings::lease());
    wake_at_commit();
    Ok(i32::try_from(moved).unwrap_or(i32::MAX))
}

fn ids(rows: Vec<(Uuid, Uuid)>) -> Vec<Uuid> {
    rows.into_iter().map(|(id, _)| id).collect()
}

/// Settles due rows of installations to which nothing can be sent; returns how many. A worker that looks at some of
/// them just now has them locked, for a moment: it leaves new ones alone, so that they are settled here.
fn settle(mut rows: Vec<Uuid>, refusals: &HashMap<Uuid, Refusal>) -> usize {
    let schedule = schedule(&settings::worker());
    let mut settled = 0;
    for _ in 0..MOST_LOOKS {
        if rows.is_empty() {
            break;
        }
        let claim_id = new_claim_id();
        let claimed = queue::claim_unread(rows.clone(), claim_id, settings::lease());
        let unsendable: Vec<_> = claimed
            .iter()
            .filter_map(|delivery| {
                let refusal = refusals.get(&delivery.installation)?.clone();
                Some(Unsendable::new(delivery, claim_id, refusal))
            })
            .collect();
        unsettled::write_unsendable(&unsendable, &schedule);
        settled += unsendable.len();
        rows = queue::still_waiting(rows);
        if !rows.is_empty() {
            check_for_interrupts!();
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
    settled
}
