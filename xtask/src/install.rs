//! `cargo xtask install`: the release build into the system's PostgreSQL.

use anyhow::{Context, Result};

use crate::system::{Purpose, user_id};
use crate::tools;
use crate::workspace::{run as run_command, step};

const NEXT: &str = "\
Installed. Next, in postgresql.conf:

  shared_preload_libraries = 'plugin_webhooks'    # beside what is there already

then restart PostgreSQL and, in the database that shall deliver webhooks, as superuser:

  create extension plugin_webhooks;

Without the restart everything works too, except that deliveries wait until
public.rpc_process_plugin_deliveries() is called.";

pub fn run() -> Result<()> {
    let workspace = tools::prepare(Purpose::Build)?;
    step("building and installing the extension");
    let mut install = workspace.cargo_pgrx();
    install
        .args(["install", "--release", "--pg-config"])
        .arg(workspace.pg_config());
    if user_id()? != 0 {
        install.arg("--sudo");
    }
    run_command(&mut install).context("the extension is not installed")?;
    println!("\n{NEXT}");
    Ok(())
}
