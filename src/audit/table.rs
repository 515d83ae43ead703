//! What capture has to know about a tracked table, learnt once and kept until it changes. Reads no row.
#![expect(unsafe_code, reason = "relcache entries by pointer")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::column::Column;
use crate::change::{Operation, table_key};
use crate::error::{self, Error};
use crate::pg::{self, cache};
use crate::tables;

/// The trigger function's symbol in this library.
pub const SYMBOL: &CStr = c"log_entity_change_wrapper";

/// Triggers that call the audit function for each row.
struct RowTrigger {
    events: i16,
    enabled: u8,
}

/// A tracked table.
pub struct Table {
    context: pg_sys::MemoryContext,
    pub schema: String,
    pub name: String,
    /// What subscriptions are found by.
    pub key: String,
    pub schema_text: pg_sys::Datum,
    pub name_text: pg_sys::Datum,
    pub columns: Vec<Column>,
    /// Positions in `columns` in the order in which jsonb keeps keys.
    pub key_order: Vec<usize>,
    /// The columns that give record_id and tenant_id.
    pub id: Column,
    pub tenant: Option<Column>,
    /// The table of installations: their configuration is masked.
    pub is_installations: bool,
    row_triggers: Vec<RowTrigger>,
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: the context is this table's own; whoever uses the table holds it alive.
        unsafe { pg_sys::MemoryContextDelete(self.context) }
    }
}

struct Known {
    generation: u64,
    tables: HashMap<pg_sys::Oid, Rc<Table>>,
}

thread_local! {
    /// Never dropped: while the process exits, memory contexts are already gone.
    static KNOWN: RefCell<ManuallyDrop<Option<Known>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

impl Table {
    /// The table behind an open relation.
    pub fn of(relation: pg_sys::Relation) -> error::Result<Rc<Table>> {
        let generation = cache::generation();
        // SAFETY: the caller's relation is open.
        let oid = unsafe { (*relation).rd_id };
        let known = KNOWN.with_borrow(|known| {
            known
                .as_ref()
                .filter(|known| known.generation == generation)
                .and_then(|known| known.tables.get(&oid).cloned())
        });
        if let Some(table) = known {
            return Ok(table);
        }
        cache::watch(oid);
        let table = Rc::new(Table::learn(relation)?);
        KNOWN.with_borrow_mut(|known| {
            if known
                .as_ref()
                .is_none_or(|known| known.generation != generation)
            {
                **known = Some(Known {
                    generation,
                    tables: HashMap::new(),
                });
            }
            if let Some(known) = known.as_mut() {
                known.tables.insert(oid, table.clone());
            }
        });
        Ok(table)
    }

    fn learn(relation: pg_sys::Relation) -> error::Result<Table> {
        // SAFETY: reads the relcache entry of an open relation; what is kept is copied into a
        // context of its own.
        unsafe {
            let class = &*(*relation).rd_rel;
            let mut table = Table {
                context: pg::new_context(pg_sys::CacheMemoryContext, c"audited table"),
                schema: pg::namespace_name(class.relnamespace),
                name: pg::name(&class.relname),
                key: String::new(),
                schema_text: pg_sys::Datum::null(),
                name_text: pg_sys::Datum::null(),
                columns: Vec::new(),
                key_order: Vec::new(),
                id: Column::none(),
                tenant: None,
                is_installations: pg::relation(tables::INSTALLATIONS) == Some((*relation).rd_id),
                row_triggers: Vec::new(),
            };
            let inside = pg::Inside::of(table.context);
            table.fill(relation)?;
            drop(inside);
            Ok(table)
        }
    }

    /// # Safety
    /// `relation` is open; the current memory context is the table's own.
    unsafe fn fill(&mut self, relation: pg_sys::Relation) -> error::Result<()> {
        let full_name = format!("{}.{}", self.schema, self.name);
        self.key = table_key(&self.schema, &self.name);
        self.schema_text = pg::text_datum(&self.schema);
        self.name_text = pg::text_datum(&self.name);
        // SAFETY: the relation stays open while its triggers and its row type are read.
        let (descriptor, excluded) = unsafe {
            self.row_triggers = row_triggers(relation);
            ((*relation).rd_att, excluded_columns(relation))
        };
        let is_tenants = self.schema == "app" && self.name == "tenants";
        let tenant_column = if is_tenants { "id" } else { "tenant_id" };
        let mut id = None;
        let mut missing = excluded.clone();
        // SAFETY: the descriptor of an open relation has natts attributes.
        let attributes = unsafe { pg::version::attributes(descriptor) };
        for (index, attribute) in attributes.iter().enumerate() {
            if attribute.attisdropped {
                continue;
            }
            let name = pg::name(&attribute.attname);
            if name == "id" {
                id = Some(Column::printed(index, attribute, &name));
            }
            if name == tenant_column {
                self.tenant = Some(Column::printed(index, attribute, &name));
            }
            missing.retain(|excluded| *excluded != name);
            if !excluded.contains(&name) {
                self.columns
                    .push(Column::recorded(index, attribute, &full_name, &name)?);
            }
        }
        if let Some(column) = missing.pop() {
            return Err(Error::NoExcludedColumn {
                table: full_name,
                column,
            }
            .into());
        }
        self.id = id.ok_or(Error::NoIdColumn(full_name))?;
        self.key_order = (0..self.columns.len()).collect();
        let columns = &self.columns;
        self.key_order
            .sort_by(|a, b| columns[*a].key().cmp(&columns[*b].key()));
        Ok(())
    }

    /// Whether a row-level trigger already records what a statement-level one is fired for.
    pub fn is_recorded_by_row(&self, operation: Operation) -> bool {
        let event = operation.trigger_event();
        self.row_triggers.iter().any(|trigger| {
            trigger.events & event as i16 != 0 && pg::trigger_is_enabled(trigger.enabled)
        })
    }
}

/// # Safety
/// `relation` is open.
unsafe fn row_triggers(relation: pg_sys::Relation) -> Vec<RowTrigger> {
    const ROW_AFTER: i16 = pg_sys::TRIGGER_TYPE_ROW as i16;
    const NOT_AFTER: i16 = (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) as i16;
    // SAFETY: the relation stays open while they are read.
    let triggers = unsafe { pg::triggers(relation) };
    triggers
        .iter()
        .filter(|trigger| {
            trigger.tgtype & (ROW_AFTER | NOT_AFTER) == ROW_AFTER
                && trigger.tgnattr == 0
                && trigger.tgqual.is_null()
                && pg::is_own_function(trigger.tgfoid, SYMBOL)
        })
        .map(|trigger| RowTrigger {
            events: trigger.tgtype,
            enabled: trigger.tgenabled as u8,
        })
        .collect()
}

/// The arguments of every trigger that calls the audit function.
///
/// # Safety
/// `relation` is open.
unsafe fn excluded_columns(relation: pg_sys::Relation) -> Vec<String> {
    // SAFETY: the relation stays open while they are read; a trigger has tgnargs arguments.
    unsafe {
        pg::triggers(relation)
            .iter()
            .filter(|trigger| trigger.tgnargs > 0 && pg::is_own_function(trigger.tgfoid, SYMBOL))
            .flat_map(|trigger| {
                (0..trigger.tgnargs as usize).map(|n| {
                    CStr::from_ptr(*trigger.tgargs.add(n))
                        .to_string_lossy()
                        .into_owned()
                })
            })
            .collect()
    }
}
