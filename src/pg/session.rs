//! The session: its settings, who uses it, what it shows to others, its transaction's time. Holds no
//! state of its own and knows no setting by name.
#![expect(unsafe_code, reason = "PostgreSQL's globals")]

use std::ffi::CStr;
use std::ops::RangeInclusive;

use pgrx::pg_sys;

/// Whether the session's own role (or SET ROLE's) is a superuser: not the owner that a SECURITY
/// DEFINER function switches to.
pub fn outer_user_is_superuser() -> bool {
    // SAFETY: a copy of process state, and a syscache look-up of a role that may be gone.
    unsafe { pg_sys::superuser_arg(pg_sys::GetOuterUserId()) }
}

/// The role whose rights count now.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: a copy of process state.
    unsafe { pg_sys::GetUserId() }
}

/// Whether the role whose rights count now is a superuser.
pub fn current_user_is_superuser() -> bool {
    // SAFETY: a copy of process state, and a syscache look-up of a role that may be gone.
    unsafe { pg_sys::superuser() }
}

/// A setting of the session, `None` where it is unknown or empty.
pub fn session_setting(name: &CStr) -> Option<String> {
    // SAFETY: reads a C string; with missing_ok it returns null instead of raising, else a C string
    // that is copied before anything can change the setting.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        let text = CStr::from_ptr(value).to_string_lossy().into_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// Refuses settings of this prefix that are not defined, so that a misspelt one is noticed.
pub fn reserve_setting_prefix(prefix: &'static CStr) {
    // SAFETY: PostgreSQL copies the prefix into its list.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Shows this text in place of the running query in pg_stat_activity and in the STATEMENT line of an
/// error. The next query takes its place.
pub fn hide_query(shown: &'static CStr) {
    // SAFETY: the text is static: the first keeps the pointer, the second copies the text.
    unsafe {
        pg_sys::debug_query_string = shown.as_ptr();
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, shown.as_ptr());
    }
}

/// Whether CREATE or ALTER EXTENSION runs.
pub fn in_extension_script() -> bool {
    // SAFETY: a flag of this process.
    unsafe { pg_sys::creating_extension }
}

/// Runs `body` as if no CREATE or ALTER EXTENSION ran: while one does, PostgreSQL takes every
/// object and grant for a part of the extension, which no dump carries.
pub fn outside_extension_script<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: a flag of this process; CREATE and ALTER EXTENSION reset it when an error passes.
    unsafe {
        let creating = pg_sys::creating_extension;
        pg_sys::creating_extension = false;
        let result = body();
        pg_sys::creating_extension = creating;
        result
    }
}

/// From the start of the transaction to now.
pub fn transaction_so_far() -> RangeInclusive<pg_sys::TimestampTz> {
    // SAFETY: the first reads a field of the transaction's state, the second the clock.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp()..=pg_sys::GetCurrentTimestamp() }
}
