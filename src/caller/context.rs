//! The calling user and the tenant context of a session. Decides nothing.

use pgrx::Uuid;
use plugin_webhooks_core::uuid;

use super::claims;
use crate::error::Result;
use crate::{host, pg};

/// A superuser without claims acts for any tenant. The role that counts is the session's own
/// (or SET ROLE's), not the owner that a SECURITY DEFINER function switches to. What somebody else's code calls
/// from within a superuser's statement is no superuser's call.
pub fn is_operator() -> bool {
    pg::outer_user_is_superuser() && !pg::in_restricted_operation() && !claims::exist()
}

/// The calling user: the host's `auth.uid()` where there is one, else claim `sub`.
pub fn user_id() -> Result<Option<Uuid>> {
    let hosts = pg::foreign_code(host::user_id)?;
    Ok(hosts.unwrap_or_else(claims::user))
}

/// The tenant context: the host's `authz.get_current_tenant_id()` where there is one, else claim
/// `tenant_id`, else the setting `app.current_tenant_id`.
pub fn tenant_id() -> Result<Option<Uuid>> {
    if let Some(function) = host::find(host::TENANT_CONTEXT)? {
        return Ok(function.call(&[]));
    }
    Ok(claims::tenant().or_else(|| {
        let text = pg::session_setting(c"app.current_tenant_id")?;
        uuid::parse(text.as_bytes()).map(Uuid::from_bytes)
    }))
}
