//! Sections that run as another role: what it may do, and no more. Whatever somebody's code starts inside
//! ends inside: in a security-restricted operation PostgreSQL refuses deferred triggers, WITH HOLD cursors,
//! temporary tables and another SET ROLE, which would outlive the section and run with the session's rights.
//! An error inside leaves through the (sub)transaction's abort, which restores role and settings.
#![expect(unsafe_code, reason = "switches the process's user")]

use std::ffi::CStr;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::catalog::{TableName, joined_owners, owner, relation, role_name};
use super::session::session_setting;

/// A changed role, in a security-restricted operation.
const AS_ANOTHER: u32 =
    pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
const SEARCH_PATH: &CStr = c"search_path";

/// The role and the flags that a section began with.
struct Before {
    user: pg_sys::Oid,
    context: i32,
}

/// Changes the role, or keeps it, and adds flags.
fn switch(role: Option<pg_sys::Oid>, flags: u32) -> Before {
    let mut before = Before {
        user: pg_sys::InvalidOid,
        context: 0,
    };
    // SAFETY: the pattern of PostgreSQL's own maintenance commands: save, switch, restore.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
        let role = role.unwrap_or(before.user);
        pg_sys::SetUserIdAndSecContext(role, before.context | flags as i32);
    }
    before
}

impl Before {
    fn restore(self) {
        // SAFETY: what GetUserIdAndSecContext has told.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) }
    }
}

/// Runs `body` with flags added to the security context.
fn with_user<R>(role: Option<pg_sys::Oid>, flags: u32, body: impl FnOnce() -> R) -> R {
    let before = switch(role, flags);
    let result = body();
    before.restore();
    result
}

/// What becomes of settings that somebody's code changes inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settings {
    /// All are as before.
    Restored,
    /// Kept, but for the search_path.
    Kept,
}

/// Runs `body` with a search_path that only superusers can write to.
fn with_safe_search_path<R>(settings: Settings, body: impl FnOnce() -> R) -> R {
    let before = (settings == Settings::Kept).then(|| session_setting(SEARCH_PATH));
    // SAFETY: a level of settings of its own, ended here or by the abort; name and value are static.
    let result = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            SEARCH_PATH.as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let result = body();
        pg_sys::AtEOXact_GUC(settings == Settings::Kept, level);
        result
    };
    if before.is_some_and(|before| before != session_setting(SEARCH_PATH)) {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
            "a function that plugin_webhooks has called changed the search_path of the session"
        );
    }
    result
}

/// Runs `body` with the rights that it has, as a security-restricted operation.
pub fn restricted<R>(body: impl FnOnce() -> R) -> R {
    with_user(None, pg_sys::SECURITY_RESTRICTED_OPERATION, body)
}

/// Runs `body` as `role` with the caller's search_path: for code that looks up no name, as far as one can tell.
/// Settings are as before afterwards.
pub fn as_role_only<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    with_user(Some(role), AS_ANOTHER, || {
        // SAFETY: a level of settings of its own, ended here or by the abort.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            let result = body();
            pg_sys::AtEOXact_GUC(false, level);
            result
        }
    })
}

/// Whether this runs inside a section of somebody's, such as the ones above: what happens here may be the doing of
/// others than the session's user.
pub fn in_restricted_operation() -> bool {
    // SAFETY: a copy of process state.
    unsafe { pg_sys::InSecurityRestrictedOperation() }
}

/// Runs `body` as `role` with a search_path nobody else can write to. Settings are as before afterwards.
pub fn as_role<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    // An owner who forces row security upon himself has not meant this.
    let flags = AS_ANOTHER | pg_sys::SECURITY_NOFORCE_RLS;
    with_user(Some(role), flags, || {
        with_safe_search_path(Settings::Restored, body)
    })
}

/// `as_role` for a function whose effect is a setting, such as the host's `authz.rpc_setup()`, which sets the
/// tenant context: what it sets stays, for the transaction or the session, as after any call of a function.
pub fn as_role_keeping_settings<R>(role: pg_sys::Oid, body: impl FnOnce() -> R) -> R {
    let flags = AS_ANOTHER | pg_sys::SECURITY_NOFORCE_RLS;
    with_user(Some(role), flags, || {
        with_safe_search_path(Settings::Kept, body)
    })
}

/// Has deferrable constraints checked, and deferred triggers fired, at the end of each statement from now until the
/// end of the transaction. What was deferred so far is fired now, as the session's user, as it would have been at the
/// commit. Inside a security-restricted operation nothing can be deferred, and what the session's user has deferred
/// before is not to be fired by anybody else.
pub fn set_constraints_immediate() {
    if in_restricted_operation() {
        return;
    }
    // SAFETY: a copy of process state.
    let session = unsafe { pg_sys::GetOuterUserId() };
    with_user(Some(session), pg_sys::SECURITY_LOCAL_USERID_CHANGE, || {
        Spi::run("SET CONSTRAINTS ALL IMMEDIATE").unwrap_or_report();
    });
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
    if joined_owners(table).any(|(_, owner)| owner != role) {
        refuse_different_owners(table);
    }
    as_role(role, body)
}

/// What one owner hangs on its table would run with the rights of another.
#[cold]
fn refuse_different_owners(table: TableName<'_>) -> ! {
    let schema = table.schema.to_string_lossy();
    let list: Vec<_> = joined_owners(table)
        .map(|(name, owner)| {
            format!(
                "{schema}.{} of {}",
                name.to_string_lossy(),
                role_name(owner)
            )
        })
        .collect();
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!(
            "tables that are read together have different owners: {}",
            list.join(", ")
        ),
        "plugin_webhooks",
    )
    .set_hint("Give all of them to one role: ALTER TABLE ... OWNER TO.")
    .report(PgLogLevel::ERROR);
    unreachable!("an error is raised")
}

/// A transaction that acts as one role, in a security-restricted operation, from right after its start until
/// its commit has returned: what runs at the commit runs as this role too.
pub struct ActingAs(Before);

impl ActingAs {
    /// Call it right after the start of a transaction. `None`: with the rights that the session has.
    pub fn begin(role: Option<pg_sys::Oid>) -> Self {
        Self(switch(role, AS_ANOTHER | pg_sys::SECURITY_NOFORCE_RLS))
    }

    /// Call it right after the commit, which puts nothing back; an abort does.
    pub fn end(self) {
        self.0.restore();
    }
}
