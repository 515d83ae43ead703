//! The host's objects: which of them are used, and how a function of the host is called. A name proves nothing,
//! because everybody with CREATE on the database can make a schema `auth`: a superuser binds what is there
//! (`plugin_webhooks.host_bindings`), and what is not the same any more is not used. Each runs with the rights
//! of its own owner. Decides nothing that the host decides.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::spi::SpiResult;

use crate::error::{Error, Result};
use crate::pg::{self, cache};
use crate::tables;

/// The view plugin_webhooks.host_candidates, for its query.
const CANDIDATES: &str = include_str!("../../sql/install/12_host_candidates.sql");
const BOUND: &str = include_str!("bound.sql");

/// An object of the host, by its name in `plugin_webhooks.host_objects`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object(pub &'static str);

pub const UID: Object = Object("auth.uid()");
pub const TENANT_CONTEXT: Object = Object("authz.get_current_tenant_id()");
pub const RPC_SETUP: Object = Object("authz.rpc_setup(uuid,text)");
pub const HAS_PERMISSION: Object = Object("authz.has_permission(uuid,uuid,text)");
pub const IS_TENANT_MEMBER: Object = Object("authz.is_tenant_member(uuid,uuid)");
pub const CHECK_RATE_LIMIT: Object =
    Object("util.check_rate_limit(text,text,integer,integer,uuid,uuid)");
pub const SECRETS: Object = Object("vault.decrypted_secrets");
pub const WORK_ORDERS: Object = Object("app.work_orders");
pub const PM_SCHEDULES: Object = Object("app.pm_schedules");
pub const PROJECTS: Object = Object("app.projects");
pub const LOCATIONS: Object = Object("app.locations");
pub const ASSETS: Object = Object("app.assets");
pub const PRIORITIES: Object = Object("cfg.priority_catalogs");
pub const MAINTENANCE_TYPES: Object = Object("cfg.maintenance_type_catalogs");
pub const DEFAULT_STATUS: Object = Object("cfg.get_default_status(uuid,text,jsonb)");
pub const PG_NET_RESPONSES: Object = Object("net._http_response");

/// A bound object that is still what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    oid: pg_sys::Oid,
    owner: pg_sys::Oid,
}

impl Bound {
    /// Runs `body`, a statement on this table or view alone, as its owner.
    pub fn as_owner<R>(self, body: impl FnOnce() -> R) -> R {
        pg::as_role(self.owner, body)
    }

    /// Calls this function as its owner.
    pub fn call<T: FromDatum + IntoDatum>(self, arguments: &[DatumWithOid<'_>]) -> Option<T> {
        pg::foreign_code(|| pg::as_role(self.owner, || pg::call(self.oid, arguments)))
    }

    /// The same for a function that makes settings for the rest of the transaction.
    pub fn call_keeping_settings<T: FromDatum + IntoDatum>(
        self,
        arguments: &[DatumWithOid<'_>],
    ) -> Option<T> {
        pg::foreign_code(|| {
            pg::as_role_keeping_settings(self.owner, || pg::call(self.oid, arguments))
        })
    }
}

/// By name; `None` for what was bound and is not the same any more.
type Bindings = HashMap<String, Option<Bound>>;

/// What one generation of the catalogs allows to remember.
struct Known {
    generation: u64,
    bindings: Bindings,
    /// The call of `auth.uid()`, while nobody evaluates it.
    uid: Option<pg::Call>,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

/// Shows what is bound to `read`.
fn with_known<R>(read: impl FnOnce(&mut Known) -> R) -> R {
    let generation = cache::generation();
    let is_current = KNOWN.with_borrow(|known| {
        known
            .as_ref()
            .is_some_and(|known| known.generation == generation)
    });
    if !is_current {
        let bindings = read_bindings();
        // What changed meanwhile, or is changing now, is read again the next time.
        KNOWN.set(Some(Known {
            generation,
            bindings,
            uid: None,
        }));
    }
    KNOWN.with_borrow_mut(|known| read(known.as_mut().expect("was just read")))
}

/// The object if it is bound, `None` where the host has none that is. An error when it was bound and has changed
/// since: what the host decides is not decided without it.
pub fn find(object: Object) -> Result<Option<Bound>> {
    match with_known(|known| known.bindings.get(object.0).copied()) {
        None => Ok(None),
        Some(Some(bound)) => Ok(Some(bound)),
        Some(None) => Err(Error::HostChanged(object.0).into()),
    }
}

/// The object, where one that is missing, unbound or changed are all the same.
pub fn usable(object: Object) -> Option<Bound> {
    find(object).ok().flatten()
}

/// The calling user as `auth.uid()` says; `None` where the host has no such function.
pub fn user_id() -> Result<Option<Option<pgrx::Uuid>>> {
    let Some(function) = find(UID)? else {
        return Ok(None);
    };
    let kept = with_known(|known| known.uid.take().map(|call| (known.generation, call)));
    let generation = cache::generation();
    let user = pg::as_role(function.owner, || {
        let call = match kept {
            Some((of, call)) if of == generation => call,
            _ => pg::Call::of(function.oid),
        };
        let user = call.evaluate();
        KNOWN.with_borrow_mut(|known| {
            if let Some(known) = known
                .as_mut()
                .filter(|known| known.generation == generation)
            {
                known.uid = Some(call);
            }
        });
        user
    });
    Ok(Some(user))
}

/// Runs `body` as the owner of an object that counts as a member of its extension; `None` without one.
pub fn as_owner_of_member<R>(object: Object, body: impl FnOnce() -> R) -> Option<R> {
    let found = trusted_now().get(object.0).copied().flatten();
    found.map(|member| member.as_owner(body))
}

/// A table by its names, which need not be one that this library knows.
pub fn table(schema: &str, name: &str) -> Option<Bound> {
    let object = format!("{schema}.{name}");
    with_known(|known| known.bindings.get(&object).copied()).flatten()
}

fn read_bindings() -> Bindings {
    let Some(table) = pg::relation(tables::HOST_BINDINGS) else {
        return trusted_now();
    };
    // Another table of that name says nothing: the schema may have been renamed.
    let Some(extension) = pg::extension(c"plugin_webhooks") else {
        return Bindings::new();
    };
    if pg::extension_of_relation(table) != Some(extension) {
        return Bindings::new();
    }
    cache::watch(table);
    loop {
        let bindings = pg::with_latest_snapshot(|| {
            pg::as_owner_of(tables::HOST_BINDINGS, || {
                pg::run_kept(BOUND, &[], &[], read_rows)
            })
        });
        // A table's new owner or name is a change of the table. All functions are watched, and oids of both kinds
        // may be: that costs a look more.
        let watched = bindings
            .values()
            .flatten()
            .map(|bound| cache::watch(bound.oid));
        if watched.fold(true, |all, was| all & was) {
            return bindings;
        }
    }
}

/// What could be bound now by the rule. A database whose SQL knows no bindings yet goes by this until ALTER
/// EXTENSION: what 0.2 used for anybody is used for those who are trusted, and nothing stands still.
fn trusted_now() -> Bindings {
    let (_, query) = CANDIDATES
        .split_once("host_candidates AS\n")
        .expect("the file holds that view");
    let statement = format!(
        "SELECT c.object, c.oid, c.owner FROM ({}) AS c
         WHERE c.problem IS NULL AND c.owner_trusted AND c.schema_trusted",
        query.trim_end().trim_end_matches(';')
    );
    pg::with_latest_snapshot(|| {
        pg::as_role(pg::current_user(), || {
            Spi::connect(|client| {
                client
                    .select(statement.as_str(), None, &[])
                    .and_then(read_rows)
            })
            .unwrap_or_report()
        })
    })
}

fn read_rows(table: pgrx::spi::SpiTupleTable<'_>) -> SpiResult<Bindings> {
    let mut bindings = Bindings::new();
    for row in table {
        let Some(object) = row.get::<String>(1)? else {
            continue;
        };
        let (oid, owner) = (row.get(2)?, row.get(3)?);
        let bound = oid.zip(owner).map(|(oid, owner)| Bound { oid, owner });
        bindings.insert(object, bound);
    }
    Ok(bindings)
}
