//! Small safe doors to PostgreSQL: jsonb as text, elevated sections, guarded sections, kept plans.
//! Knows no table and no rule of the product.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportable};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient};

/// A jsonb value as PostgreSQL prints it. Numbers, key order and escapes stay as they are,
/// which parsing into a document and printing it again would not guarantee.
#[derive(Debug, Clone)]
pub struct Jsonb(pub String);

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller promises a jsonb datum; jsonb_out detoasts it and returns a palloc'd C string.
        unsafe {
            let printed = pgrx::direct_function_call_as_datum(pg_sys::jsonb_out, &[Some(datum)])?;
            let text = CStr::from_ptr(printed.cast_mut_ptr());
            let owned = text.to_string_lossy().into_owned();
            pg_sys::pfree(printed.cast_mut_ptr());
            Some(Self(owned))
        }
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.0).ok()?;
        // SAFETY: jsonb_in reads a NUL-terminated string and raises on malformed input.
        unsafe {
            pgrx::direct_function_call_as_datum(
                pg_sys::jsonb_in,
                &[Some(pg_sys::Datum::from(text.as_ptr()))],
            )
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: a jsonb argument is passed by reference and read through FromDatum.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: only reached for a non-null argument of the declared type.
        unsafe { arg.unbox_arg_using_from_datum() }.expect("a jsonb argument that is not null")
    }
}

// SAFETY: the datum made by IntoDatum is palloc'd in the caller's context.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: a live jsonb datum of this call.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}

// SAFETY: the type maps to jsonb.
unsafe impl SqlTranslatable for Jsonb {
    const TYPE_IDENT: &'static str = "plugin_webhooks::pg::Jsonb";
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: std::result::Result<SqlMappingRef, ArgumentError> =
        Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: std::result::Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

/// Reads at most one row; `None` when there is none.
pub fn one_row<R>(
    sql: &str,
    args: &[pgrx::datum::DatumWithOid<'_>],
    read: impl FnOnce(&pgrx::spi::SpiTupleTable<'_>) -> pgrx::spi::SpiResult<R>,
) -> Option<R> {
    Spi::connect(|client| {
        let table = client.select(sql, Some(1), args).unwrap_or_report();
        if table.is_empty() {
            return None;
        }
        Some(read(&table.first()).unwrap_or_report())
    })
}

/// Reads one value; `None` when there is no row or it is null.
pub fn one<T: FromDatum + IntoDatum>(
    sql: &str,
    args: &[pgrx::datum::DatumWithOid<'_>],
) -> Option<T> {
    one_row(sql, args, |row| row.get_one::<T>()).flatten()
}

/// Runs a statement that writes; returns the first column of the first row it returns.
pub fn write_returning<T: FromDatum + IntoDatum>(
    sql: &str,
    args: &[pgrx::datum::DatumWithOid<'_>],
) -> Option<T> {
    Spi::connect_mut(|client| {
        let table = client.update(sql, None, args).unwrap_or_report();
        if table.is_empty() {
            return None;
        }
        table.first().get_one::<T>().unwrap_or_report()
    })
}

/// Runs a statement that writes; returns how many rows it touched.
pub fn write(sql: &str, args: &[pgrx::datum::DatumWithOid<'_>]) -> usize {
    Spi::connect_mut(|client| client.update(sql, None, args).unwrap_or_report().len())
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
    args: &[pgrx::datum::DatumWithOid<'_>],
    read: impl FnOnce(pgrx::spi::SpiTupleTable<'_>) -> pgrx::spi::SpiResult<R>,
) -> R {
    Spi::connect(|client| {
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

/// Oid of a relation, or `None`.
pub fn relation(schema: &CStr, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: catalogue look-ups inside a transaction; both raise only on corruption.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if namespace == pg_sys::InvalidOid {
            return None;
        }
        let oid = pg_sys::get_relname_relid(name.as_ptr(), namespace);
        (oid != pg_sys::InvalidOid).then_some(oid)
    }
}

/// Owner of a relation.
pub fn owner(relation: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up; the tuple is released before leaving.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let owner = (*form).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// Runs `body` as `role` with a search_path nobody else can write to.
/// An error inside leaves through the transaction's abort, which restores both.
pub fn as_role<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    let mut user = pg_sys::InvalidOid;
    let mut context = 0;
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: save, switch, restore.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        // An owner who forces row security upon himself has not meant this.
        let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
        pg_sys::SetUserIdAndSecContext(role, context | flags as i32);
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let result = body();
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(user, context);
        result
    }
}

/// Runs `body` as the owner of a relation: what it may do, and no more.
pub fn as_owner_of<R>(schema: &CStr, name: &CStr, body: impl FnOnce() -> R) -> R {
    let Some(role) = relation(schema, name).and_then(owner) else {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!(
                "table {}.{} does not exist",
                schema.to_string_lossy(),
                name.to_string_lossy()
            )
        );
    };
    as_role(role, body)
}

/// Message of a caught error.
pub fn caught_message(error: CaughtError) -> String {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            report.message().to_string()
        }
        CaughtError::RustPanic { ereport, .. } => ereport.message().to_string(),
    }
}

/// Runs `body` in a subtransaction: an error rolls it back and becomes its message.
pub fn guarded<R>(body: impl FnOnce() -> R) -> std::result::Result<R, String> {
    // SAFETY: the pattern of PL/pgSQL's exception block; context and resource owner are restored.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let resources = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let recover = |error: CaughtError| {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = resources;
            Err(caught_message(error))
        };
        let mut body = Some(body);
        PgTryBuilder::new(AssertUnwindSafe(|| {
            let body = body.take().expect("runs once");
            let result = body();
            pg_sys::ReleaseCurrentSubTransaction();
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = resources;
            Ok(result)
        }))
        .catch_others(recover)
        .catch_rust_panic(recover)
        .execute()
    }
}

/// A setting of the session, `None` where it is unknown or empty.
pub fn session_setting(name: &CStr) -> Option<String> {
    // SAFETY: with missing_ok the function returns null instead of raising.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        let text = CStr::from_ptr(value).to_string_lossy().into_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// Whether a function of this signature exists, e.g. `auth.uid()`.
pub fn function_exists(signature: &str) -> bool {
    one::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regprocedure($1)::pg_catalog.oid",
        &[signature.into()],
    )
    .is_some()
}

/// Whether a relation of this name exists, e.g. `app.tenants`.
pub fn relation_exists(name: &str) -> bool {
    one::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid",
        &[name.into()],
    )
    .is_some()
}
