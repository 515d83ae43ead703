//! Change capture: a changed row becomes a row of `audit.entity_changes`, and `track` attaches that
//! to tables. The row is turned into jsonb with the writer's rights, but for casts to json of
//! others (`casts`); the insert runs as the owner of the audit log.
#![expect(unsafe_code, reason = "tuples of a trigger")]

mod casts;
mod column;
mod mask;
mod origin;
mod table;
mod to_jsonb;
mod track;
mod track_all;
mod transition;
mod writer;

pub use self::track::track_table;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use self::table::Table;
use self::to_jsonb::{Version, Versions};
use self::transition::Transition;
use self::writer::Writer;
use crate::change::Operation;
use crate::error::{self, Error};

const PROTOCOL: Error = Error::TriggerProtocol {
    function: "audit.log_entity_change()",
    wanted: "AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, or on a table that is not partitioned \
             FOR EACH STATEMENT with transition tables",
};

// An error that a trigger function returns would lose its SQLSTATE: it is raised instead.
#[pg_trigger(sql = false)]
fn log_entity_change<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    record(trigger).unwrap_or_report();
    Ok(None)
}

fn record(trigger: &pgrx::PgTrigger<'_>) -> error::Result<()> {
    let event = trigger.event();
    if !event.fired_after() {
        return Err(PROTOCOL.into());
    }
    let operation = if event.fired_by_insert() {
        Operation::Insert
    } else if event.fired_by_update() {
        Operation::Update
    } else if event.fired_by_delete() {
        Operation::Delete
    } else {
        return Err(PROTOCOL.into());
    };
    let data = trigger.trigger_data();
    // SAFETY: PostgreSQL fills the trigger data as the event says; the relation is open.
    unsafe {
        if event.fired_for_row() {
            record_row(data, operation)
        } else {
            record_statement(data, operation)
        }
    }
}

/// # Safety
/// The data is that of a row-level trigger that runs now, fired by the operation.
unsafe fn record_row(data: &pg_sys::TriggerData, operation: Operation) -> error::Result<()> {
    let table = Table::of(data.tg_relation)?;
    // SAFETY: a row trigger has the row of the operation, for an update the new one beside it; they live until
    // the trigger returns.
    unsafe {
        let first = unpacked(data.tg_relation, data.tg_trigtuple);
        let versions = match operation {
            Operation::Insert => Versions::Inserted(first),
            Operation::Delete => Versions::Deleted(first),
            Operation::Update => Versions::Updated {
                old: first,
                new: unpacked(data.tg_relation, data.tg_newtuple),
            },
        };
        let mut writer = Writer::open(table, operation);
        writer.add(versions);
        writer.close();
    }
    Ok(())
}

/// # Safety
/// The relation is open, and the tuple is a row of it.
unsafe fn unpacked(relation: pg_sys::Relation, tuple: pg_sys::HeapTuple) -> Version {
    // SAFETY: both arrays have room for every column of the relation; the tuple may have fewer.
    unsafe {
        let descriptor = (*relation).rd_att;
        let width = (*descriptor).natts as usize;
        let values: *mut pg_sys::Datum = pg_sys::palloc(width * size_of::<pg_sys::Datum>()).cast();
        let nulls: *mut bool = pg_sys::palloc(width).cast();
        pg_sys::heap_deform_tuple(tuple, descriptor, values, nulls);
        Version { values, nulls }
    }
}

/// # Safety
/// The data is that of a statement-level trigger that runs now, fired by the operation.
unsafe fn record_statement(data: &pg_sys::TriggerData, operation: Operation) -> error::Result<()> {
    // SAFETY: the relation of a running trigger is open, its transition tables live until it returns, and a
    // row is used before the next one is asked for.
    unsafe {
        let kind = (*(*data.tg_relation).rd_rel).relkind as u8;
        // Between partitions a row may come without its other version, and it has lost its table.
        if kind != pg_sys::RELKIND_RELATION {
            return Err(PROTOCOL.into());
        }
        let mut rows = Transition::of(data, operation).ok_or(PROTOCOL)?;
        if let Some(first) = rows.next() {
            let table = Table::of(data.tg_relation)?;
            if !table.is_recorded_by_row(operation) {
                let mut writer = Writer::open(table, operation);
                writer.add(first);
                while let Some(versions) = rows.next() {
                    writer.add(versions);
                    pg_sys::check_for_interrupts!();
                }
                writer.close();
            }
        }
        rows.close();
    }
    Ok(())
}
