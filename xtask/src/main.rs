//! `cargo xtask`: everything a person or a machine does with this repository, one command each.

mod bench;
mod demo;
mod in_database;
mod install;
mod install_script;
mod suites;
mod system;
mod tally;
mod tools;
mod upgrade_script;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask <command>

  demo     Build the extension, start a private server and a receiver, and show one delivery.
  test     Build the extension and run every check and test.
  install  Build the extension and install it into the system's PostgreSQL.
  bench    Build the extension and measure throughput and latency on this machine.

Each command first installs what is missing: Debian packages (with apt-get, as root or by sudo) and
cargo-pgrx (into target/tools). `cargo xtask <command> --help` tells more.

PG_CONFIG=/path/to/pg_config chooses another PostgreSQL than Debian's 15; nothing is installed
with apt-get then.";

const DEMO_HELP: &str = "\
cargo xtask demo

Builds the extension, starts a private PostgreSQL in a temporary directory and a webhook receiver on
127.0.0.1, subscribes the receiver to a table, changes a row and shows what arrived. Leaves nothing
behind but the build.";

const TEST_HELP: &str = "\
cargo xtask test [--skip-lints] [-- <filter>...]

Runs, in this order: rustfmt, clippy, the tests that need no server, the tests inside a server, pgspot
on the install script, the end-to-end tests. Servers are private and live in temporary directories.

  --skip-lints  Leave rustfmt and clippy out.
  <filter>      Run only the tests whose name contains one of the filters.

PLUGIN_WEBHOOKS_CRASH_ROUNDS=50 chooses the long form of the crash matrix (default: each fault once);
PLUGIN_WEBHOOKS_CRASH_SEED=n repeats the choices of a run.";

const INSTALL_HELP: &str = "\
cargo xtask install

Builds the extension in release mode and installs it into the system's PostgreSQL, by sudo when you
are not root. Then it says what to put into postgresql.conf.";

const BENCH_HELP: &str = "\
cargo xtask bench [<section>...]

Measures a release build on a private server with a receiver on 127.0.0.1, and prints medians of
several runs as a table and as JSON. Sections, all of them without an argument:

  throughput  Deliveries a second from a full queue, and CPU time by what it is spent on.
  latency     Milliseconds from commit to arrival, at 1 to 500 changes a second.
  growth      The same throughput beside a million other rows, and the cost of a worker without work.
  fairness    Latency of a tenant beside one with 50,000 due deliveries and a bad endpoint.
  audit       Microseconds that capture and enqueueing add to a write, beside the same in PL/pgSQL.";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{HELP}");
        return Ok(ExitCode::FAILURE);
    };
    let own = rest
        .iter()
        .position(|argument| argument == "--")
        .unwrap_or(rest.len());
    let wants_help = rest[..own]
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    match command.as_str() {
        "help" | "--help" | "-h" => println!("{HELP}"),
        "demo" if wants_help => println!("{DEMO_HELP}"),
        "test" if wants_help => println!("{TEST_HELP}"),
        "install" if wants_help => println!("{INSTALL_HELP}"),
        "bench" if wants_help => println!("{BENCH_HELP}"),
        "demo" => {
            no_arguments(rest)?;
            demo::run()?;
        }
        "install" => {
            no_arguments(rest)?;
            install::run()?;
        }
        "bench" => {
            bench::run(rest)?;
        }
        "test" => return suites::run(&suites::Options::parse(rest)?),
        unknown => bail!("there is no command `{unknown}`\n\n{HELP}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn no_arguments(arguments: &[String]) -> Result<()> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => bail!("unexpected argument `{argument}`: see --help"),
    }
}
