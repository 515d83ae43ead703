//! Which subscriptions a change matches. A backend remembers the subscriptions of the tenants whose
//! changes it saw. Triggers on the tables that they come from tell every backend when they change;
//! where a database does not have these triggers, they are remembered for one statement only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys::BuiltinOid};

use crate::change::{Operation, table_key};
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
/// Tenants remembered at most; then it starts again.
const MOST_TENANTS: usize = 10_000;

/// A subscription of an installed plugin.
pub struct Subscription {
    pub installation: [u8; 16],
    pub plugin_key: String,
    pub include_payload: bool,
    operations: Vec<Operation>,
    /// `None`: every update.
    allowlist: Option<Vec<String>>,
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
                || self.allowlist.as_ref().is_none_or(|wanted| {
                    changed_fields().iter().any(|field| wanted.contains(field))
                }))
    }
}

/// The subscriptions of one tenant, by table.
#[derive(Default)]
pub struct OfTenant(HashMap<String, Vec<Subscription>>);

impl OfTenant {
    pub fn to_table(&self, key: &str) -> &[Subscription] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

type Tenants = HashMap<[u8; 16], Rc<OfTenant>>;

thread_local! {
    /// What is remembered, and the generation in which it was read.
    static REMEMBERED: RefCell<(u64, Tenants)> = RefCell::new((0, HashMap::new()));
}

/// The subscriptions that matter to one statement.
pub struct Matcher {
    tenants: Tenants,
    last: Option<([u8; 16], Rc<OfTenant>)>,
}

impl Matcher {
    pub fn new() -> Self {
        cache::accept_changes();
        Self {
            tenants: HashMap::new(),
            last: None,
        }
    }

    /// Reads what is not known yet about these tenants, with one query.
    pub fn prepare(&mut self, tenants: impl Iterator<Item = [u8; 16]>) {
        let mut unknown = Vec::new();
        let mut last = None;
        for tenant in tenants {
            if last != Some(tenant) && self.find(tenant).is_none() && !unknown.contains(&tenant) {
                unknown.push(tenant);
            }
            last = Some(tenant);
        }
        if !unknown.is_empty() {
            self.load(&unknown);
        }
    }

    pub fn of(&mut self, tenant: [u8; 16]) -> Rc<OfTenant> {
        if let Some((of, known)) = &self.last
            && *of == tenant
        {
            return known.clone();
        }
        let found = self.find(tenant).unwrap_or_else(|| {
            self.load(&[tenant]);
            self.tenants.get(&tenant).cloned().unwrap_or_default()
        });
        self.last = Some((tenant, found.clone()));
        found
    }

    fn find(&mut self, tenant: [u8; 16]) -> Option<Rc<OfTenant>> {
        if let Some(known) = self.tenants.get(&tenant) {
            return Some(known.clone());
        }
        let generation = cache::generation();
        let known = REMEMBERED.with_borrow(|(of, tenants)| {
            (*of == generation)
                .then(|| tenants.get(&tenant).cloned())
                .flatten()
        })?;
        self.tenants.insert(tenant, known.clone());
        Some(known)
    }

    fn load(&mut self, tenants: &[[u8; 16]]) {
        let kept = tells_of_changes();
        let generation = cache::generation();
        let mut loaded = read(tenants);
        let mut found = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            found.push((*tenant, Rc::new(loaded.remove(tenant).unwrap_or_default())));
        }
        self.tenants.extend(found.iter().cloned());
        // A change that was announced meanwhile may have come too late for the query.
        if kept && generation == cache::generation() {
            REMEMBERED.with_borrow_mut(|(of, tenants)| {
                if *of != generation || tenants.len() + found.len() > MOST_TENANTS {
                    tenants.clear();
                }
                *of = generation;
                tenants.extend(found);
            });
        }
    }
}

/// Reads with the newest snapshot, whatever the transaction's isolation: the answer serves later
/// transactions too.
fn read(tenants: &[[u8; 16]]) -> HashMap<[u8; 16], OfTenant> {
    let wanted: Vec<Uuid> = tenants
        .iter()
        .map(|tenant| Uuid::from_bytes(*tenant))
        .collect();
    pg::as_owner_of(tables::QUEUE, || {
        pg::with_latest_snapshot(|| {
            pg::run_kept(
                SUBSCRIPTIONS_OF,
                &[BuiltinOid::UUIDARRAYOID],
                &[wanted.into()],
                |table| {
                    let mut result: HashMap<[u8; 16], OfTenant> = HashMap::new();
                    for row in table {
                        let (Some(tenant), Some(installation)) =
                            (row.get::<Uuid>(1)?, row.get::<Uuid>(2)?)
                        else {
                            continue;
                        };
                        let text =
                            |column| row.get::<String>(column).map(Option::unwrap_or_default);
                        let operations = row.get::<Names>(6)?;
                        let allowlist = row.get::<Names>(7)?;
                        result
                            .entry(*tenant.as_bytes())
                            .or_default()
                            .0
                            .entry(table_key(&text(4)?, &text(5)?))
                            .or_default()
                            .push(Subscription {
                                installation: *installation.as_bytes(),
                                plugin_key: text(3)?,
                                operations: known_operations(operations),
                                allowlist: known_allowlist(allowlist),
                                include_payload: row.get::<bool>(8)?.unwrap_or_default(),
                            });
                    }
                    Ok(result)
                },
            )
        })
    })
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
fn known_allowlist(list: Option<Names>) -> Option<Vec<String>> {
    let names = list?.0.filter(|names| !names.is_empty())?;
    Some(names.into_iter().flatten().collect())
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
