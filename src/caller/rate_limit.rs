//! How often a function may be called a minute. Counts by `util.check_rate_limit` where the host has
//! it, else in `plugin_webhooks.rate_limits`.

use pgrx::{Uuid, pg_sys};

use super::permission::Caller;
use crate::error::{Error, Result};
use crate::{host, pg, tables};

const PURGE: &str = "DELETE FROM plugin_webhooks.rate_limits AS r
     WHERE r.ctid = ANY (ARRAY(
         SELECT o.ctid FROM plugin_webhooks.rate_limits AS o
         WHERE o.window_start < pg_catalog.now() - pg_catalog.make_interval(mins => 10)
         LIMIT $1 FOR UPDATE SKIP LOCKED))";

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

    /// Counts a partner's call of an installation around the work it asks for. Where the host counts, it does so for
    /// whoever installed the plugin, and first: its users come first in its order of locks. Otherwise the call is
    /// counted when it is done. The counter stays locked until the end of the transaction, and no other call should
    /// wait for this one's work.
    pub fn count_call<R>(
        &self,
        installation: Uuid,
        tenant: Uuid,
        installed_by: Option<Uuid>,
        work: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let key = installation.to_string();
        // The host's function raises for nobody, and for a user who is gone.
        let user = installed_by.filter(|user| is_user(*user));
        if let Some(allowed) = user.and_then(|_| self.asked_host(&key, user, tenant)) {
            self.check(allowed)?;
            return work();
        }
        self.check(!self.used_up(&key))?;
        let result = work()?;
        self.check(self.counted_here(&key))?;
        Ok(result)
    }

    fn count_key(&self, key: &str, user: Option<Uuid>, tenant: Uuid) -> Result<()> {
        let allowed = self
            .asked_host(key, user, tenant)
            .unwrap_or_else(|| self.counted_here(key));
        self.check(allowed)
    }

    fn check(&self, allowed: bool) -> Result<()> {
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
        let allowed = host::usable(host::CHECK_RATE_LIMIT)?.call::<bool>(&[
            self.operation.into(),
            key.into(),
            self.max.into(),
            1.into(),
            user.into(),
            tenant.into(),
        ]);
        Some(allowed.unwrap_or(true))
    }

    fn bucket(&self, key: &str) -> String {
        format!("{}:{key}", self.operation)
    }

    /// Whether no call is left in this minute, as far as others have committed theirs. Locks nothing.
    fn used_up(&self, key: &str) -> bool {
        let hits = pg::with_latest_snapshot(|| {
            tables::RATE_LIMITS.one::<i32>(
                "SELECT hits FROM plugin_webhooks.rate_limits
                 WHERE bucket = $1
                   AND window_start = pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp())",
                &[self.bucket(key).into()],
            )
        });
        hits.unwrap_or(0) >= self.max
    }

    fn counted_here(&self, key: &str) -> bool {
        let hits = tables::RATE_LIMITS.write_returning::<i32>(
            "INSERT INTO plugin_webhooks.rate_limits AS r (bucket, window_start, hits)
             VALUES ($1, pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()), 1)
             ON CONFLICT (bucket) DO UPDATE SET
                 hits = CASE WHEN r.window_start = excluded.window_start THEN r.hits + 1 ELSE 1 END,
                 window_start = excluded.window_start
             RETURNING hits",
            &[self.bucket(key).into()],
        );
        hits.unwrap_or(0) <= self.max
    }
}

/// Deletes up to `rows` counters of minutes that are long over; returns how many.
pub fn purge(rows: i32) -> usize {
    let types = [pg_sys::BuiltinOid::INT4OID];
    tables::RATE_LIMITS.run_kept(PURGE, &types, &[rows.into()], |table| Ok(table.len()))
}

/// Whether the host has this user, as far as it has users.
fn is_user(user: Uuid) -> bool {
    host::table("auth", "users").is_none_or(|users| {
        let found = users.as_owner(|| {
            pg::one::<bool>(
                "SELECT EXISTS (SELECT FROM auth.users AS u WHERE u.id = $1)",
                &[user.into()],
            )
        });
        found == Some(true)
    })
}
