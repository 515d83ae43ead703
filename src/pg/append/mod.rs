//! Appends rows to a table of the extension the way COPY does: no statement to plan, start and end,
//! but everything else that belongs to an insert: defaults, constraints, indexes, triggers, counters.
//! Knows no table of the product.
#![expect(
    unsafe_code,
    reason = "tuples, expressions and triggers of the executor"
)]

mod appender;
mod target;
mod triggers;

use pgrx::pg_sys;

use super::TableName;

pub use appender::Appender;

/// The table and the columns that the caller fills.
pub struct Layout {
    pub table: TableName<'static>,
    pub columns: &'static [(&'static str, pg_sys::Oid)],
    /// Foreign keys from a column to the column `id` of a table that the caller checks itself.
    pub checked_references: &'static [(&'static str, TableName<'static>)],
}

/// What becomes of a trigger of the table.
pub enum TriggerAction {
    /// It fires as with any insert.
    Fire,
    /// It does not: the caller does itself what it would do.
    Skip,
}
