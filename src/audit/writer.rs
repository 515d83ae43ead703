//! Writes the rows of `audit.entity_changes` and enqueues their deliveries, a batch at a time.
//! Has them made by `to_jsonb`, with the rights of whoever writes to the audited table; appends them with those
//! of the owner of the audit log.
#![expect(unsafe_code, reason = "passes datums on by pointer")]

use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::pg_sys::BuiltinOid as T;
use pgrx::prelude::*;

use super::mask;
use super::origin::Origin;
use super::table::Table;
use super::to_jsonb::{self, Versions};
use crate::change::{AuditedChange, Change, LogRow, Operation};
use crate::delivery::enqueue::Enqueuer;
use crate::delivery::foreign_rows;
use crate::pg;
use crate::pg::append::{Appender, Layout, TriggerAction, Written};
use crate::tables;
use crate::text_enum::TextEnum;

static ENTITY_CHANGES: Layout = Layout {
    table: tables::ENTITY_CHANGES,
    id: pg_sys::INT8OID,
    columns: &[
        ("table_schema", pg_sys::TEXTOID),
        ("table_name", pg_sys::TEXTOID),
        ("record_id", pg_sys::TEXTOID),
        ("operation", pg_sys::TEXTOID),
        ("old_data", pg_sys::JSONBOID),
        ("new_data", pg_sys::JSONBOID),
        ("changed_fields", pg_sys::TEXTARRAYOID),
        ("user_id", pg_sys::UUIDOID),
        ("tenant_id", pg_sys::UUIDOID),
        ("ip_address", pg_sys::INETOID),
        ("user_agent", pg_sys::TEXTOID),
    ],
    checked_references: &[],
};

/// For an audit log that rows cannot be appended to.
const INSERT_CHANGE: &str = include_str!("sql/insert_change.sql");

const INSERT_TYPES: [T; 11] = [
    T::TEXTOID,
    T::TEXTOID,
    T::TEXTOID,
    T::TEXTOID,
    T::JSONBOID,
    T::JSONBOID,
    T::TEXTARRAYOID,
    T::UUIDOID,
    T::UUIDOID,
    T::INETOID,
    T::TEXTOID,
];

/// Writes the changes of one statement, or of one row, to the audit log.
pub struct Writer {
    table: Rc<Table>,
    operation: Operation,
    operation_text: pg_sys::Datum,
    origin: Rc<Origin>,
    /// Scratch memory of one row.
    row: pg_sys::MemoryContext,
    appender: Option<Appender>,
    /// What waits in the appender.
    waiting: Vec<Change>,
    /// Where the enqueue trigger of the audit log is replaced.
    enqueuer: Option<Enqueuer>,
}

impl Writer {
    pub fn open(table: Rc<Table>, operation: Operation) -> Writer {
        let mut enqueues = false;
        let appender = {
            let found = std::cell::Cell::new(false);
            let appender = Appender::open(&ENTITY_CHANGES, |trigger| {
                if foreign_rows::is_enqueue_trigger(trigger) {
                    found.set(found.get() || pg::trigger_is_enabled(trigger.tgenabled as u8));
                    return TriggerAction::Skip;
                }
                TriggerAction::Fire
            });
            enqueues |= appender.is_some() && found.get();
            appender
        };
        Writer {
            table,
            operation,
            operation_text: pg::text_datum(operation.as_str()),
            origin: Origin::current(),
            // SAFETY: the current context lives as long as the trigger's call.
            row: unsafe { pg::new_context(pg_sys::CurrentMemoryContext, c"audited row") },
            appender,
            waiting: Vec::new(),
            enqueuer: enqueues.then(Enqueuer::new),
        }
    }

    /// # Safety
    /// The versions are rows of the table and live until this returns.
    pub unsafe fn add(&mut self, versions: Versions) {
        // SAFETY: the change is made in the memory of the row, which is emptied only after what waits was copied to
        // the appender's, or was inserted.
        unsafe {
            let inside = pg::Inside::of(self.row);
            let mut change = to_jsonb::change(&self.table, versions);
            if self.table.is_installations {
                change = mask::masked(change);
            }
            drop(inside);
            match &mut self.appender {
                Some(appender) => {
                    let inside = pg::Inside::of(appender.memory());
                    let change = change.copied();
                    drop(inside);
                    appender.add(values(
                        &self.table,
                        self.operation_text,
                        &self.origin,
                        &change,
                    ));
                    self.waiting.push(change);
                    if appender.is_full() {
                        self.flush();
                    }
                }
                None => self.insert(&change),
            }
            pg_sys::MemoryContextReset(self.row);
        }
    }

    fn flush(&mut self) {
        let Some(appender) = &mut self.appender else {
            return;
        };
        let (table, operation, waiting) = (&self.table, self.operation, &self.waiting);
        match &mut self.enqueuer {
            None => appender.flush(|_, _| {}),
            Some(enqueuer) if appender.may_change_rows() => {
                // SAFETY: the memory of the row is emptied after this, when nothing refers to what is in it.
                let _inside = unsafe { pg::Inside::of(self.row) };
                // SAFETY: a written row's values are of the layout's columns and live until the next one is added.
                appender.flush(|_, row| unsafe {
                    as_written(&row).show_change(|change| enqueuer.enqueue(change));
                });
            }
            Some(enqueuer) => {
                let tenants = waiting.iter().filter_map(|change| change.tenant);
                enqueuer.prepare(&table.key, tenants);
                appender.flush(|n, row| {
                    enqueuer.enqueue(&AuditedChange {
                        id: row.id().value() as i64,
                        table: &table.key,
                        schema: &table.schema,
                        name: &table.name,
                        operation,
                        change: &waiting[n],
                    });
                });
            }
        }
        self.waiting.clear();
    }

    /// Writes what waits.
    pub fn close(mut self) {
        self.flush();
        if let Some(appender) = self.appender {
            appender.close();
        }
        if let Some(enqueuer) = self.enqueuer {
            enqueuer.close();
        }
        // SAFETY: nothing refers to the row any more.
        unsafe { pg_sys::MemoryContextDelete(self.row) }
    }

    fn insert(&self, change: &Change) {
        let arguments: Vec<_> = values(&self.table, self.operation_text, &self.origin, change)
            .into_iter()
            .zip(INSERT_TYPES)
            .map(|(value, type_oid)| {
                // SAFETY: each value is of its column's type.
                unsafe {
                    pgrx::datum::DatumWithOid::new(
                        value.map(pg::RawDatum),
                        PgOid::from(type_oid).value(),
                    )
                }
            })
            .collect();
        pg::as_owner_of(tables::ENTITY_CHANGES, || {
            pg::run_kept(INSERT_CHANGE, &INSERT_TYPES, &arguments, |_| Ok(()));
        });
    }
}

/// A row of the layout as triggers of the audit log let it be written.
fn as_written(row: &Written<'_>) -> LogRow {
    LogRow {
        id: row.id().value() as i64,
        table_schema: row.value(0),
        table_name: row.value(1),
        record_id: row.value(2),
        operation: row.value(3),
        old_data: row.value(4),
        new_data: row.value(5),
        changed_fields: row.value(6),
        tenant: row.value(8),
    }
}

/// The columns of the layout.
fn values(
    table: &Table,
    operation: pg_sys::Datum,
    origin: &Origin,
    change: &Change,
) -> [Option<pg_sys::Datum>; 11] {
    [
        Some(table.schema_text),
        Some(table.name_text),
        Some(change.record_id),
        Some(operation),
        change.old_data,
        change.new_data,
        change.changed_fields,
        origin.user(),
        change.tenant_datum,
        origin.ip_address(),
        origin.user_agent(),
    ]
}
