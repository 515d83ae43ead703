//! The claims of the verified JWT, as PostgREST puts them into the setting `request.jwt.claims`.
//! Believes them: verifying was PostgREST's.

use std::ffi::CStr;

use pgrx::Uuid;
use plugin_webhooks_core::uuid;
use serde_json::Value;

use crate::pg;

/// Where PostgREST puts them.
pub const SETTING: &CStr = c"request.jwt.claims";

/// Whether the session carries any, even unreadable ones.
pub fn exist() -> bool {
    pg::session_setting(SETTING).is_some()
}

fn claims() -> Option<Value> {
    serde_json::from_str(&pg::session_setting(SETTING)?).ok()
}

fn uuid_of(claims: &Value, name: &str) -> Option<Uuid> {
    uuid::parse(claims.get(name)?.as_str()?.as_bytes()).map(Uuid::from_bytes)
}

/// Claim `sub`.
pub fn user() -> Option<Uuid> {
    uuid_of(&claims()?, "sub")
}

/// Claim `tenant_id`.
pub fn tenant() -> Option<Uuid> {
    uuid_of(&claims()?, "tenant_id")
}

/// Whether the claims are for this tenant and hold a permission there, in `permissions` or
/// `app_metadata.permissions`.
pub fn hold(tenant: Uuid, permission: &str) -> bool {
    claims().is_some_and(|claims| {
        uuid_of(&claims, "tenant_id") == Some(tenant)
            && permissions(&claims).any(|held| held == permission)
    })
}

fn permissions(claims: &Value) -> impl Iterator<Item = &str> {
    [
        claims.get("permissions"),
        claims
            .get("app_metadata")
            .and_then(|metadata| metadata.get("permissions")),
    ]
    .into_iter()
    .flatten()
    .filter_map(Value::as_array)
    .flatten()
    .filter_map(Value::as_str)
}
