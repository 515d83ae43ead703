//! `cargo xtask test`: every check and test, in the order from quick to slow, or the wanted ones.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use plugin_webhooks_kit::{CLIENTS_VARIABLE, NO_CLIENTS_VARIABLE, PACKAGE_VARIABLE, SystemFiles};

use crate::checkout::Checkout;
use crate::names::Names;
use crate::system::Purpose;
use crate::tally::{Counts, Tally};
use crate::workspace::{Build, Workspace, step};
use crate::{cargo_test, clients, install_script, lints, sql_tests, tools};

/// What the command line asks for.
#[derive(Args)]
pub struct Options {
    /// Only this suite, without the lints
    suite: Option<Suite>,
    /// Only tests whose name contains one of these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Leave rustfmt and clippy out
    #[arg(long)]
    skip_lints: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Tests that need no server, in seconds: core's and those of the commands
    Core,
    /// SQL tests: functions inside a server (pgrx-tests/), and pgspot on the install script
    Sql,
    /// End-to-end tests on private servers (tests/), the crash matrix and the kit's own
    E2e,
}

/// What the parts share.
struct Run {
    checkout: Checkout,
    names: Names,
    workspace: OnceCell<Workspace>,
    /// Those of PostgreSQL when packages were installed and nothing had run.
    system_files: OnceCell<SystemFiles>,
    package: OnceCell<PathBuf>,
}

/// A part of a suite, or a lint when it belongs to none.
struct Part {
    name: &'static str,
    suite: Option<Suite>,
    run: fn(&Run) -> Result<Counts>,
}

const PARTS: [Part; 6] = [
    Part {
        name: "formatting",
        suite: None,
        run: |run| lints::formatting(run.workspace()?),
    },
    Part {
        name: "lints",
        suite: None,
        run: |run| lints::clippy(run.workspace()?),
    },
    Part {
        name: "core",
        suite: Some(Suite::Core),
        run: |run| cargo_test::run(run.checkout.cargo(), &WITHOUT_SERVER, &run.names),
    },
    Part {
        name: "sql",
        suite: Some(Suite::Sql),
        run: sql,
    },
    Part {
        name: "sql, install script",
        suite: Some(Suite::Sql),
        run: install_script,
    },
    Part {
        name: "e2e",
        suite: Some(Suite::E2e),
        run: end_to_end,
    },
];

const WITHOUT_SERVER: [&str; 2] = ["plugin_webhooks_core", "xtask"];
/// The module of `tests/e2e` whose tests run clients of other languages.
const OF_CLIENTS: &str = "clients::";
const END_TO_END: [&str; 2] = ["plugin_webhooks_kit", "plugin_webhooks_e2e"];

impl Options {
    fn want(&self, part: &Part) -> bool {
        match (self.suite, part.suite) {
            (None, None) => !self.skip_lints,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(suite)) => wanted == suite,
        }
    }
}

impl Run {
    /// The workspace with everything that it takes to build; installs what is missing at the first call.
    fn workspace(&self) -> Result<&Workspace> {
        if let Some(workspace) = self.workspace.get() {
            return Ok(workspace);
        }
        let workspace = tools::prepare(Purpose::Test)?;
        self.system_files
            .get_or_init(|| SystemFiles::of(workspace.pg_config()));
        Ok(self.workspace.get_or_init(|| workspace))
    }

    /// The extension as it is shipped, but with debug assertions; built at the first call.
    fn package(&self) -> Result<&Path> {
        if let Some(package) = self.package.get() {
            return Ok(package);
        }
        let package = self.workspace()?.package(Build::Debug)?;
        Ok(self.package.get_or_init(|| package))
    }
}

pub fn run(options: Options) -> Result<ExitCode> {
    let run = Run {
        checkout: Checkout::find()?,
        names: Names::new(options.names.clone()),
        workspace: OnceCell::new(),
        system_files: OnceCell::new(),
        package: OnceCell::new(),
    };
    if options.suite.is_none() {
        // What is missing is told before anything runs.
        run.workspace()?;
    }
    let mut tally = Tally::default();
    for part in PARTS.iter().filter(|part| options.want(part)) {
        step(part.name);
        let started = Instant::now();
        // A part that cannot even run counts as one failure, and the others still run.
        let counts = (part.run)(&run).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Counts::one(false)
        });
        tally.record(part.name, counts, started.elapsed());
    }
    if let (Some(workspace), Some(before)) = (run.workspace.get(), run.system_files.get()) {
        let started = Instant::now();
        let changes = before.changes_until(&SystemFiles::of(workspace.pg_config()));
        for change in &changes {
            eprintln!("error: the system's PostgreSQL was written into: {change}");
        }
        let counts = Counts::one(changes.is_empty());
        tally.record("the system's files", counts, started.elapsed());
    }
    step("result");
    let total = tally.total();
    if total == Counts::default() {
        eprintln!("error: no test has a name like that");
    }
    println!("{tally}");
    let clean = total.failed == 0 && total.passed > 0;
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn sql(run: &Run) -> Result<Counts> {
    if !sql_tests::any(run.checkout.root(), &run.names)? {
        return Ok(Counts::default());
    }
    sql_tests::run(run.workspace()?, &run.names)
}

fn install_script(run: &Run) -> Result<Counts> {
    if !run.names.select("install_script") {
        return Ok(Counts::default());
    }
    install_script::check(run.workspace()?, run.package()?)
}

fn end_to_end(run: &Run) -> Result<Counts> {
    let wanted = cargo_test::wanted(run.checkout.cargo(), &END_TO_END, &run.names)?;
    if wanted.is_empty() {
        return Ok(Counts::default());
    }
    let mut cargo = run.checkout.cargo();
    cargo
        .env(PACKAGE_VARIABLE, run.package()?)
        .env("PG_CONFIG", run.workspace()?.pg_config());
    if wanted.iter().any(|test| test.starts_with(OF_CLIENTS)) {
        // Without them their tests fail and say why; the others need no registry.
        match clients::prepare(run.workspace()?) {
            Ok(clients) => cargo.env(CLIENTS_VARIABLE, clients),
            Err(error) => cargo.env(NO_CLIENTS_VARIABLE, format!("{error:#}")),
        };
    }
    cargo_test::run(cargo, &END_TO_END, &run.names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(suite: Option<Suite>, skip_lints: bool) -> Vec<&'static str> {
        let options = Options {
            suite,
            names: Vec::new(),
            skip_lints,
        };
        let wanted = PARTS.iter().filter(|part| options.want(part));
        wanted.map(|part| part.name).collect()
    }

    #[test]
    fn without_a_suite_everything_runs() {
        assert_eq!(parts(None, false).len(), PARTS.len());
        assert_eq!(parts(None, true).len(), PARTS.len() - 2);
    }

    #[test]
    fn a_suite_runs_alone() {
        assert_eq!(parts(Some(Suite::Core), false), ["core"]);
        assert_eq!(
            parts(Some(Suite::Sql), true),
            ["sql", "sql, install script"]
        );
        assert_eq!(parts(Some(Suite::E2e), false), ["e2e"]);
    }
}
