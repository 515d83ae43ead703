//! What a caller may do in a tenant. Every function for admins passes `authorize` first.

use pgrx::Uuid;
use pgrx::prelude::*;

use super::claims;
use super::context::{is_operator, tenant_id, user_id};
use crate::error::{Error, Result, required};
use crate::host;

/// The permission that every function for admins asks for.
const ADMIN: &str = "tenant.admin";

/// Who may act for a tenant.
pub struct Caller {
    pub tenant: Uuid,
    /// Null for an operator.
    pub user: Option<Uuid>,
}

fn has_permission(user: Uuid, tenant: Uuid, permission: &str) -> Result<bool> {
    if let Some(function) = host::find(host::HAS_PERMISSION)? {
        let holds = function.call::<bool>(&[user.into(), tenant.into(), permission.into()]);
        return Ok(holds.unwrap_or(false));
    }
    Ok(claims::hold(tenant, permission))
}

/// Whether a user belongs to a tenant, as far as the host can tell. Without a host the claims tell it,
/// of the caller alone.
pub fn is_member(user: Uuid, tenant: Uuid) -> Result<bool> {
    if let Some(function) = host::find(host::IS_TENANT_MEMBER)? {
        let is_member = function.call::<bool>(&[user.into(), tenant.into()]);
        return Ok(is_member.unwrap_or(false));
    }
    Ok(claims::tenant() == Some(tenant))
}

/// Lets an admin of the tenant, or an operator, pass.
pub fn authorize(tenant: Option<Uuid>) -> Result<Caller> {
    let tenant = required("p_tenant_id", tenant)?;
    if is_operator() {
        return Ok(Caller { tenant, user: None });
    }
    if let Some(function) = host::find(host::RPC_SETUP)? {
        let user = function.call_keeping_settings::<Uuid>(&[tenant.into(), ADMIN.into()]);
        let user = Some(user.ok_or(Error::NotAuthenticated)?);
        return Ok(Caller { tenant, user });
    }
    let user = user_id()?.ok_or(Error::NotAuthenticated)?;
    if !is_member(user, tenant)? {
        return Err(Error::NotMember.into());
    }
    if !has_permission(user, tenant, ADMIN)? {
        return Err(Error::MissingPermission(ADMIN).into());
    }
    let user = Some(user);
    Ok(Caller { tenant, user })
}

/// The calling user, for the tenant views.
#[pg_extern(sql = false)]
fn current_user_id() -> Option<Uuid> {
    user_id().ok().flatten()
}

/// The tenant context if the caller administers it, for the tenant views. Nobody does while what the host
/// decides by is not what was bound.
#[pg_extern(sql = false)]
fn admin_tenant_id() -> Option<Uuid> {
    let tenant = tenant_id().ok()??;
    if is_operator() {
        return Some(tenant);
    }
    let user = user_id().ok()??;
    has_permission(user, tenant, ADMIN)
        .unwrap_or(false)
        .then_some(tenant)
}
