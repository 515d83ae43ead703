//! What the caller of an append says about the table and its triggers.

use pgrx::pg_sys;

use crate::pg::TableName;

/// The table and the columns that the caller fills.
pub struct Layout {
    pub table: TableName<'static>,
    /// The type of column `id`.
    pub id: pg_sys::Oid,
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
