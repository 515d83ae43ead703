//! Programs of other languages that use a database as backends do: what `tests/clients` holds, run with the packages
//! that it pins.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::account::clean_command;
use crate::caller::AUTHENTICATOR;
use crate::database::Database;

/// The environment variable with the directory that holds `node_modules` and `venv`.
pub const CLIENTS_VARIABLE: &str = "PLUGIN_WEBHOOKS_CLIENTS";
/// The one that says instead why there is none.
pub const NO_CLIENTS_VARIABLE: &str = "PLUGIN_WEBHOOKS_NO_CLIENTS";

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients");
/// A program that hangs fails its test.
const SECONDS: &str = "90";

/// Runs a script of `tests/clients`, for Node.js or Python by its name. libpq's variables name the database and the
/// user `authenticator`; `variables` are added.
///
/// # Panics
/// When the script fails or takes too long; the message is what it printed.
#[track_caller]
pub fn run_client(database: &Database, script: &str, variables: &[(&str, &str)]) {
    let packages = packages();
    let mut command = clean_command(Path::new("timeout"));
    command.args(["--kill-after=5", SECONDS]);
    if script.ends_with(".py") {
        command.arg(packages.join("venv/bin/python")).arg("-B");
    } else {
        command.arg("node");
        command.env("NODE_PATH", packages.join("node_modules"));
    }
    command.arg(Path::new(SCRIPTS).join(script));
    database.server().point_here(&mut command);
    let output = command
        .env("PGDATABASE", database.name())
        .env("PGUSER", AUTHENTICATOR)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("run timeout");
    assert!(
        output.status.success(),
        "tests/clients/{script} failed ({}; 124: it took {SECONDS} s):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

#[track_caller]
fn packages() -> PathBuf {
    match (
        std::env::var_os(CLIENTS_VARIABLE),
        std::env::var(NO_CLIENTS_VARIABLE),
    ) {
        (Some(packages), _) => packages.into(),
        (None, Ok(reason)) => panic!("no clients to test with: {reason}"),
        (None, Err(_)) => {
            panic!("{CLIENTS_VARIABLE} is not set: run `cargo xtask test e2e`, which installs them")
        }
    }
}
