//! Change capture: a changed row becomes a row of `audit.entity_changes`, and `track` attaches that
//! to tables. The row is turned into jsonb with the writer's rights (a column's type may bring
//! code of its owner); only the insert runs as the owner of the audit log.
#![expect(unsafe_code, reason = "tuples of a trigger")]

mod origin;
mod table;
mod to_jsonb;
mod track;
mod writer;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use self::writer::Log;
use table::Table;
use to_jsonb::{Version, Versions};

use crate::change::Operation;
use crate::error::{self, Error};

const PROTOCOL: Error = Error::TriggerProtocol {
    function: "audit.log_entity_change()",
    wanted: "AFTER INSERT, UPDATE or DELETE, FOR EACH ROW, or on a table that is not partitioned FOR EACH STATEMENT with transition tables",
};

// An error that a trigger function returns would lose its SQLSTATE: it is raised instead.
#[pg_trigger(sql = false)]
fn log_entity_change<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    log(trigger).unwrap_or_report();
    Ok(None)
}

fn log(trigger: &pgrx::PgTrigger<'_>) -> error::Result<()> {
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
            log_row(data, operation)
        } else {
            log_statement(data, operation)
        }
    }
}

/// SAFETY: the data of a row-level trigger fired by the operation.
unsafe fn log_row(data: &pg_sys::TriggerData, operation: Operation) -> error::Result<()> {
    let table = Table::of(data.tg_relation)?;
    // SAFETY: as promised by the caller.
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
        let mut log = Log::open(table, operation);
        log.add(versions);
        log.close();
    }
    Ok(())
}

/// SAFETY: a row of the open relation.
unsafe fn unpacked(relation: pg_sys::Relation, tuple: pg_sys::HeapTuple) -> Version {
    // SAFETY: as promised by the caller; both arrays have room for every column.
    unsafe {
        let descriptor = (*relation).rd_att;
        let width = (*descriptor).natts as usize;
        let values: *mut pg_sys::Datum = pg_sys::palloc(width * size_of::<pg_sys::Datum>()).cast();
        let nulls: *mut bool = pg_sys::palloc(width).cast();
        pg_sys::heap_deform_tuple(tuple, descriptor, values, nulls);
        Version { values, nulls }
    }
}

/// SAFETY: the data of a statement-level trigger fired by the operation.
unsafe fn log_statement(data: &pg_sys::TriggerData, operation: Operation) -> error::Result<()> {
    // SAFETY: as promised by the caller.
    unsafe {
        let kind = (*(*data.tg_relation).rd_rel).relkind as u8;
        // Between partitions a row may come without its other version, and it has lost its table.
        if kind != pg_sys::RELKIND_RELATION {
            return Err(PROTOCOL.into());
        }
        let mut old = Rows::of(data.tg_relation, data.tg_oldtable, operation.has_old())?;
        let mut new = Rows::of(data.tg_relation, data.tg_newtable, operation.has_new())?;
        if let Some(first) = next(&mut old, &mut new) {
            let table = Table::of(data.tg_relation)?;
            if !table.is_recorded_by_row(operation) {
                let mut log = Log::open(table, operation);
                log.add(first);
                while let Some(versions) = next(&mut old, &mut new) {
                    log.add(versions);
                    pg_sys::check_for_interrupts!();
                }
                log.close();
            }
        }
        for rows in [old, new].into_iter().flatten() {
            rows.close();
        }
    }
    Ok(())
}

/// The old and the new version of an updated row stand at the same place in their tables.
///
/// SAFETY: the transition tables live.
unsafe fn next(old: &mut Option<Rows>, new: &mut Option<Rows>) -> Option<Versions> {
    // SAFETY: as promised by the caller.
    unsafe {
        match (old, new) {
            (Some(old), Some(new)) => {
                let (old, new) = (old.next()?, new.next()?);
                Some(Versions::Updated { old, new })
            }
            (Some(old), None) => old.next().map(Versions::Deleted),
            (None, Some(new)) => new.next().map(Versions::Inserted),
            (None, None) => None,
        }
    }
}

/// Reads a transition table.
struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
    width: i32,
}

impl Rows {
    /// `None` when the operation has no such rows.
    ///
    /// SAFETY: the relation is open, the store null or live.
    unsafe fn of(
        relation: pg_sys::Relation,
        store: *mut pg_sys::Tuplestorestate,
        wanted: bool,
    ) -> error::Result<Option<Rows>> {
        if !wanted {
            return Ok(None);
        }
        if store.is_null() {
            return Err(PROTOCOL.into());
        }
        // SAFETY: as promised by the caller. A read pointer of its own: others read the same store.
        unsafe {
            let pointer =
                pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let descriptor = (*relation).rd_att;
            Ok(Some(Rows {
                store,
                pointer,
                slot: pg_sys::MakeSingleTupleTableSlot(
                    descriptor,
                    &raw const pg_sys::TTSOpsMinimalTuple,
                ),
                width: (*descriptor).natts,
            }))
        }
    }

    /// The next row; good until the one after it is asked for.
    ///
    /// SAFETY: the store lives.
    unsafe fn next(&mut self) -> Option<Version> {
        // SAFETY: as promised by the caller.
        unsafe {
            // What an audited row calls may read the same store.
            pg_sys::tuplestore_select_read_pointer(self.store, self.pointer);
            if !pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) {
                return None;
            }
            pg_sys::slot_getsomeattrs_int(self.slot, self.width);
            Some(Version {
                values: (*self.slot).tts_values,
                nulls: (*self.slot).tts_isnull,
            })
        }
    }

    fn close(self) {
        // SAFETY: the slot is this value's own.
        unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) }
    }
}
