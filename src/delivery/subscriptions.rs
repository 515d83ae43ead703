//! Which subscriptions a change matches. A backend remembers the subscriptions to the tables that it wrote, of the
//! tenants whose changes it saw. Triggers on the tables that they come from tell every backend when they change;
//! where a database does not have these triggers, they are remembered for one statement only.
#![expect(unsafe_code, reason = "a memory context for what is read")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys::BuiltinOid};

use crate::change::{Operation, table_name};
use crate::error;
use crate::limits::Names;
use crate::pg::{self, BoundedTexts, cache};
use crate::tables;
use crate::text_enum::TextEnum;

const SUBSCRIPTIONS_OF: &str = include_str!("sql/subscriptions.sql");

/// The tables that the answer depends on.
const SOURCES: [pg::TableName<'static>; 3] = [
    tables::INSTALLATIONS,
    tables::SUBSCRIPTIONS,
    tables::PLUGINS,
];
const SYMBOL: &CStr = c"forget_subscriptions_wrapper";
/// Remembered at most, unless one tenant's subscriptions to one table take more; then it starts again.
const MOST_BYTES: usize = 8 << 20;
/// About what it takes to know that a tenant has no subscription to a table.
const ENTRY: usize = 128;

type Tenant = [u8; 16];

/// A subscription of an installed plugin.
pub struct Subscription {
    pub installation: [u8; 16],
    pub plugin_key: String,
    pub include_payload: bool,
    operations: Vec<Operation>,
    /// `None`: every update.
    allowlist: Option<Allowlist>,
}

impl Subscription {
    /// Whether it wants this operation; for an update, whether one of the changed columns is wanted.
    pub fn wants(
        &self,
        operation: Operation,
        changed_fields: impl FnOnce() -> Vec<String>,
    ) -> bool {
        self.operations.contains(&operation)
            && (operation != Operation::Update
                || self
                    .allowlist
                    .as_ref()
                    .is_none_or(|wanted| changed_fields().iter().any(|field| wanted.has(field))))
    }

    fn bytes(&self) -> usize {
        let names = self.allowlist.as_ref().map_or(0, |list| list.0.len());
        size_of::<Self>() + self.plugin_key.len() + names * size_of::<u64>()
    }
}

/// The hashes of the names of columns, in order: a tenth of the memory that the names take.
struct Allowlist(Box<[u64]>);

impl Allowlist {
    fn of(names: impl Iterator<Item = String>) -> Self {
        let mut hashes: Vec<u64> = names.map(|name| Self::hash(&name)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes.into())
    }

    fn has(&self, name: &str) -> bool {
        self.0.binary_search(&Self::hash(name)).is_ok()
    }

    fn hash(name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    }
}

/// The subscriptions of one tenant to one table.
type Found = Rc<[Subscription]>;

/// Subscriptions by table and tenant, of which there may be none.
#[derive(Default)]
struct Known {
    tables: HashMap<String, HashMap<Tenant, Found>>,
    bytes: usize,
}

impl Known {
    fn find(&self, table: &str, tenant: Tenant) -> Option<Found> {
        self.tables.get(table)?.get(&tenant).cloned()
    }

    fn add(&mut self, table: &str, tenant: Tenant, found: Found) {
        let bytes = ENTRY + found.iter().map(Subscription::bytes).sum::<usize>();
        if self.bytes + bytes > MOST_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes;
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), HashMap::new());
        }
        if let Some(tenants) = self.tables.get_mut(table) {
            tenants.insert(tenant, found);
        }
    }
}

thread_local! {
    /// What is remembered, and the generation in which it was read.
    static REMEMBERED: RefCell<(u64, Known)> = RefCell::new((0, Known::default()));
}

/// The subscriptions that matter to one statement.
pub struct Matcher {
    known: Known,
    /// Those that were asked for last, and the table.
    last: Option<(Tenant, Found)>,
    last_table: String,
}

impl Matcher {
    pub fn new() -> Self {
        cache::accept_changes();
        Self {
            known: Known::default(),
            last: None,
            last_table: String::new(),
        }
    }

    /// Reads what is not known yet about these tenants and a table, see `table_key`, with one query.
    pub fn prepare(&mut self, table: &str, tenants: impl Iterator<Item = Tenant>) {
        let mut unknown = Vec::new();
        let mut last = None;
        for tenant in tenants {
            if last != Some(tenant)
                && self.find(table, tenant).is_none()
                && !unknown.contains(&tenant)
            {
                unknown.push(tenant);
            }
            last = Some(tenant);
        }
        if !unknown.is_empty() {
            self.load(table, &unknown);
        }
    }

    /// The tenant's subscriptions to the table.
    pub fn of(&mut self, table: &str, tenant: Tenant) -> Found {
        if self.last_table != table {
            table.clone_into(&mut self.last_table);
            self.last = None;
        }
        if let Some((of, known)) = &self.last
            && *of == tenant
        {
            return known.clone();
        }
        let found = self.find(table, tenant).unwrap_or_else(|| {
            self.load(table, &[tenant]);
            self.known.find(table, tenant).unwrap_or_default()
        });
        self.last = Some((tenant, found.clone()));
        found
    }

    fn find(&mut self, table: &str, tenant: Tenant) -> Option<Found> {
        if let Some(known) = self.known.find(table, tenant) {
            return Some(known);
        }
        let generation = cache::generation();
        let known = REMEMBERED.with_borrow(|(of, known)| {
            (*of == generation)
                .then(|| known.find(table, tenant))
                .flatten()
        })?;
        self.known.add(table, tenant, known.clone());
        Some(known)
    }

    /// The first of these tenants at least; more of them as long as it is not too much to remember.
    fn load(&mut self, table: &str, tenants: &[Tenant]) {
        let kept = tells_of_changes();
        let generation = cache::generation();
        let found = read(table, tenants);
        // A change that was announced meanwhile may have come too late for the query.
        if kept && generation == cache::generation() {
            REMEMBERED.with_borrow_mut(|(of, known)| {
                if *of != generation {
                    *known = Known::default();
                }
                *of = generation;
                for (tenant, found) in &found {
                    known.add(table, *tenant, found.clone());
                }
            });
        }
        for (tenant, found) in found {
            self.known.add(table, tenant, found);
        }
    }
}

/// Reads with the newest snapshot, whatever the transaction's isolation: the answer serves later
/// transactions too. Tenants whose subscriptions are too much to remember together are left out, but for the first.
fn read(table: &str, tenants: &[Tenant]) -> Vec<(Tenant, Found)> {
    let mut tenants = tenants.to_vec();
    tenants.sort_unstable();
    let wanted: Vec<Uuid> = tenants.iter().copied().map(Uuid::from_bytes).collect();
    let (schema, name) = table_name(table);
    let mut found: HashMap<Tenant, Vec<Subscription>> = HashMap::new();
    // SAFETY: the current memory context is always a live one.
    let memory = unsafe { pg::new_context(pg_sys::CurrentMemoryContext, c"subscription") };
    let unread = pg::as_owner_of(tables::QUEUE, || {
        pg::with_latest_snapshot(|| {
            pg::run_kept(
                SUBSCRIPTIONS_OF,
                &[
                    BuiltinOid::UUIDARRAYOID,
                    BuiltinOid::TEXTOID,
                    BuiltinOid::TEXTOID,
                ],
                &[wanted.into(), schema.into(), name.into()],
                |rows| {
                    let (mut bytes, mut last) = (0, None);
                    for row in rows {
                        // SAFETY: what is read below is copied out of the context before it is emptied.
                        let inside = unsafe {
                            pg_sys::MemoryContextReset(memory);
                            pg::Inside::of(memory)
                        };
                        let (Some(tenant), Some(installation)) =
                            (row.get::<Uuid>(1)?, row.get::<Uuid>(2)?)
                        else {
                            continue;
                        };
                        let tenant = *tenant.as_bytes();
                        if bytes > MOST_BYTES && last != Some(tenant) {
                            return Ok(Some(tenant));
                        }
                        last = Some(tenant);
                        let subscription = Subscription {
                            installation: *installation.as_bytes(),
                            plugin_key: row.get::<String>(3)?.unwrap_or_default(),
                            operations: known_operations(row.get::<Names>(4)?),
                            allowlist: known_allowlist(row.get::<Names>(5)?),
                            include_payload: row.get::<bool>(6)?.unwrap_or_default(),
                        };
                        drop(inside);
                        bytes += subscription.bytes();
                        found.entry(tenant).or_default().push(subscription);
                    }
                    Ok(None)
                },
            )
        })
    });
    // SAFETY: the context is this function's own, and nothing refers to what is in it.
    unsafe { pg_sys::MemoryContextDelete(memory) };
    // They come in the order of their tenants.
    tenants
        .into_iter()
        .take_while(|tenant| unread.is_none_or(|unread| *tenant < unread))
        .map(|tenant| (tenant, found.remove(&tenant).unwrap_or_default().into()))
        .collect()
}

/// A list that is too long to be read, of a row from before the limits, asks for everything: rather one delivery
/// too many than one too few.
fn known_operations(list: Option<Names>) -> Vec<Operation> {
    match list {
        Some(BoundedTexts(None)) => Operation::ALL.to_vec(),
        Some(BoundedTexts(Some(words))) => {
            let words = words.iter().flatten();
            words.filter_map(|word| Operation::parse(word)).collect()
        }
        None => Vec::new(),
    }
}

/// The same for an allowlist; an empty one asks for every update as well.
fn known_allowlist(list: Option<Names>) -> Option<Allowlist> {
    let names = list?.0.filter(|names| !names.is_empty())?;
    Some(Allowlist::of(names.into_iter().flatten()))
}

/// Whether every source has the trigger that announces its changes, and it always fires.
fn tells_of_changes() -> bool {
    const EVENTS: u32 = pg_sys::TRIGGER_TYPE_INSERT
        | pg_sys::TRIGGER_TYPE_UPDATE
        | pg_sys::TRIGGER_TYPE_DELETE
        | pg_sys::TRIGGER_TYPE_TRUNCATE;
    SOURCES.into_iter().all(|table| {
        let Some(oid) = pg::relation(table) else {
            return false;
        };
        cache::watch(oid);
        let told = pg::with_triggers(oid, |triggers| {
            triggers
                .iter()
                .filter(|trigger| {
                    trigger.tgenabled as u8 == pg_sys::TRIGGER_FIRES_ALWAYS
                        && trigger.tgtype as u32
                            & (pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE)
                            == 0
                        && trigger.tgnattr == 0
                        && trigger.tgqual.is_null()
                        && pg::is_own_function(trigger.tgfoid, SYMBOL)
                })
                .fold(0, |told, trigger| told | trigger.tgtype as u32)
        });
        told & EVENTS == EVENTS
    })
}

/// Announces, when the transaction commits, that subscriptions may have changed; to this session at
/// once.
#[pg_trigger(sql = false)]
fn forget_subscriptions<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    cache::announce_change(trigger);
    Ok(None)
}
