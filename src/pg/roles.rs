//! Sections that run as another role: what it may do, and no more. An error inside leaves through the
//! (sub)transaction's abort, which restores role and search_path.
#![expect(unsafe_code, reason = "switches the process's user")]

use pgrx::prelude::*;

use super::catalog::{TableName, owner, relation};

/// Runs `body` as `role` with these flags added to the security context.
fn with_user<R>(role: pg_sys::Oid, flags: u32, body: impl FnOnce() -> R) -> R {
    let mut user = pg_sys::InvalidOid;
    let mut context = 0;
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: save, switch, restore.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | flags as i32);
        let result = body();
        pg_sys::SetUserIdAndSecContext(user, context);
        result
    }
}

/// Runs `body` with a search_path that only superusers can write to.
fn with_safe_search_path<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: a level of settings of its own, ended here or by the abort; name and value are static.
    unsafe {
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
        result
    }
}

/// Runs `body` as `role` with the caller's search_path: for code that looks up no name.
pub fn as_role_only<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    with_user(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE, body)
}

/// Runs `body` as `role` with a search_path nobody else can write to.
pub fn as_role<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    // An owner who forces row security upon himself has not meant this.
    let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
    with_user(role, flags, || with_safe_search_path(body))
}

/// Runs `body` as the owner of a relation; raises when there is no such relation.
pub fn as_owner_of<R>(table: TableName<'_>, body: impl FnOnce() -> R) -> R {
    let Some(role) = relation(table).and_then(owner) else {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!(
                "table {}.{} does not exist",
                table.schema.to_string_lossy(),
                table.name.to_string_lossy()
            )
        );
    };
    as_role(role, body)
}
