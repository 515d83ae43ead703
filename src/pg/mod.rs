//! Small safe doors to PostgreSQL: jsonb as text, elevated sections, guarded sections, kept plans.
//! Knows no table and no rule of the product.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;

use pgrx::PgTrigger;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportable};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiTupleTable};
use zeroize::{Zeroize, Zeroizing};

pub mod append;
pub mod bounded_jsonb;
pub mod cache;
mod process;
mod random;
mod session;
mod table_lock;
pub mod unguarded;
pub mod version;

pub use process::{database, database_name, in_data_directory, is_in_recovery, system_identifier};
pub use random::random_bytes;
pub use session::{
    hide_query, outer_user_is_superuser, outside_extension_script, reserve_setting_prefix,
    transaction_so_far,
};
pub use table_lock::{TableLock, try_lock_table};

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

/// A memory context of its own below `parent`.
///
/// SAFETY: `parent` is a live context.
pub unsafe fn new_context(
    parent: pg_sys::MemoryContext,
    name: &'static CStr,
) -> pg_sys::MemoryContext {
    // SAFETY: as promised by the caller; the name is static, as PostgreSQL wants it.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            parent,
            name.as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

/// As long as it lives, a memory context is the current one; also an error leaves it.
pub struct Inside(pg_sys::MemoryContext);

impl Inside {
    /// SAFETY: the context is live and stays so until the value is dropped.
    pub unsafe fn of(context: pg_sys::MemoryContext) -> Self {
        // SAFETY: as promised by the caller.
        Self(unsafe { pg_sys::MemoryContextSwitchTo(context) })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: the outer context outlives the inner one.
        unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
    }
}

/// A text datum in the current memory context.
pub fn text_datum(text: &str) -> pg_sys::Datum {
    // SAFETY: copies the bytes.
    unsafe {
        pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(
            text.as_ptr().cast(),
            text.len() as i32,
        ))
    }
}

/// A value of variable length that outlives PostgreSQL's memory contexts.
pub struct Varlena(Vec<u64>);

impl Varlena {
    /// SAFETY: `datum` is a varlena that is not toasted.
    unsafe fn of(datum: pg_sys::Datum) -> Self {
        // SAFETY: as promised by the caller; the words have room for all bytes.
        unsafe {
            let size = pgrx::varsize_any(datum.cast_mut_ptr());
            let mut words = vec![0_u64; size.div_ceil(8)];
            std::ptr::copy_nonoverlapping(
                datum.cast_mut_ptr::<u8>(),
                words.as_mut_ptr().cast(),
                size,
            );
            Self(words)
        }
    }

    pub fn text(text: &str) -> Self {
        // SAFETY: a fresh text.
        unsafe { Self::of(text_datum(text)) }
    }

    /// An address; raises when it is none.
    pub fn inet(address: &str) -> Option<Self> {
        let text = CString::new(address).ok()?;
        // SAFETY: inet_in reads a NUL-terminated string.
        unsafe {
            let datum = pgrx::direct_function_call_as_datum(
                pg_sys::inet_in,
                &[Some(pg_sys::Datum::from(text.as_ptr()))],
            )?;
            Some(Self::of(datum))
        }
    }

    /// Good as long as the value lives.
    pub fn datum(&self) -> pg_sys::Datum {
        pg_sys::Datum::from(self.0.as_ptr())
    }
}

/// A datum that is passed on as it is.
pub struct RawDatum(pub pg_sys::Datum);

impl IntoDatum for RawDatum {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::InvalidOid
    }
}

/// A copy of a value of variable length in the current memory context.
///
/// SAFETY: a varlena that is alive and not toasted.
pub unsafe fn copied_varlena(datum: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: as promised by the caller.
    unsafe { copied_bytes(datum, pgrx::varsize_any(datum.cast_mut_ptr())) }
}

/// A copy of `size` bytes in the current memory context.
///
/// SAFETY: the datum points to as many.
pub unsafe fn copied_bytes(datum: pg_sys::Datum, size: usize) -> pg_sys::Datum {
    // SAFETY: as promised by the caller.
    unsafe {
        let copy = pg_sys::palloc(size);
        std::ptr::copy_nonoverlapping(datum.cast_mut_ptr::<u8>(), copy.cast(), size);
        pg_sys::Datum::from(copy)
    }
}

/// An identifier.
pub fn name(name: &pg_sys::NameData) -> String {
    // SAFETY: a name of the catalogue ends with NUL.
    unsafe { CStr::from_ptr(name.data.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

/// Name of a schema.
pub fn namespace_name(oid: pg_sys::Oid) -> String {
    // SAFETY: a syscache look-up; returns a palloc'd copy or null.
    unsafe {
        let name = pg_sys::get_namespace_name(oid);
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The triggers of a relation.
///
/// SAFETY: the relation is open and stays so while the result is used.
pub unsafe fn triggers<'a>(relation: pg_sys::Relation) -> &'a [pg_sys::Trigger] {
    // SAFETY: as promised by the caller.
    unsafe {
        let triggers = (*relation).trigdesc;
        if triggers.is_null() {
            return &[];
        }
        std::slice::from_raw_parts((*triggers).triggers, (*triggers).numtriggers as usize)
    }
}

/// The triggers of the table whose trigger runs.
pub fn triggers_beside<'a>(trigger: &'a PgTrigger<'_>) -> &'a [pg_sys::Trigger] {
    // SAFETY: the executor keeps a relation open while one of its triggers runs.
    unsafe { triggers(trigger.trigger_data().tg_relation) }
}

/// Oid of an extension in this database, or `None`. Made anew, it has another.
pub fn extension(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a catalogue look-up inside a transaction; with missing_ok it does not raise.
    let oid = unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Length of a list; null is the empty one.
///
/// SAFETY: `list` is a list or null.
pub unsafe fn length(list: *const pg_sys::List) -> i32 {
    // SAFETY: as promised by the caller.
    unsafe { list.as_ref().map_or(0, |list| list.length) }
}

/// The oids of a list of oids.
///
/// SAFETY: `list` is one, or null.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: as promised by the caller.
    unsafe {
        (0..length(list) as usize)
            .map(|n| (*(*list).elements.add(n)).oid_value)
            .collect()
    }
}

/// Name of a column, or `None`.
pub fn column_name(relation: pg_sys::Oid, number: i16) -> Option<String> {
    // SAFETY: a syscache look-up; returns a palloc'd copy or null.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// Whether a trigger of this `tgenabled` fires in this session.
pub fn trigger_is_enabled(enabled: u8) -> bool {
    // SAFETY: a setting of the session.
    let role = unsafe { pg_sys::SessionReplicationRole };
    if role == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 {
        matches!(
            enabled,
            pg_sys::TRIGGER_FIRES_ALWAYS | pg_sys::TRIGGER_FIRES_ON_REPLICA
        )
    } else {
        matches!(
            enabled,
            pg_sys::TRIGGER_FIRES_ALWAYS | pg_sys::TRIGGER_FIRES_ON_ORIGIN
        )
    }
}

/// Whether an SQL function is this symbol of this library.
pub fn is_own_function(function: pg_sys::Oid, symbol: &CStr) -> bool {
    const LANGUAGE_C: u32 = 13;
    // SAFETY: a syscache look-up; the tuple is released before leaving. prosrc is never null.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            pg_sys::Datum::from(function),
        );
        if tuple.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let mut own = (*form).prolang.to_u32() == LANGUAGE_C;
        if own {
            let mut null = false;
            let source = pg_sys::SysCacheGetAttr(
                pg_sys::SysCacheIdentifier::PROCOID as i32,
                tuple,
                pg_sys::Anum_pg_proc_prosrc as i16,
                &mut null,
            );
            own = String::from_datum(source, null)
                .is_some_and(|name| name.as_bytes() == symbol.to_bytes());
        }
        pg_sys::ReleaseSysCache(tuple);
        own
    }
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

/// Runs `body` as `role` with the caller's search_path: for code that looks up no name.
/// An error inside leaves through the transaction's abort, which restores the role.
pub fn as_role_only<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    let mut user = pg_sys::InvalidOid;
    let mut context = 0;
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: save, switch, restore.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        let result = body();
        pg_sys::SetUserIdAndSecContext(user, context);
        result
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

unsafe extern "C-unwind" {
    // Unguarded: called while an error is being reported, where they only touch that report.
    fn errcode(code: i32) -> i32;
    fn geterrcode() -> i32;
}

/// The context callback of `foreign_code`, with the SQLSTATE of the last error it saw.
#[repr(C)]
struct KeptCode {
    callback: pg_sys::ErrorContextCallback,
    seen: i32,
}

/// PostgreSQL calls this when an error is raised: first by the foreign code itself, then again when
/// pgrx raises it anew with XX000 in place of a SQLSTATE it does not know.
unsafe extern "C-unwind" fn keep_code(kept: *mut std::ffi::c_void) {
    const INTERNAL_ERROR: i32 = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as i32;
    // The class of a notice or warning: the first two characters, six bits each.
    let is_error = |code: i32| !matches!(code & 0xfff, 0x000 | 0x040 | 0x080);
    // SAFETY: PostgreSQL passes the argument of a callback that is still on the stack.
    unsafe {
        let kept = kept.cast::<KeptCode>();
        match geterrcode() {
            INTERNAL_ERROR if (*kept).seen != 0 => {
                errcode((*kept).seen);
            }
            code if is_error(code) => (*kept).seen = code,
            _ => {}
        }
    }
}

/// Runs code that somebody else wrote, which may raise SQLSTATEs of its own, such as PostgREST's
/// PT404: they reach the caller as they are. Not to be called inside `Spi::connect` or `guarded`.
pub fn foreign_code<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: the callback lives in the memory context of the running function call. When `body`
    // fails it stays on the stack until PostgreSQL's error handling restores that, so that it sees
    // pgrx raise the error anew.
    unsafe {
        let previous = pg_sys::error_context_stack;
        let kept = pg_sys::palloc0(size_of::<KeptCode>()).cast::<KeptCode>();
        (*kept).callback.previous = previous;
        (*kept).callback.callback = Some(keep_code);
        (*kept).callback.arg = kept.cast();
        pg_sys::error_context_stack = &raw mut (*kept).callback;
        let result = body();
        pg_sys::error_context_stack = previous;
        pg_sys::pfree(kept.cast());
        result
    }
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

/// Runs `body` with a snapshot of now: what only reads would use the one that is active.
/// An error inside leaves through the abort of its (sub)transaction, which pops the snapshot.
pub fn with_latest_snapshot<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: pushed and popped in pairs, inside a transaction.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let result = body();
        pg_sys::PopActiveSnapshot();
        result
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

/// Oid of a function without arguments, or `None`. Asks no permission.
pub fn function_without_arguments(schema: &CStr, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: catalogue look-ups inside a transaction.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if namespace == pg_sys::InvalidOid {
            return None;
        }
        let arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
        let oid = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(arguments),
            pg_sys::Datum::from(namespace),
            pg_sys::Datum::null(),
        );
        (oid != pg_sys::InvalidOid).then_some(oid)
    }
}

/// The elements of a text[] that are not null.
///
/// SAFETY: the datum is a text[] that is alive.
pub unsafe fn texts(array: Option<pg_sys::Datum>) -> Vec<String> {
    // SAFETY: as promised by the caller.
    let elements =
        array.and_then(|array| unsafe { Vec::<Option<String>>::from_datum(array, false) });
    elements.unwrap_or_default().into_iter().flatten().collect()
}

/// `lower(text)` under the database's collation.
pub fn lower(text: &str) -> String {
    // SAFETY: reads as many bytes as given; returns a palloc'd C string.
    unsafe {
        let lower = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            unguarded::str_tolower(
                text.as_ptr().cast(),
                text.len(),
                pg_sys::DEFAULT_COLLATION_OID,
            )
        });
        CStr::from_ptr(lower).to_string_lossy().into_owned()
    }
}

/// Locks the row of a table whose `id` is this uuid with FOR KEY SHARE, in its newest version; false
/// when there is none.
pub fn lock_key_share(schema: &CStr, name: &CStr, id: [u8; 16]) -> bool {
    let Some(oid) = relation(schema, name) else {
        return false;
    };
    // SAFETY: what is opened is closed; the primary key leads with `id`, else the scan is sequential.
    unsafe {
        let table = pg_sys::table_open(oid, pg_sys::RowShareLock as i32);
        let number = pg_sys::get_attnum(oid, c"id".as_ptr());
        let index = pg_sys::RelationGetPrimaryKeyIndex(table);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            number,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_UUID_EQ),
            pg_sys::Datum::from(id.as_ptr()),
        );
        let scan = pg_sys::systable_beginscan(
            table,
            index,
            index != pg_sys::InvalidOid,
            snapshot,
            1,
            &mut key,
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = !tuple.is_null() && lock_tuple(table, &raw mut (*tuple).t_self, snapshot);
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        found
    }
}

/// SAFETY: a row of the open table that the snapshot sees.
unsafe fn lock_tuple(
    table: pg_sys::Relation,
    tid: *mut pg_sys::ItemPointerData,
    snapshot: pg_sys::Snapshot,
) -> bool {
    // SAFETY: as promised by the caller.
    unsafe {
        let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
        let lock = (*(*table).rd_tableam)
            .tuple_lock
            .expect("a table's access method locks rows");
        let mut place = *tid;
        let mut failure = pg_sys::TM_FailureData::default();
        let command = pg_sys::GetCurrentCommandId(false);
        let result = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            lock(
                table,
                &mut place,
                snapshot,
                slot,
                command,
                pg_sys::LockTupleMode::LockTupleKeyShare,
                pg_sys::LockWaitPolicy::LockWaitBlock,
                pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION as u8,
                &mut failure,
            )
        });
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        result == pg_sys::TM_Result::TM_Ok
    }
}
