//! Matches changes to subscriptions and writes their deliveries, in the writer's transaction, with the rights
//! of the queue's owner. Wakes the worker when that commits. Reads no row of the audit log.
#![expect(unsafe_code, reason = "copies values by pointer")]

use std::collections::HashMap;

use pgrx::pg_sys;

use super::insert::Inserter;
use super::payload;
use super::subscriptions::{Matcher, Subscription};
use crate::change::AuditedChange;
use crate::pg::append::{Appender, Layout, TriggerAction};
use crate::settings::{self, Dispatch};
use crate::tables;
use crate::text_enum::TextEnum;
use crate::wake::wake_at_commit;
use crate::{pg, references};

const INSTALLATION: &str = "plugin_installation_id";
const CHANGE: &str = "source_entity_change_id";

static QUEUE: Layout = Layout {
    table: tables::QUEUE,
    id: pg_sys::UUIDOID,
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

/// How deliveries come into the queue.
enum Queue {
    Append(Box<Appender>),
    /// By a statement, which passes over what is there already.
    Insert(Inserter),
}

impl Queue {
    fn open(may_be_enqueued: bool) -> Self {
        if may_be_enqueued {
            return Self::Insert(Inserter::new());
        }
        let appender = Appender::open(&QUEUE, |trigger| {
            // The tenant is that of the installation.
            if pg::is_own_function(trigger.tgfoid, references::CHECK_SYMBOL) {
                return TriggerAction::Skip;
            }
            TriggerAction::Fire
        });
        appender.map_or_else(
            || Self::Insert(Inserter::new()),
            |appender| Self::Append(Box::new(appender)),
        )
    }

    fn memory(&self) -> pg_sys::MemoryContext {
        match self {
            Self::Append(queue) => queue.memory(),
            Self::Insert(queue) => queue.memory(),
        }
    }

    /// # Safety
    /// The values are of the types of the layout's columns and live in `memory`.
    unsafe fn add(&mut self, values: [pg_sys::Datum; 5]) {
        match self {
            Self::Append(queue) => {
                queue.add(values.map(Some));
                if queue.is_full() {
                    queue.flush(|_, _| {});
                }
            }
            Self::Insert(queue) => {
                // SAFETY: both ways take the same columns in the same order.
                unsafe { queue.add(values) };
                if queue.is_full() {
                    queue.flush();
                }
            }
        }
    }

    fn close(self) {
        match self {
            Self::Append(mut queue) => {
                queue.flush(|_, _| {});
                queue.close();
            }
            Self::Insert(queue) => queue.close(),
        }
    }
}

/// Enqueues the deliveries of one statement's changes.
pub struct Enqueuer {
    matcher: Matcher,
    queue: Option<Queue>,
    /// Where the queue is opened: the context in which the value was made.
    memory: pg_sys::MemoryContext,
    /// Whether the changes may have been enqueued before.
    may_be_enqueued: bool,
    /// Installations that were locked, and whether they are still there.
    locked: HashMap<[u8; 16], bool>,
    event_types: Vec<(String, pg::Varlena)>,
}

impl Enqueuer {
    /// For changes of which nobody else can know. Lives as long as the current memory context.
    pub fn new() -> Self {
        Self {
            matcher: Matcher::new(),
            queue: None,
            // SAFETY: a copy of a pointer that only this process writes.
            memory: unsafe { pg_sys::CurrentMemoryContext },
            may_be_enqueued: false,
            locked: HashMap::new(),
            event_types: Vec::new(),
        }
    }

    /// For rows of the audit log that somebody else wrote.
    pub fn of_foreign_rows() -> Self {
        Self {
            may_be_enqueued: true,
            ..Self::new()
        }
    }

    /// Tells which tenants' changes of a table come, see `table_key`.
    pub fn prepare(&mut self, table: &str, tenants: impl Iterator<Item = [u8; 16]>) {
        self.matcher.prepare(table, tenants);
    }

    pub fn enqueue(&mut self, change: &AuditedChange<'_>) {
        let Some(tenant) = change.change.tenant else {
            return;
        };
        let subscriptions = self.matcher.of(change.table, tenant);
        for subscription in subscriptions.iter() {
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
        let event_type = self.event_type(change);
        let (memory, may_be_enqueued) = (self.memory, self.may_be_enqueued);
        let queue = self.queue.get_or_insert_with(|| {
            // SAFETY: the context outlives this value.
            let _inside = unsafe { pg::Inside::of(memory) };
            Queue::open(may_be_enqueued)
        });
        // SAFETY: every value is made in, or copied to, the memory in which the queue wants it; both uuids
        // are references to 16 bytes, and the change is the caller's.
        unsafe {
            let inside = pg::Inside::of(queue.memory());
            let copy = |bytes: &[u8; 16]| pg::copied_bytes(pg_sys::Datum::from(bytes.as_ptr()), 16);
            let values = [
                copy(tenant),
                copy(&to.installation),
                pg_sys::Datum::from(change.id),
                pg::copied_varlena(event_type),
                payload::build(change, tenant, to),
            ];
            drop(inside);
            queue.add(values);
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
        if let Some(queue) = self.queue {
            queue.close();
            if settings::dispatch() == Dispatch::OnCommit {
                wake_at_commit();
            }
        }
    }
}
