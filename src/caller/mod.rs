//! Who calls, for which tenant, with which permission, how often.
//! Asks the host's functions where they exist, and the verified JWT claims where not.

use std::cell::Cell;

use pgrx::Uuid;
use pgrx::prelude::*;
use serde_json::Value;

use crate::error::{Error, Result, required};
use crate::pg::{self, cache};

/// The permission that every admin function asks for.
pub const ADMIN: &str = "tenant.admin";

/// Who made the call.
pub struct Caller {
    /// Null for an operator.
    pub user: Option<Uuid>,
}

/// Limits per minute, per user and tenant.
pub struct Limit {
    pub operation: &'static str,
    pub max: i32,
}

pub const INSTALL: Limit = Limit {
    operation: "rpc_install_plugin",
    max: 10,
};
pub const UPDATE: Limit = Limit {
    operation: "rpc_update_plugin_installation",
    max: 20,
};
pub const UNINSTALL: Limit = Limit {
    operation: "rpc_uninstall_plugin",
    max: 10,
};
pub const SUBSCRIBE: Limit = Limit {
    operation: "rpc_upsert_plugin_webhook_subscription",
    max: 30,
};
pub const UNSUBSCRIBE: Limit = Limit {
    operation: "rpc_delete_plugin_webhook_subscription",
    max: 30,
};
pub const INGEST: Limit = Limit {
    operation: "rpc_plugin_ingest_webhook",
    max: 120,
};

fn claims() -> Option<Value> {
    serde_json::from_str(&pg::session_setting(c"request.jwt.claims")?).ok()
}

fn uuid_claim(claims: &Value, name: &str) -> Option<Uuid> {
    parse_uuid(claims.get(name)?.as_str()?)
}

/// A uuid in its usual text forms; `None` for anything else.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    uuid_bytes(text.as_bytes()).map(Uuid::from_bytes)
}

/// The bytes of a uuid in its usual text forms. Allocates nothing.
pub fn uuid_bytes(text: &[u8]) -> Option<[u8; 16]> {
    let mut text = text.trim_ascii();
    while let [b'{', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'}'] = text {
        text = rest;
    }
    let mut bytes = [0_u8; 16];
    let mut digits = 0;
    for letter in text.iter().filter(|letter| **letter != b'-') {
        let digit = char::from(*letter).to_digit(16)? as u8;
        *bytes.get_mut(digits / 2)? |= if digits % 2 == 0 { digit << 4 } else { digit };
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

/// A superuser without claims acts for any tenant. The role that counts is the session's own
/// (or SET ROLE's), not the owner that a SECURITY DEFINER function switches to.
pub fn is_operator() -> bool {
    pg::outer_user_is_superuser() && pg::session_setting(c"request.jwt.claims").is_none()
}

/// The calling user: `auth.uid()` where there is one, else claim `sub`.
pub fn user_id() -> Option<Uuid> {
    if pg::function_exists("auth.uid()") {
        return pg::one::<Uuid>("SELECT auth.uid()", &[]);
    }
    claimed_user()
}

/// Claim `sub`.
pub fn claimed_user() -> Option<Uuid> {
    uuid_claim(&claims()?, "sub")
}

/// Whether the host has `auth.uid()`.
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
    claims()
        .and_then(|claims| uuid_claim(&claims, "tenant_id"))
        .or_else(|| parse_uuid(&pg::session_setting(c"app.current_tenant_id")?))
}

fn claimed_permissions(claims: &Value) -> impl Iterator<Item = &str> {
    [
        claims.get("permissions"),
        claims
            .get("app_metadata")
            .and_then(|meta| meta.get("permissions")),
    ]
    .into_iter()
    .flatten()
    .filter_map(Value::as_array)
    .flatten()
    .filter_map(Value::as_str)
}

fn has_permission(user: Uuid, tenant: Uuid, permission: &str) -> bool {
    if pg::function_exists("authz.has_permission(uuid,uuid,text)") {
        return pg::one::<bool>(
            "SELECT authz.has_permission($1, $2, $3)",
            &[user.into(), tenant.into(), permission.into()],
        )
        .unwrap_or(false);
    }
    claims().is_some_and(|claims| {
        uuid_claim(&claims, "tenant_id") == Some(tenant)
            && claimed_permissions(&claims).any(|held| held == permission)
    })
}

fn is_member(user: Uuid, tenant: Uuid) -> bool {
    if pg::function_exists("authz.is_tenant_member(uuid,uuid)") {
        return pg::one::<bool>(
            "SELECT authz.is_tenant_member($1, $2)",
            &[user.into(), tenant.into()],
        )
        .unwrap_or(false);
    }
    claims().is_some_and(|claims| uuid_claim(&claims, "tenant_id") == Some(tenant))
}

/// Lets an admin of the tenant, or an operator, pass.
pub fn authorize(tenant: Option<Uuid>) -> Result<(Uuid, Caller)> {
    let tenant = required("p_tenant_id", tenant)?;
    if is_operator() {
        return Ok((tenant, Caller { user: None }));
    }
    if pg::function_exists("authz.rpc_setup(uuid,text)") {
        let user = pg::foreign_code(|| {
            pg::write_returning::<Uuid>(
                "SELECT authz.rpc_setup($1, $2)",
                &[tenant.into(), ADMIN.into()],
            )
        });
        return Ok((
            tenant,
            Caller {
                user: Some(user.ok_or(Error::NotAuthenticated)?),
            },
        ));
    }
    let user = user_id().ok_or(Error::NotAuthenticated)?;
    if !is_member(user, tenant) {
        return Err(Error::NotMember.into());
    }
    if !has_permission(user, tenant, ADMIN) {
        return Err(Error::MissingPermission(ADMIN).into());
    }
    Ok((tenant, Caller { user: Some(user) }))
}

/// Counts this call and raises when there were too many in this minute. An operator is not limited.
pub fn limit(limit: &Limit, caller: &Caller, tenant: Uuid) -> Result<()> {
    let Some(user) = caller.user else {
        return Ok(());
    };
    count_call(limit, &format!("{tenant}:{user}"), Some(user), tenant)
}

/// Counts a call by an explicit key; `user` may be unknown.
pub fn count_call(limit: &Limit, key: &str, user: Option<Uuid>, tenant: Uuid) -> Result<()> {
    let exceeded = || Error::RateLimit {
        operation: limit.operation,
        max: limit.max,
    };
    if pg::function_exists("util.check_rate_limit(text,text,integer,integer,uuid,uuid)") {
        let allowed = pg::foreign_code(|| {
            pg::write_returning::<bool>(
                "SELECT util.check_rate_limit($1, $2, $3, 1, $4, $5)",
                &[
                    limit.operation.into(),
                    key.into(),
                    limit.max.into(),
                    user.into(),
                    tenant.into(),
                ],
            )
        });
        return match allowed {
            Some(false) => Err(exceeded().into()),
            _ => Ok(()),
        };
    }
    let hits = pg::write_returning::<i32>(
        "INSERT INTO plugin_webhooks.rate_limits AS r (bucket, window_start, hits)
         VALUES ($1, pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()), 1)
         ON CONFLICT (bucket) DO UPDATE SET
             hits = CASE WHEN r.window_start = excluded.window_start THEN r.hits + 1 ELSE 1 END,
             window_start = excluded.window_start
         RETURNING hits",
        &[format!("{}:{key}", limit.operation).into()],
    );
    if hits.unwrap_or(0) > limit.max {
        return Err(exceeded().into());
    }
    Ok(())
}

/// The current user, see `user_id`.
#[pg_extern(sql = false)]
fn current_user_id() -> Option<Uuid> {
    user_id()
}

/// The tenant context if the caller administers it.
#[pg_extern(sql = false)]
fn admin_tenant_id() -> Option<Uuid> {
    let tenant = tenant_id()?;
    if is_operator() {
        return Some(tenant);
    }
    has_permission(user_id()?, tenant, ADMIN).then_some(tenant)
}

/// Whether a user belongs to a tenant, as far as the host can tell.
pub fn user_is_member(user: Uuid, tenant: Uuid) -> bool {
    is_member(user, tenant)
}
