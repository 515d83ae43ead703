//! The calling user and the tenant context of a session. Decides nothing.

use std::cell::Cell;

use pgrx::Uuid;
use plugin_webhooks_core::uuid;

use super::claims;
use crate::pg::{self, cache};

/// A superuser without claims acts for any tenant. The role that counts is the session's own
/// (or SET ROLE's), not the owner that a SECURITY DEFINER function switches to.
pub fn is_operator() -> bool {
    pg::outer_user_is_superuser() && !claims::exist()
}

/// The calling user: `auth.uid()` where there is one, else claim `sub`.
pub fn user_id() -> Option<Uuid> {
    if pg::function_exists("auth.uid()") {
        return pg::one::<Uuid>("SELECT auth.uid()", &[]);
    }
    claims::user()
}

/// Whether the host has `auth.uid()`. Kept as long as the catalogs do not change: each audited
/// statement asks.
pub fn has_auth_uid() -> bool {
    thread_local! {
        static KNOWN: Cell<(u64, bool)> = const { Cell::new((0, false)) };
    }
    let generation = cache::generation();
    let (known_in, known) = KNOWN.get();
    if known_in == generation {
        return known;
    }
    let exists = pg::function_without_arguments(c"auth", c"uid").is_some();
    KNOWN.set((generation, exists));
    exists
}

/// The tenant context: `authz.get_current_tenant_id()` where there is one, else claim
/// `tenant_id`, else the setting `app.current_tenant_id`.
pub fn tenant_id() -> Option<Uuid> {
    if pg::function_exists("authz.get_current_tenant_id()") {
        return pg::one::<Uuid>("SELECT authz.get_current_tenant_id()", &[]);
    }
    claims::tenant().or_else(|| {
        let text = pg::session_setting(c"app.current_tenant_id")?;
        uuid::parse(text.as_bytes()).map(Uuid::from_bytes)
    })
}
