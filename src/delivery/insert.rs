//! Inserts deliveries with a statement: for a queue that rows cannot be appended to, and for changes that may
//! have been enqueued before. Knows nothing of what a delivery holds.
#![expect(unsafe_code, reason = "arrays of values by pointer")]

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Datum};

use crate::{pg, tables};

const INSERT: &str = include_str!("sql/enqueue.sql");
const TYPES: [pg_sys::BuiltinOid; COLUMNS] = {
    use pg_sys::BuiltinOid as T;
    [
        T::UUIDARRAYOID,
        T::UUIDARRAYOID,
        T::INT8ARRAYOID,
        T::TEXTARRAYOID,
        T::JSONBARRAYOID,
    ]
};
const COLUMNS: usize = 5;
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 1 << 20;

/// Deliveries that wait to be inserted.
pub struct Inserter {
    /// Of what waits; emptied after each statement.
    memory: pg_sys::MemoryContext,
    waiting: Vec<[Datum; COLUMNS]>,
}

impl Inserter {
    /// Lives as long as the current memory context.
    pub fn new() -> Self {
        Self {
            // SAFETY: the current memory context is always a live one.
            memory: unsafe {
                pg::new_context(pg_sys::CurrentMemoryContext, c"deliveries to insert")
            },
            waiting: Vec::new(),
        }
    }

    /// Where the values of a delivery have to live until `flush`.
    pub fn memory(&self) -> pg_sys::MemoryContext {
        self.memory
    }

    /// Adds a delivery: tenant, installation, change, event type, payload.
    ///
    /// # Safety
    /// The values are of the types of these columns and live in `memory`.
    pub unsafe fn add(&mut self, values: [Datum; COLUMNS]) {
        self.waiting.push(values);
    }

    /// Whether it is time to `flush`.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= BATCH_ROWS
            // SAFETY: the context is this value's own.
            || unsafe { (*self.memory).mem_allocated } > BATCH_BYTES
    }

    /// Inserts what waits.
    pub fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        // SAFETY: what waits is of these types and lives in the context that its arrays are made in; both are
        // used up when the context is emptied.
        unsafe {
            let inside = pg::Inside::of(self.memory);
            let arguments = [
                self.array(0, pg_sys::UUIDOID),
                self.array(1, pg_sys::UUIDOID),
                self.array(2, pg_sys::INT8OID),
                self.array(3, pg_sys::TEXTOID),
                self.array(4, pg_sys::JSONBOID),
            ];
            drop(inside);
            pg::as_owner_of(tables::QUEUE, || {
                pg::run_kept(INSERT, &TYPES, &arguments, |_| Ok(()));
            });
            self.waiting.clear();
            pg_sys::MemoryContextReset(self.memory);
        }
    }

    /// One column of what waits.
    ///
    /// # Safety
    /// The column is of this type; the current memory context is `memory`.
    unsafe fn array(&self, column: usize, element: pg_sys::Oid) -> DatumWithOid<'static> {
        let mut values: Vec<Datum> = self.waiting.iter().map(|row| row[column]).collect();
        let (mut length, mut by_value, mut align) = (0, false, 0);
        // SAFETY: as many values as counted, none of them null, of a type that the catalog describes; the
        // array is a copy, and the datum is used while `memory` is not emptied.
        unsafe {
            pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
            let array = pg_sys::construct_array(
                values.as_mut_ptr(),
                values.len() as i32,
                element,
                i32::from(length),
                by_value,
                align,
            );
            let array_type = pg_sys::get_array_type(element);
            DatumWithOid::new(Some(pg::RawDatum(Datum::from(array))), array_type)
        }
    }

    /// Inserts what waits.
    pub fn close(mut self) {
        self.flush();
        // SAFETY: the context is this value's own, and nothing refers to what is in it.
        unsafe { pg_sys::MemoryContextDelete(self.memory) };
    }
}
