//! Programs of other languages that use a database as backends do: what `tests/clients` holds, run with the packages
//! that it pins.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    let program = if script.ends_with(".py") {
        "python"
    } else {
        "node"
    };
    let script = Path::new(SCRIPTS).join(script);
    let mut command = with_packages(program);
    command.arg(script);
    database.server().point_here(&mut command);
    command
        .env("PGDATABASE", database.name())
        .env("PGUSER", AUTHENTICATOR)
        .envs(variables.iter().copied());
    succeed(command);
}

/// Runs a program of the repository, by its path in it, with the packages of `tests/clients` and as the server's
/// superuser; returns what it printed.
///
/// # Panics
/// When it fails or takes too long.
#[track_caller]
pub fn run_example(
    database: &Database,
    path: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> String {
    let root = Path::new(SCRIPTS).join("../..");
    let mut command = with_packages(&root.join(path).to_string_lossy());
    database.server().point_here(&mut command);
    command
        .args(arguments)
        .current_dir(root)
        .env("PGDATABASE", database.name())
        .envs(variables.iter().copied());
    succeed(command)
}

/// A program that finds the packages, and whatever it starts as well.
fn with_packages(program: &str) -> Command {
    let packages = packages();
    let mut paths = vec![packages.join("venv/bin")];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let mut command = clean_command(Path::new("timeout"));
    command
        .args(["--kill-after=5", SECONDS, program])
        .env("PATH", std::env::join_paths(paths).expect("a path"))
        .env("NODE_PATH", packages.join("node_modules"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[track_caller]
fn succeed(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("run timeout");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed ({}; 124: it took {SECONDS} s):\n{printed}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    printed
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
