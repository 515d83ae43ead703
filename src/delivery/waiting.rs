//! Which rows wait to be sent, by installation. Reads only; who goes first is decided by the limiter.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Instant;

use pgrx::datum::DatumWithOid;
use pgrx::{JsonB, Uuid, pg_sys};
use plugin_webhooks_core::limiter::{Permits, Waiting};

use super::queue::{as_queue_owner, nil};
use crate::pg;

const DUE: &str = include_str!("sql/find_due.sql");
const REQUESTED: &str = include_str!("sql/find_requested.sql");
const OLDEST_DUE: &str = include_str!("sql/oldest_due.sql");

const FIND_TYPES: [pg_sys::BuiltinOid; 2] =
    [pg_sys::BuiltinOid::INT4OID, pg_sys::BuiltinOid::JSONBOID];

/// Rows that wait.
#[derive(Default)]
pub struct Rows {
    /// The installations they belong to.
    pub installations: Vec<Waiting<Uuid>>,
    /// The ids of each installation's rows, in the order in which they go.
    ids: Vec<Vec<Uuid>>,
    index: HashMap<Uuid, usize>,
}

impl Rows {
    /// Adds due rows, but for those of the installations `held`.
    pub fn add_due(&mut self, permits: &Permits<Uuid>, held: &HashMap<Uuid, Instant>) {
        self.add(DUE, permits, held);
    }

    /// Adds rows whose dispatch the processor requested.
    pub fn add_requested(&mut self, permits: &Permits<Uuid>) {
        self.add(REQUESTED, permits, &HashMap::new());
    }

    fn add(
        &mut self,
        statement: &'static str,
        permits: &Permits<Uuid>,
        held: &HashMap<Uuid, Instant>,
    ) {
        let listed = permits.listed.iter();
        let listed = listed.map(|(installation, permits)| {
            (installation.to_string(), serde_json::Value::from(*permits))
        });
        let listed = JsonB(serde_json::Value::Object(listed.collect()));
        let args: [DatumWithOid<'_>; 2] = [limit(permits.unlisted).into(), listed.into()];
        as_queue_owner(|| {
            pg::run_kept(statement, &FIND_TYPES, &args, |table| {
                for row in table {
                    let tenant = row.get::<Uuid>(1)?.unwrap_or_else(nil);
                    let installation = row.get::<Uuid>(2)?.unwrap_or_else(nil);
                    if held.contains_key(&installation) {
                        continue;
                    }
                    match row.get::<Vec<Uuid>>(3)? {
                        // It was looked at, and has no due row.
                        Some(ids) if ids.is_empty() => {}
                        ids => self.add_installation(tenant, installation, ids.unwrap_or_default()),
                    }
                }
                Ok(())
            });
        });
    }

    fn add_installation(&mut self, tenant: Uuid, installation: Uuid, ids: Vec<Uuid>) {
        let n = *self.index.entry(installation).or_insert_with(|| {
            self.ids.push(Vec::new());
            self.installations.push(Waiting {
                tenant,
                installation,
                due: 0,
            });
            self.ids.len() - 1
        });
        self.installations[n].due += ids.len();
        self.ids[n].extend(ids);
    }

    /// The ids of the rows whose installations, by index, have been dealt a thread each.
    pub fn dealt(&self, threads: &[usize]) -> Vec<Uuid> {
        let mut ids: Vec<_> = self.ids.iter().map(|ids| ids.iter()).collect();
        threads
            .iter()
            .filter_map(|n| ids[*n].next().copied())
            .collect()
    }
}

/// Up to `total` due rows, for which tenants and installations take turns: their ids and their installations.
pub fn oldest(total: usize) -> Vec<(Uuid, Uuid)> {
    use pg_sys::BuiltinOid as T;
    static STATEMENT: OnceLock<String> = OnceLock::new();
    let statement = STATEMENT.get_or_init(|| OLDEST_DUE.replace("        {found}", DUE));
    let types = [T::INT4OID, T::JSONBOID, T::INT4OID];
    let total = limit(total);
    let listed = JsonB(serde_json::Value::Object(serde_json::Map::new()));
    let args: [DatumWithOid<'_>; 3] = [total.into(), listed.into(), total.into()];
    as_queue_owner(|| {
        pg::run_kept(statement, &types, &args, |table| {
            table
                .into_iter()
                .map(|row| {
                    let id = row.get::<Uuid>(1)?.unwrap_or_else(nil);
                    Ok((id, row.get::<Uuid>(2)?.unwrap_or_else(nil)))
                })
                .collect()
        })
    })
}

fn limit(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
