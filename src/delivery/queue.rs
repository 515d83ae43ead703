//! The SQL on `int.plugin_delivery_queue`, but for the inserts, which `enqueue` makes, and for what foreign
//! keys do (`references`). Every statement runs as the owner of the queue. Decides nothing about when.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{Uuid, name};
use plugin_webhooks_core::limiter::{Reading, Room, SMALL_BODY};

use super::purge::{self, PurgeStep, interval};
use crate::limits::ShortText;
use crate::pg;
use crate::pg::{BoundedJsonb, JsonbSize};
use crate::status::DeliveryStatus;
use crate::tables;
use crate::text_enum::TextEnum;

const CLAIM: &str = include_str!("sql/claim.sql");
const RELEASE: &str = include_str!("sql/release.sql");
const UNCLAIM: &str = include_str!("sql/unclaim.sql");
const STILL_WAITING: &str = "SELECT q.id FROM int.plugin_delivery_queue AS q
    WHERE q.id = ANY ($1) AND coalesce(q.status, '') = 'pending' AND q.lease_expires_at IS NULL";
const SETTLE: &str = include_str!("sql/settle.sql");
const LOCKED: &str = include_str!("sql/locked.sql");
const RETURN_ALL: &str = include_str!("sql/return_all.sql");
const SETTLE_PG_NET: &str = include_str!("sql/settle_pg_net.sql");
const RECOVER: &str = include_str!("sql/recover.sql");
const STATE: &str = include_str!("sql/queue_state.sql");
const PURGE: &str = include_str!("sql/purge_queue.sql");

/// A delivery that was claimed, with what is needed to send it.
pub struct Claimed {
    pub id: Uuid,
    pub tenant: Uuid,
    pub installation: Uuid,
    /// `None` when it is too long to be one.
    pub event_type: Option<String>,
    /// `payload::text`, byte for byte the request's body; `None` when it is too long to send.
    pub body: Option<String>,
    /// Failed attempts before this one.
    pub failures: u32,
    /// Less than two seconds old.
    pub fresh: bool,
}

/// What an attempt leads to for its delivery, ready to be written.
pub struct Settlement {
    pub id: Uuid,
    pub claim_id: i64,
    /// Delivered, pending or dead.
    pub status: DeliveryStatus,
    pub failed: bool,
    pub error: Option<String>,
    /// Until the next attempt, for `Pending`.
    pub delay: Duration,
}

/// What plugin_webhooks.health shows of the queue.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn queue_state() -> TableIterator<
    'static,
    (
        name!(pending, Option<i64>),
        name!(due, Option<i64>),
        name!(sending, Option<i64>),
        name!(dead_last_hour, Option<i64>),
        name!(oldest_due_at, Option<TimestampWithTimeZone>),
    ),
> {
    TableIterator::new(tables::QUEUE.rows(STATE, |row| {
        Ok((
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ))
    }))
}

pub(super) fn as_queue_owner<R>(body: impl FnOnce() -> R) -> R {
    pg::as_owner_of(tables::QUEUE, body)
}

const CLAIM_TYPES: [pg_sys::BuiltinOid; 3] = {
    use pg_sys::BuiltinOid as T;
    [T::UUIDARRAYOID, T::INT8OID, T::INTERVALOID]
};

/// The parameters of claim.sql.
fn claim_args(
    rows: Vec<Uuid>,
    claim_id: Option<i64>,
    lease: Duration,
) -> [DatumWithOid<'static>; 3] {
    [rows.into(), claim_id.into(), interval(lease).into()]
}

/// What a claim took, and what it left.
#[derive(Default)]
pub struct Claim {
    pub claimed: Vec<Claimed>,
    /// For each installation, the size of the first body that there was no room for.
    pub left_over: HashMap<Uuid, usize>,
    /// How long it took to read bodies that are not small.
    pub reading: Duration,
}

/// Claims rows that are pending or whose dispatch was requested, under a new claim id: as many as there is room for
/// their bodies, in this order, but for those that are not small, which tenants send in turn.
pub fn claim(
    rows: &[Uuid],
    claim_id: i64,
    lease: Duration,
    mut room: Room<'_, Uuid>,
    mut reading: Reading,
) -> Claim {
    let args = claim_args(rows.to_vec(), Some(claim_id), lease);
    let order: HashMap<&Uuid, usize> = rows.iter().zip(0..).collect();
    as_queue_owner(|| {
        let mut claim = Claim::default();
        let mut unclaimed = Vec::new();
        pg::run_kept(CLAIM, &CLAIM_TYPES, &args, |table| {
            let mut found = Vec::with_capacity(table.len());
            for row in table {
                let id = row.get::<Uuid>(1)?.unwrap_or_else(nil);
                let tenant = row.get::<Uuid>(6)?.unwrap_or_else(nil);
                let stored = row.get::<JsonbSize>(4)?.map_or(0, |size| size.0);
                let turn = (stored > SMALL_BODY).then(|| room.turn(tenant));
                found.push(((turn, order.get(&id).copied()), id, tenant, stored, row));
            }
            found.sort_by_key(|(place, ..)| *place);
            for (_, id, tenant, stored, row) in found {
                let installation = row.get::<Uuid>(2)?.unwrap_or_else(nil);
                let mut leave = |bytes| {
                    unclaimed.push(id);
                    claim.left_over.entry(installation).or_insert(bytes);
                };
                // Not even read.
                if !room.fits(tenant, stored) || !reading.admits(stored) {
                    leave(stored);
                    continue;
                }
                let started = Instant::now();
                let body = row.get::<BoundedJsonb>(4)?.and_then(|body| body.0);
                // What is too long costs what it takes to find that out.
                let bytes = body.as_ref().map_or(stored, String::len);
                reading.add(bytes.max(stored));
                if bytes.max(stored) > SMALL_BODY {
                    claim.reading += started.elapsed();
                }
                if !room.take(tenant, bytes) {
                    leave(bytes);
                    continue;
                }
                claim.claimed.push(Claimed {
                    id,
                    installation,
                    event_type: row.get::<ShortText>(3)?.and_then(|text| text.0),
                    body,
                    failures: u32::try_from(row.get::<i32>(5)?.unwrap_or(0)).unwrap_or(0),
                    tenant,
                    fresh: row.get::<bool>(7)? == Some(true),
                });
            }
            Ok(())
        });
        if !unclaimed.is_empty() {
            let types = [
                pg_sys::BuiltinOid::UUIDARRAYOID,
                pg_sys::BuiltinOid::INT8OID,
            ];
            pg::run_kept(
                UNCLAIM,
                &types,
                &[unclaimed.into(), claim_id.into()],
                |_| Ok(()),
            );
        }
        claim
    })
}

pub(super) fn nil() -> Uuid {
    Uuid::from_bytes([0; 16])
}

/// Requests the dispatch of pending rows: the worker claims them. Returns how many.
pub fn request_dispatch(rows: Vec<Uuid>, lease: Duration) -> usize {
    let args = claim_args(rows, None, lease);
    as_queue_owner(|| pg::run_kept(CLAIM, &CLAIM_TYPES, &args, |table| Ok(table.len())))
}

/// Claims rows that will not be sent: their bodies are not read.
pub fn claim_unread(rows: Vec<Uuid>, claim_id: i64, lease: Duration) -> Vec<Claimed> {
    let args = claim_args(rows, Some(claim_id), lease);
    as_queue_owner(|| {
        pg::run_kept(CLAIM, &CLAIM_TYPES, &args, |table| {
            table
                .into_iter()
                .map(|row| {
                    Ok(Claimed {
                        id: row.get::<Uuid>(1)?.unwrap_or_else(nil),
                        installation: row.get::<Uuid>(2)?.unwrap_or_else(nil),
                        event_type: None,
                        body: None,
                        failures: u32::try_from(row.get::<i32>(5)?.unwrap_or(0)).unwrap_or(0),
                        tenant: row.get::<Uuid>(6)?.unwrap_or_else(nil),
                        fresh: row.get::<bool>(7)? == Some(true),
                    })
                })
                .collect()
        })
    })
}

/// Gives up the claim on rows, as if it had never been.
pub fn release(rows: Vec<Uuid>, claim_id: i64) {
    let types = [
        pg_sys::BuiltinOid::UUIDARRAYOID,
        pg_sys::BuiltinOid::INT8OID,
    ];
    let args = [rows.into(), claim_id.into()];
    as_queue_owner(|| pg::run_kept(RELEASE, &types, &args, |_| Ok(())));
}

/// Which of these rows nobody has claimed or settled yet.
pub fn still_waiting(rows: Vec<Uuid>) -> Vec<Uuid> {
    as_queue_owner(|| {
        pg::run_kept(
            STILL_WAITING,
            &[pg_sys::BuiltinOid::UUIDARRAYOID],
            &[rows.into()],
            |table| {
                table
                    .into_iter()
                    .filter_map(|row| row.get::<Uuid>(1).transpose())
                    .collect()
            },
        )
    })
}

/// Writes settlements; returns how many rows still belonged to their claim.
pub fn settle(settlements: &[Settlement]) -> usize {
    use pg_sys::BuiltinOid as T;
    let types = [
        T::UUIDARRAYOID,
        T::INT8ARRAYOID,
        T::TEXTARRAYOID,
        T::INT4ARRAYOID,
        T::TEXTARRAYOID,
        T::FLOAT8ARRAYOID,
    ];
    let column =
        |f: fn(&Settlement) -> Option<String>| settlements.iter().map(f).collect::<Vec<_>>();
    let args = [
        settlements.iter().map(|s| s.id).collect::<Vec<_>>().into(),
        settlements
            .iter()
            .map(|s| s.claim_id)
            .collect::<Vec<_>>()
            .into(),
        column(|s| Some(s.status.as_str().into())).into(),
        settlements
            .iter()
            .map(|s| i32::from(s.failed))
            .collect::<Vec<_>>()
            .into(),
        column(|s| s.error.clone()).into(),
        settlements
            .iter()
            .map(|s| s.delay.as_secs_f64())
            .collect::<Vec<_>>()
            .into(),
    ];
    as_queue_owner(|| pg::run_kept(SETTLE, &types, &args, |table| Ok(table.len())))
}

/// Whether there is no delivery at all.
pub fn is_empty() -> bool {
    let found = as_queue_owner(|| {
        pg::one::<bool>("SELECT EXISTS (SELECT FROM int.plugin_delivery_queue)", &[])
    });
    found == Some(false)
}

/// Returns every claimed row, and those whose dispatch was requested, to the queue, whoever claimed it.
pub fn return_all() -> usize {
    as_queue_owner(|| pg::write(RETURN_ALL, &[]))
}

/// Settles rows that pg_net has sent with one of these request ids; returns how many.
pub fn settle_pg_net(answered: Vec<i64>) -> usize {
    as_queue_owner(|| pg::write(SETTLE_PG_NET, &[answered.into()]))
}

/// The deliveries of these settlements whose row another transaction has locked. Locks the others until
/// the end of the transaction, so that writing them waits for nobody.
pub fn locked(settlements: &[Settlement]) -> HashSet<Uuid> {
    use pg_sys::BuiltinOid as T;
    let args = [
        settlements.iter().map(|s| s.id).collect::<Vec<_>>().into(),
        settlements
            .iter()
            .map(|s| s.claim_id)
            .collect::<Vec<_>>()
            .into(),
    ];
    as_queue_owner(|| {
        pg::run_kept(
            LOCKED,
            &[T::UUIDARRAYOID, T::INT8ARRAYOID],
            &args,
            |table| {
                let mut locked = HashSet::new();
                for row in table {
                    locked.extend(row.get::<Uuid>(1)?);
                }
                Ok(locked)
            },
        )
    })
}

/// Returns rows whose claim is over, or that a former system left without a lease, to the queue; `all`: every
/// claimed row, for a worker that starts and knows that it is alone. Returns how many.
pub fn recover(all: bool) -> usize {
    let types = [pg_sys::BuiltinOid::BOOLOID];
    as_queue_owner(|| pg::run_kept(RECOVER, &types, &[all.into()], |table| Ok(table.len())))
}

/// Deletes delivered and dead rows that are older than these ages among the next `rows` from the
/// change `start` on. Ends pending ones of that age whose installation is not installed. Touches no other.
pub fn purge(
    start: i64,
    rows: i32,
    delivered: Option<Duration>,
    dead: Option<Duration>,
) -> PurgeStep {
    use pg_sys::BuiltinOid as T;
    let types = [T::INT8OID, T::INT4OID, T::INTERVALOID, T::INTERVALOID];
    let args = [
        start.into(),
        rows.into(),
        delivered.map(interval).into(),
        dead.map(interval).into(),
    ];
    as_queue_owner(|| purge::step(PURGE, &types, &args))
}
