//! What a caller may do in a tenant. Every function for admins passes `authorize` first.

use pgrx::Uuid;
use pgrx::prelude::*;

use super::claims;
use super::context::{is_operator, tenant_id, user_id};
use crate::error::{Error, Result, required};
use crate::pg;

/// The permission that every function for admins asks for.
const ADMIN: &str = "tenant.admin";

/// Who may act for a tenant.
pub struct Caller {
    pub tenant: Uuid,
    /// Null for an operator.
    pub user: Option<Uuid>,
}

fn has_permission(user: Uuid, tenant: Uuid, permission: &str) -> bool {
    if pg::function_exists("authz.has_permission(uuid,uuid,text)") {
        return pg::one::<bool>(
            "SELECT authz.has_permission($1, $2, $3)",
            &[user.into(), tenant.into(), permission.into()],
        )
        .unwrap_or(false);
    }
    claims::hold(tenant, permission)
}

/// Whether a user belongs to a tenant, as far as the host can tell. Without a host the claims tell it,
/// of the caller alone.
pub fn is_member(user: Uuid, tenant: Uuid) -> bool {
    if pg::function_exists("authz.is_tenant_member(uuid,uuid)") {
        return pg::one::<bool>(
            "SELECT authz.is_tenant_member($1, $2)",
            &[user.into(), tenant.into()],
        )
        .unwrap_or(false);
    }
    claims::tenant() == Some(tenant)
}

/// Lets an admin of the tenant, or an operator, pass.
pub fn authorize(tenant: Option<Uuid>) -> Result<Caller> {
    let tenant = required("p_tenant_id", tenant)?;
    if is_operator() {
        return Ok(Caller { tenant, user: None });
    }
    if pg::function_exists("authz.rpc_setup(uuid,text)") {
        let user = pg::foreign_code(|| {
            pg::write_returning::<Uuid>(
                "SELECT authz.rpc_setup($1, $2)",
                &[tenant.into(), ADMIN.into()],
            )
        });
        let user = Some(user.ok_or(Error::NotAuthenticated)?);
        return Ok(Caller { tenant, user });
    }
    let user = user_id().ok_or(Error::NotAuthenticated)?;
    if !is_member(user, tenant) {
        return Err(Error::NotMember.into());
    }
    if !has_permission(user, tenant, ADMIN) {
        return Err(Error::MissingPermission(ADMIN).into());
    }
    let user = Some(user);
    Ok(Caller { tenant, user })
}

/// The calling user, for the tenant views.
#[pg_extern(sql = false)]
fn current_user_id() -> Option<Uuid> {
    user_id()
}

/// The tenant context if the caller administers it, for the tenant views.
#[pg_extern(sql = false)]
fn admin_tenant_id() -> Option<Uuid> {
    let tenant = tenant_id()?;
    if is_operator() {
        return Some(tenant);
    }
    has_permission(user_id()?, tenant, ADMIN).then_some(tenant)
}
