//! How often a function may be called a minute. Counts by `util.check_rate_limit` where the host has
//! it, else in `plugin_webhooks.rate_limits`.

use pgrx::Uuid;

use super::permission::Caller;
use crate::error::{Error, Result};
use crate::pg;

/// Calls of one function a minute.
pub struct RateLimit {
    operation: &'static str,
    max: i32,
}

pub const INSTALL: RateLimit = RateLimit::new("rpc_install_plugin", 10);
pub const UPDATE: RateLimit = RateLimit::new("rpc_update_plugin_installation", 20);
pub const UNINSTALL: RateLimit = RateLimit::new("rpc_uninstall_plugin", 10);
pub const SUBSCRIBE: RateLimit = RateLimit::new("rpc_upsert_plugin_webhook_subscription", 30);
pub const UNSUBSCRIBE: RateLimit = RateLimit::new("rpc_delete_plugin_webhook_subscription", 30);
pub const INGEST: RateLimit = RateLimit::new("rpc_plugin_ingest_webhook", 120);

impl RateLimit {
    const fn new(operation: &'static str, max: i32) -> Self {
        Self { operation, max }
    }

    /// Counts a call of a user in a tenant and raises when it was one too many in this minute.
    /// An operator is not limited.
    pub fn count(&self, caller: &Caller) -> Result<()> {
        let Caller { tenant, user } = caller;
        match user {
            Some(id) => self.count_key(&format!("{tenant}:{id}"), *user, *tenant),
            None => Ok(()),
        }
    }

    /// Counts a call from outside, by installation: there is no user.
    pub fn count_installation(&self, installation: Uuid, tenant: Uuid) -> Result<()> {
        self.count_key(&installation.to_string(), None, tenant)
    }

    fn count_key(&self, key: &str, user: Option<Uuid>, tenant: Uuid) -> Result<()> {
        let allowed = self
            .asked_host(key, user, tenant)
            .unwrap_or_else(|| self.counted_here(key));
        if allowed {
            return Ok(());
        }
        Err(Error::RateLimit {
            operation: self.operation,
            max: self.max,
        }
        .into())
    }

    /// What the host says; `None` where it has no such function. Its null allows.
    fn asked_host(&self, key: &str, user: Option<Uuid>, tenant: Uuid) -> Option<bool> {
        if !pg::function_exists("util.check_rate_limit(text,text,integer,integer,uuid,uuid)") {
            return None;
        }
        let allowed = pg::foreign_code(|| {
            pg::write_returning::<bool>(
                "SELECT util.check_rate_limit($1, $2, $3, 1, $4, $5)",
                &[
                    self.operation.into(),
                    key.into(),
                    self.max.into(),
                    user.into(),
                    tenant.into(),
                ],
            )
        });
        Some(allowed.unwrap_or(true))
    }

    fn counted_here(&self, key: &str) -> bool {
        let hits = pg::write_returning::<i32>(
            "INSERT INTO plugin_webhooks.rate_limits AS r (bucket, window_start, hits)
             VALUES ($1, pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()), 1)
             ON CONFLICT (bucket) DO UPDATE SET
                 hits = CASE WHEN r.window_start = excluded.window_start THEN r.hits + 1 ELSE 1 END,
                 window_start = excluded.window_start
             RETURNING hits",
            &[format!("{}:{key}", self.operation).into()],
        );
        hits.unwrap_or(0) <= self.max
    }
}
