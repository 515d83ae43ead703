//! Rows of the audit log that somebody else inserted: their trigger reads them, as the owner of the log, and
//! feeds them to an `Enqueuer`, as `audit` does with what it writes. Matches nothing itself.
#![expect(unsafe_code, reason = "reads rows of SPI by pointer")]

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::OnceLock;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::enqueue::Enqueuer;
use crate::change::LogRow;
use crate::error::{self, Error};
use crate::{instance, pg, tables};

const SYMBOL: &CStr = c"enqueue_plugin_events_from_audit_wrapper";
const ROWS: &str = include_str!("sql/foreign_rows.sql");
/// Rows read at a time.
const BATCH: std::ffi::c_long = 100;

/// Whether a trigger of the audit log does what an `Enqueuer` does.
pub fn is_enqueue_trigger(trigger: &pg_sys::Trigger) -> bool {
    !trigger.tgisinternal && trigger.tgqual.is_null() && pg::is_own_function(trigger.tgfoid, SYMBOL)
}

/// Fired by inserts that do not come from audit, and in databases that fire it row by row.
// An error that a trigger function returns would lose its SQLSTATE: it is raised instead.
#[pg_trigger(sql = false)]
fn enqueue_plugin_events_from_audit<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    enqueue(trigger).unwrap_or_report();
    Ok(None)
}

fn enqueue(trigger: &pgrx::PgTrigger<'_>) -> error::Result<()> {
    let event = trigger.event();
    let has_inserted = trigger
        .new_transition_table_name()
        .is_ok_and(|name| name == Some("inserted"));
    if event.fired_after() && event.fired_by_insert() && event.fired_for_row() {
        let id = trigger
            .new()
            .and_then(|row| row.get_by_name::<i64>("id").ok().flatten());
        if let Some(id) = id {
            enqueue_one(id);
        }
        return Ok(());
    }
    if event.fired_after() && event.fired_by_insert() && has_inserted {
        enqueue_inserted(trigger);
        return Ok(());
    }
    Err(Error::TriggerProtocol {
        function: "int.enqueue_plugin_events_from_audit()",
        wanted: "AFTER INSERT, FOR EACH ROW, or FOR EACH STATEMENT with REFERENCING NEW TABLE AS inserted",
    }
    .into())
}

/// Enqueues one row of the audit log.
fn enqueue_one(id: i64) {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    let sql = STATEMENT.get_or_init(|| {
        ROWS.replace(
            "{changes} AS",
            "(SELECT e.* FROM audit.entity_changes AS e WHERE e.id = $2) AS",
        )
    });
    let is_active = instance::was_active();
    pg::as_owner_of(tables::ENTITY_CHANGES, || {
        pg::run_kept(
            sql,
            &[pg_sys::BuiltinOid::BOOLOID, pg_sys::BuiltinOid::INT8OID],
            &[is_active.into(), id.into()],
            |_| {
                let mut enqueuer = Enqueuer::of_foreign_rows();
                // SAFETY: the statement that has just run returns the columns of ROWS.
                unsafe { take_rows(&mut enqueuer) };
                enqueuer.close();
                Ok(())
            },
        );
    });
}

/// Enqueues what stands in the trigger's transition table.
fn enqueue_inserted(trigger: &pgrx::PgTrigger<'_>) {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    let sql = STATEMENT.get_or_init(|| ROWS.replace("{changes} AS", "inserted AS"));
    let is_active = instance::was_active();
    pg::as_owner_of(tables::ENTITY_CHANGES, || {
        pg::connect(|client| {
            pg::show_transition_tables(client, trigger)?;
            let plan = pg::kept(client, sql, &[pg_sys::BuiltinOid::BOOLOID]);
            let mut cursor = client.open_cursor(plan, &[is_active.into()]);
            let mut enqueuer = Enqueuer::of_foreign_rows();
            while !cursor.fetch(BATCH)?.is_empty() {
                // SAFETY: the cursor has just fetched rows with the columns of ROWS.
                unsafe { take_rows(&mut enqueuer) };
            }
            enqueuer.close();
            Ok::<_, pgrx::spi::Error>(())
        })
    })
    .unwrap_or_report();
}

/// Feeds the rows that SPI has just returned to the enqueuer, and frees them.
///
/// # Safety
/// SPI is connected, and its last result has the columns of ROWS.
unsafe fn take_rows(enqueuer: &mut Enqueuer) {
    // SAFETY: the table belongs to this connection and lives until it is freed below, whatever other
    // connections do meanwhile; it has numvals rows.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return;
        }
        let rows: Vec<LogRow> = (0..(*table).numvals as usize)
            .filter_map(|n| {
                let row = Row {
                    tuple: *(*table).vals.add(n),
                    descriptor: (*table).tupdesc,
                };
                row.of_log()
            })
            .collect();
        let mut tenants: HashMap<String, Vec<[u8; 16]>> = HashMap::new();
        for row in &rows {
            if let (Some(table), Some(tenant)) = (row.table(), row.tenant()) {
                tenants.entry(table).or_default().push(tenant);
            }
        }
        for (table, tenants) in tenants {
            enqueuer.prepare(&table, tenants.into_iter());
        }
        let memory = pg::new_context(pg_sys::CurrentMemoryContext, c"foreign row");
        for row in rows {
            let inside = pg::Inside::of(memory);
            row.show_change(|change| enqueuer.enqueue(change));
            drop(inside);
            pg_sys::MemoryContextReset(memory);
            pg_sys::check_for_interrupts!();
        }
        pg_sys::MemoryContextDelete(memory);
        pg_sys::SPI_freetuptable(table);
    }
}

/// A row with the columns of ROWS, inside `take_rows`.
struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    fn get(&self, column: i32) -> Option<Datum> {
        let mut null = false;
        // SAFETY: the table of the tuple is freed after the last row was used.
        let value =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut null) };
        (!null).then_some(value)
    }

    fn of_log(&self) -> Option<LogRow> {
        Some(LogRow {
            id: self.get(1)?.value() as i64,
            tenant: self.get(2),
            table_schema: self.get(3),
            table_name: self.get(4),
            operation: self.get(5),
            record_id: self.get(6),
            old_data: self.get(7),
            new_data: self.get(8),
            changed_fields: self.get(9),
        })
    }
}
