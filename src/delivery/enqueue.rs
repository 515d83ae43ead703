//! Matches new audit rows to subscriptions and inserts their deliveries, in the writer's
//! transaction, with the rights of the queue's owner. Wakes the worker when that commits.
//!
//! Changes that the extension writes itself come to an `Enqueuer` before they have left memory. Rows
//! that somebody else inserts into the log come to the trigger function, and an SQL statement.
#![expect(unsafe_code, reason = "copies values by pointer")]

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::OnceLock;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use super::payload;
use super::subscriptions::{Matcher, Subscription};
use crate::change::AuditedChange;
use crate::error::{self, Error};
use crate::pg::append::{Appender, Layout, TriggerAction};
use crate::settings::{self, Dispatch};
use crate::tables;
use crate::text_enum::TextEnum;
use crate::wake::wake_at_commit;
use crate::{instance, pg, references};

const SYMBOL: &CStr = c"enqueue_plugin_events_from_audit_wrapper";
const INSTALLATION: &str = "plugin_installation_id";
const CHANGE: &str = "source_entity_change_id";

static QUEUE: Layout = Layout {
    table: tables::QUEUE,
    columns: &[
        ("tenant_id", pg_sys::UUIDOID),
        (INSTALLATION, pg_sys::UUIDOID),
        (CHANGE, pg_sys::INT8OID),
        ("event_type", pg_sys::TEXTOID),
        ("payload", pg_sys::JSONBOID),
    ],
    // The change was written a moment ago by this transaction, and the installation is locked.
    checked_references: &[
        (INSTALLATION, tables::INSTALLATIONS),
        (CHANGE, tables::ENTITY_CHANGES),
    ],
};

/// Whether a trigger of the log does what an `Enqueuer` does.
pub fn is_enqueue_trigger(trigger: &pg_sys::Trigger) -> bool {
    !trigger.tgisinternal && trigger.tgqual.is_null() && pg::is_own_function(trigger.tgfoid, SYMBOL)
}

/// Enqueues the deliveries of one statement's changes.
pub struct Enqueuer {
    matcher: Matcher,
    queue: Option<Appender>,
    /// Installations that were locked, and whether they are still there.
    locked: HashMap<[u8; 16], bool>,
    event_types: Vec<(String, pg::Varlena)>,
    enqueued: usize,
}

impl Enqueuer {
    pub fn new() -> Self {
        Self {
            matcher: Matcher::new(),
            queue: None,
            locked: HashMap::new(),
            event_types: Vec::new(),
            enqueued: 0,
        }
    }

    /// Tells which tenants' changes come.
    pub fn prepare(&mut self, tenants: impl Iterator<Item = [u8; 16]>) {
        self.matcher.prepare(tenants);
    }

    pub fn enqueue(&mut self, change: &AuditedChange<'_>) {
        let Some(tenant) = change.change.tenant else {
            return;
        };
        let subscriptions = self.matcher.of(tenant);
        for subscription in subscriptions.to_table(change.table) {
            // SAFETY: changed_fields is a text[] that lives as long as the change.
            let changed = || unsafe { pg::texts(change.change.changed_fields) };
            if subscription.wants(change.operation, changed)
                && self.is_there(subscription.installation)
            {
                self.add(change, &tenant, subscription);
            }
        }
    }

    /// Locks an installation against its deletion until the transaction ends, as the foreign key's
    /// own check does for each row.
    fn is_there(&mut self, installation: [u8; 16]) -> bool {
        if let Some(known) = self.locked.get(&installation) {
            return *known;
        }
        let there = pg::lock_key_share(tables::INSTALLATIONS, installation);
        self.locked.insert(installation, there);
        there
    }

    fn add(&mut self, change: &AuditedChange<'_>, tenant: &[u8; 16], to: &Subscription) {
        self.enqueued += 1;
        if self.queue.is_none() {
            // The tenant is that of the installation.
            self.queue = Appender::open(&QUEUE, |trigger| {
                if pg::is_own_function(trigger.tgfoid, references::CHECK_SYMBOL) {
                    return TriggerAction::Skip;
                }
                TriggerAction::Fire
            });
        }
        let event_type = self.event_type(change);
        let Some(queue) = &mut self.queue else {
            enqueue_by_statement(change.id);
            return;
        };
        // SAFETY: what is added lives in the queue's memory until it is written.
        unsafe {
            let inside = pg::Inside::of(queue.memory());
            let copy = |bytes: &[u8; 16]| pg::copied_bytes(pg_sys::Datum::from(bytes.as_ptr()), 16);
            let values = [
                Some(copy(tenant)),
                Some(copy(&to.installation)),
                Some(pg_sys::Datum::from(change.id)),
                Some(pg::copied_varlena(event_type)),
                Some(payload::build(change, tenant, to)),
            ];
            drop(inside);
            queue.add(values);
        }
        if queue.is_full() {
            queue.flush(|_, _| {});
        }
    }

    fn event_type(&mut self, change: &AuditedChange<'_>) -> pg_sys::Datum {
        let known = |(of, _): &(String, pg::Varlena)| {
            of.strip_prefix(change.name)
                .and_then(|rest| rest.strip_prefix('.'))
                == Some(change.operation.as_str())
        };
        let position = self.event_types.iter().position(known).unwrap_or_else(|| {
            let name = format!("{}.{}", change.name, change.operation.as_str());
            let event_type = pg::lower(&format!("entity_change.{name}"));
            self.event_types
                .push((name, pg::Varlena::text(&event_type)));
            self.event_types.len() - 1
        });
        self.event_types[position].1.datum()
    }

    /// Writes what waits.
    pub fn close(self) {
        if let Some(mut queue) = self.queue {
            queue.flush(|_, _| {});
            queue.close();
        }
        wake_after(self.enqueued);
    }
}

fn wake_after(enqueued: usize) {
    if enqueued > 0 && settings::dispatch() == Dispatch::OnCommit {
        wake_at_commit();
    }
}

/// The statement that enqueues what it finds in `changes`.
fn statement(changes: &str, is_active: &str) -> String {
    include_str!("sql/enqueue.sql")
        .replace("{changes}", changes)
        .replace("{is_active}", is_active)
}

/// For a queue that only a statement can insert into, and for a trigger that is fired row by row.
fn enqueue_by_statement(change: i64) -> usize {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    let sql = STATEMENT.get_or_init(|| {
        statement(
            "(SELECT e.* FROM audit.entity_changes AS e WHERE e.id = $1)",
            "$2",
        )
    });
    let is_active = instance::was_active();
    pg::as_owner_of(tables::QUEUE, || {
        pg::run_kept(
            sql,
            &[pg_sys::BuiltinOid::INT8OID, pg_sys::BuiltinOid::BOOLOID],
            &[change.into(), is_active.into()],
            |table| Ok(table.len()),
        )
    })
}

/// Enqueues what stands in the trigger's transition table.
fn enqueue_inserted(trigger: &pgrx::PgTrigger<'_>) -> usize {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    let sql = STATEMENT.get_or_init(|| statement("inserted", "$1"));
    let is_active = instance::was_active();
    pg::as_owner_of(tables::QUEUE, || {
        Spi::connect(|client| {
            pg::show_transition_tables(client, trigger)?;
            let plan = pg::kept(client, sql, &[pg_sys::BuiltinOid::BOOLOID]);
            client
                .select(plan, None, &[is_active.into()])
                .map(|table| table.len())
        })
    })
    .unwrap_or_report()
}

/// Fired by inserts that do not come from `audit::log`, and in databases that fire it row by row.
// An error that a trigger function returns would lose its SQLSTATE: it is raised instead.
#[pg_trigger(sql = false)]
fn enqueue_plugin_events_from_audit<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    wake_after(enqueue_fired(trigger).unwrap_or_report());
    Ok(None)
}

fn enqueue_fired(trigger: &pgrx::PgTrigger<'_>) -> error::Result<usize> {
    let event = trigger.event();
    let has_inserted = trigger
        .new_transition_table_name()
        .is_ok_and(|name| name == Some("inserted"));
    if event.fired_after() && event.fired_by_insert() && event.fired_for_row() {
        let id = trigger
            .new()
            .and_then(|row| row.get_by_name::<i64>("id").ok().flatten());
        return Ok(id.map_or(0, enqueue_by_statement));
    }
    if event.fired_after() && event.fired_by_insert() && has_inserted {
        return Ok(enqueue_inserted(trigger));
    }
    Err(Error::TriggerProtocol {
        function: "int.enqueue_plugin_events_from_audit()",
        wanted: "AFTER INSERT, FOR EACH ROW, or FOR EACH STATEMENT with REFERENCING NEW TABLE AS inserted",
    }
    .into())
}
