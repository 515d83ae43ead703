//! Statements on one table, as its owner: what hangs on a table runs with its owner's rights, in whatever
//! function the statement is made, and leaves no setting behind.

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::spi::{SpiError, SpiHeapTupleData, SpiResult, SpiTupleTable};

use super::catalog::TableName;
use super::roles::as_owner_of;
use super::spi;

impl TableName<'_> {
    /// Reads at most one row; `None` when there is none.
    pub fn one_row<R>(
        self,
        sql: &str,
        args: &[DatumWithOid<'_>],
        read: impl FnOnce(&SpiTupleTable<'_>) -> SpiResult<R>,
    ) -> Option<R> {
        as_owner_of(self, || spi::one_row(sql, args, read))
    }

    /// Reads all rows.
    pub fn rows<R>(
        self,
        sql: &str,
        mut read: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<R>,
    ) -> Vec<R> {
        as_owner_of(self, || {
            spi::connect(|client| {
                let table = client.select(sql, None, &[])?;
                let mut rows = Vec::with_capacity(table.len());
                for row in table {
                    rows.push(read(row)?);
                }
                Ok::<_, SpiError>(rows)
            })
        })
        .unwrap_or_report()
    }

    /// Reads one value; `None` when there is no row or it is null.
    pub fn one<T: FromDatum + IntoDatum>(self, sql: &str, args: &[DatumWithOid<'_>]) -> Option<T> {
        as_owner_of(self, || spi::one(sql, args))
    }

    /// Runs a statement that writes; returns the first column of the first row it returns.
    pub fn write_returning<T: FromDatum + IntoDatum>(
        self,
        sql: &str,
        args: &[DatumWithOid<'_>],
    ) -> Option<T> {
        as_owner_of(self, || spi::write_returning(sql, args))
    }

    /// Runs a statement whose plan is kept, see [`spi::run_kept`].
    pub fn run_kept<R>(
        self,
        sql: &'static str,
        types: &[pg_sys::BuiltinOid],
        args: &[DatumWithOid<'_>],
        read: impl FnOnce(SpiTupleTable<'_>) -> SpiResult<R>,
    ) -> R {
        as_owner_of(self, || spi::run_kept(sql, types, args, read))
    }

    /// Runs a statement that writes; returns how many rows it touched.
    pub fn write(self, sql: &str, args: &[DatumWithOid<'_>]) -> usize {
        as_owner_of(self, || spi::write(sql, args))
    }
}
