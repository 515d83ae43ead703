//! The SQL tests, those of `pgrx-tests/`: functions of schema `tests`, each run in a transaction of its own that
//! is rolled back.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use plugin_webhooks_kit::postgres::{self, Client};
use plugin_webhooks_kit::{Server, Tree, create_supabase_roles, describe, quote_ident};

use crate::names::Names;
use crate::tally::Counts;
use crate::workspace::{Build, Workspace};

const SETTINGS: &[(&str, &str)] = &[("plugin_webhooks.allowed_networks", "127.0.0.0/8")];

const LIST: &str = "
    select p.proname::text
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'tests' and p.pronargs = 0
    order by p.proname";

/// Whether one of the sources has a function of a wanted name: asked before anything is built.
pub fn any(root: &Path, names: &Names) -> Result<bool> {
    let folder = root.join("pgrx-tests");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let source =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut functions = source
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("fn ")?.split_once('('));
        if functions.any(|(name, _)| names.select(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub fn run(workspace: &Workspace, names: &Names) -> Result<Counts> {
    let package = workspace.package(Build::DebugWithTests)?;
    // The kit panics when it cannot start a server, and has printed why.
    catch_unwind(AssertUnwindSafe(|| {
        let tree = Tree::create(workspace.pg_config(), &package);
        let server = Server::preloaded(&tree, SETTINGS);
        run_all(&server, names)
    }))
    .unwrap_or_else(|_| Err(anyhow!("the server for the tests does not work")))
}

fn run_all(server: &Server, names: &Names) -> Result<Counts> {
    let database = server.database_with(create_supabase_roles);
    let mut client = database.client();
    let mut counts = Counts::default();
    for row in client.query(LIST, &[])? {
        let name: String = row.get(0);
        if !names.select(&name) {
            continue;
        }
        if client.is_closed() {
            // The test before this one took its server process with it.
            server.wait_ready();
            client = database.client();
        }
        let started = Instant::now();
        let result = run_one(&mut client, &name);
        match &result {
            Ok(()) => println!("test {name} ... ok ({:.0?})", started.elapsed()),
            Err(error) => println!("test {name} ... FAILED\n{}", describe(error)),
        }
        counts.add(Counts::one(result.is_ok()));
    }
    Ok(counts)
}

fn run_one(client: &mut Client, name: &str) -> Result<(), postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(&format!("select tests.{}()", quote_ident(name)))?;
    transaction.rollback()
}
