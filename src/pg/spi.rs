//! SQL through SPI: reads that take no transaction id, writes, statements whose plan is kept. Each is a
//! security-restricted operation: it leaves no trigger for the commit, which would run there with the rights of
//! the session. An error of a statement is raised. Knows no statement of the product.
#![expect(
    unsafe_code,
    reason = "snapshots, and a datum that is wiped in its place"
)]

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::PgTrigger;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiResult, SpiTupleTable};
use zeroize::{Zeroize, Zeroizing};

use super::roles::restricted;

/// A connection for several statements that read.
pub fn connect<R>(body: impl FnOnce(&SpiClient<'_>) -> R) -> R {
    restricted(|| Spi::connect(body))
}

fn connect_mut<R>(body: impl FnOnce(&mut SpiClient<'_>) -> R) -> R {
    restricted(|| Spi::connect_mut(body))
}

/// Reads at most one row; `None` when there is none.
pub fn one_row<R>(
    sql: &str,
    args: &[DatumWithOid<'_>],
    read: impl FnOnce(&SpiTupleTable<'_>) -> SpiResult<R>,
) -> Option<R> {
    connect(|client| {
        let table = client.select(sql, Some(1), args).unwrap_or_report();
        if table.is_empty() {
            return None;
        }
        Some(read(&table.first()).unwrap_or_report())
    })
}

/// Reads one value; `None` when there is no row or it is null.
pub fn one<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid<'_>]) -> Option<T> {
    one_row(sql, args, |row| row.get_one::<T>()).flatten()
}

/// Copies the first column of a row, a text, and wipes the row's copy of it.
pub fn take_text(row: &SpiTupleTable<'_>) -> Option<Zeroizing<String>> {
    let of_type = row.column_type_oid(1).unwrap_or_report();
    assert_eq!(of_type.value(), pg_sys::TEXTOID, "the column is a text");
    let datum = row.get_datum_by_ordinal(1).unwrap_or_report()?;
    // SAFETY: a text, in memory that SPI allocated for this result and that `row` borrows; nobody else
    // reads it. Detoasting returns it or a copy, which is what is read and wiped.
    unsafe {
        let stored: *mut pg_sys::varlena = datum.cast_mut_ptr();
        let plain = pg_sys::pg_detoast_datum_packed(stored);
        let bytes = std::slice::from_raw_parts_mut(
            pgrx::vardata_any(plain).cast_mut().cast::<u8>(),
            pgrx::varsize_any_exhdr(plain),
        );
        let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        bytes.zeroize();
        Some(text)
    }
}

/// Runs a statement that writes; returns the first column of the first row it returns.
pub fn write_returning<T: FromDatum + IntoDatum>(
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Option<T> {
    connect_mut(|client| {
        let table = client.update(sql, None, args).unwrap_or_report();
        if table.is_empty() {
            return None;
        }
        table.first().get_one::<T>().unwrap_or_report()
    })
}

/// Runs a statement that writes; returns how many rows it touched.
pub fn write(sql: &str, args: &[DatumWithOid<'_>]) -> usize {
    connect_mut(|client| client.update(sql, None, args).unwrap_or_report().len())
}

thread_local! {
    /// Kept for the life of the backend. Leaked on purpose: freeing a plan while the process
    /// exits would touch memory contexts that are already gone.
    static PLANS: RefCell<HashMap<*const u8, &'static OwnedPreparedStatement>> = RefCell::new(HashMap::new());
}

/// Runs a statement through its kept plan. Unlike `SpiClient::update` this takes no transaction id
/// before a row is really written: a poll that finds nothing leaves no trace.
pub fn run_kept<R>(
    sql: &'static str,
    types: &[pg_sys::BuiltinOid],
    args: &[DatumWithOid<'_>],
    read: impl FnOnce(SpiTupleTable<'_>) -> SpiResult<R>,
) -> R {
    connect(|client| {
        let plan = kept(client, sql, types);
        client.select(plan, None, args).and_then(read)
    })
    .unwrap_or_report()
}

/// The kept plan of a statement, prepared on first use. `sql` must be one and the same static text.
pub fn kept(
    client: &SpiClient<'_>,
    sql: &'static str,
    types: &[pg_sys::BuiltinOid],
) -> &'static OwnedPreparedStatement {
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&sql.as_ptr()).copied()) {
        return plan;
    }
    let types: Vec<PgOid> = types.iter().map(|t| PgOid::from(*t)).collect();
    let plan: &'static OwnedPreparedStatement = Box::leak(Box::new(
        client.prepare_mut(sql, &types).unwrap_or_report().keep(),
    ));
    PLANS.with_borrow_mut(|plans| plans.insert(sql.as_ptr(), plan));
    plan
}

/// Makes the transition tables of the running trigger visible to the statements of this connection.
pub fn show_transition_tables(_client: &SpiClient<'_>, trigger: &PgTrigger<'_>) -> SpiResult<()> {
    let data = std::ptr::from_ref(trigger.trigger_data()).cast_mut();
    // SAFETY: the client proves that SPI is connected; SPI only reads the trigger's data, which
    // outlives the connection because that ends before the trigger function returns.
    let code = unsafe { pg_sys::SPI_register_trigger_data(data) };
    Spi::check_status(code).map(|_| ())
}

/// Runs `body` with a snapshot of now, whatever the transaction's isolation: what only reads would use
/// the one that is active. An error inside leaves through the abort of its (sub)transaction, which pops
/// the snapshot.
pub fn with_latest_snapshot<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: inside a transaction, as everything that runs SQL; pushed and popped in pairs.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = body();
        pg_sys::PopActiveSnapshot();
        result
    }
}
