//! The rows of one statement, read from the transition tables of its trigger. Knows nothing of what is
//! recorded of them.
#![expect(unsafe_code, reason = "tuplestores by pointer")]

use pgrx::pg_sys;

use super::to_jsonb::{Version, Versions};
use crate::change::Operation;

/// The changed rows of a statement.
pub struct Transition {
    old: Option<Rows>,
    new: Option<Rows>,
}

impl Transition {
    /// `None` when a transition table that the operation needs is missing.
    ///
    /// # Safety
    /// The data is that of a statement-level trigger that runs now, fired by the operation.
    pub unsafe fn of(data: &pg_sys::TriggerData, operation: Operation) -> Option<Self> {
        let missing = operation.has_old() && data.tg_oldtable.is_null()
            || operation.has_new() && data.tg_newtable.is_null();
        if missing {
            return None;
        }
        let rows = |store| {
            // SAFETY: PostgreSQL keeps relation and transition tables open until the trigger returns; neither
            // store is null where it is wanted.
            unsafe { Rows::of(data.tg_relation, store) }
        };
        Some(Self {
            old: operation.has_old().then(|| rows(data.tg_oldtable)),
            new: operation.has_new().then(|| rows(data.tg_newtable)),
        })
    }

    /// The next row; good until the one after it is asked for. The old and the new version of an updated row
    /// stand at the same place in their tables.
    pub fn next(&mut self) -> Option<Versions> {
        match (&mut self.old, &mut self.new) {
            (Some(old), Some(new)) => {
                let (old, new) = (old.next()?, new.next()?);
                Some(Versions::Updated { old, new })
            }
            (Some(old), None) => old.next().map(Versions::Deleted),
            (None, Some(new)) => new.next().map(Versions::Inserted),
            (None, None) => None,
        }
    }

    pub fn close(self) {
        for rows in [self.old, self.new].into_iter().flatten() {
            rows.close();
        }
    }
}

/// Reads a transition table while its trigger runs.
struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
    width: i32,
}

impl Rows {
    /// # Safety
    /// The relation is open and the store holds rows of it; both outlive the value.
    unsafe fn of(relation: pg_sys::Relation, store: *mut pg_sys::Tuplestorestate) -> Self {
        // SAFETY: a read pointer of its own, because others read the same store; the slot has the type of the
        // store's rows.
        unsafe {
            let pointer =
                pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let descriptor = (*relation).rd_att;
            Self {
                store,
                pointer,
                slot: pg_sys::MakeSingleTupleTableSlot(
                    descriptor,
                    &raw const pg_sys::TTSOpsMinimalTuple,
                ),
                width: (*descriptor).natts,
            }
        }
    }

    /// The next row; good until the one after it is asked for.
    fn next(&mut self) -> Option<Version> {
        // SAFETY: the store outlives this value, and the slot is its own: its arrays hold `width` values.
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
