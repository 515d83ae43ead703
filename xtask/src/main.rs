//! `cargo xtask`: everything a person or a machine does with this repository, one command each.

mod bench;
mod cargo_test;
mod checkout;
mod clients;
mod demo;
mod install;
mod install_script;
mod lints;
mod mutants;
mod names;
mod sql_tests;
mod suites;
mod system;
mod tally;
mod tools;
mod upgrade_script;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

const PREPARES: &str = "\
Each command first installs what is missing: Debian packages (with apt-get, as root or by sudo) and
cargo-pgrx (into target/tools); for the tests of other clients also packages of npm and Python (into target/clients).

PG_CONFIG=/path/to/pg_config chooses another PostgreSQL than Debian's 15; nothing is installed
with apt-get then.";

const TEST_ORDER: &str = "\
Without arguments it runs, in this order: rustfmt, clippy, the tests that need no server, the tests
inside a server, pgspot on the install script, the end-to-end tests. Servers are private and live in
temporary directories. A suite builds only what its wanted tests need.

  cargo xtask test core retry     tests of core with `retry` in their name: seconds
  cargo xtask test e2e failover:: the module `failover` of tests/e2e

PLUGIN_WEBHOOKS_CRASH_ROUNDS=50 chooses the long form of the crash matrix (default: each fault once);
PLUGIN_WEBHOOKS_CRASH_SEED=n repeats the choices of a run.";

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = None, after_help = PREPARES)]
#[command(disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the extension, start a private server and a receiver, and show one delivery
    ///
    /// Leaves nothing behind but the build.
    Demo,
    /// Run every check and test, or those of one suite
    #[command(after_help = TEST_ORDER)]
    Test(suites::Options),
    /// Build the extension and install it into the system's PostgreSQL
    ///
    /// A release build, copied by sudo when you are not root. Then it says what to put into
    /// postgresql.conf.
    Install,
    /// Build the extension and measure it on this machine
    ///
    /// A release build on a private server with a receiver on 127.0.0.1. Prints medians of several
    /// runs as a table and as JSON.
    Bench {
        /// What to measure; everything when none is named
        sections: Vec<bench::Section>,
    },
    /// Change core's rules one by one and list the changes that no test notices
    ///
    /// Runs cargo-mutants as .cargo/mutants.toml says.
    Mutants {
        /// Arguments of cargo-mutants, such as `--list` or `--re retry`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo => demo::run()?,
        Command::Install => install::run()?,
        Command::Bench { sections } => bench::run(&sections)?,
        Command::Mutants { arguments } => return mutants::run(&arguments),
        Command::Test(options) => return suites::run(options),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn names_need_a_suite_before_them() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("xtask test").is_ok());
        assert!(parse("xtask test core retry --skip-lints").is_ok());
        let error = parse("xtask test retry").err().expect("no such suite");
        assert!(error.to_string().contains("core"), "{error}");
        assert!(parse("xtask mutants --list").is_ok());
    }
}
