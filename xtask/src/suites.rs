//! `cargo xtask test`: every check and test, in the order from quick to slow.

use std::cell::OnceCell;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use plugin_webhooks_kit::PACKAGE_VARIABLE;

use crate::system::Purpose;
use crate::tally::{Counts, Tally};
use crate::workspace::{Build, Workspace, run as run_command, step};
use crate::{in_database, install_script, tools};

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    skip_lints: bool,
    filters: Vec<String>,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--skip-lints" => options.skip_lints = true,
                "--" => options.filters.extend(arguments.by_ref().cloned()),
                unknown => {
                    bail!("unknown argument `{unknown}`: filters come after `--`, see --help")
                }
            }
        }
        Ok(options)
    }

    /// Whether the filters let a test of this name through.
    pub fn select(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }
}

/// What the suites share.
struct Run<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    package: OnceCell<PathBuf>,
}

type Suite = (&'static str, fn(&Run) -> Result<Counts>);

const LINTS: &[Suite] = &[("formatting", formatting), ("lints", clippy)];

const TESTS: &[Suite] = &[
    ("without a server", without_server),
    ("inside the server", inside_server),
    ("install script", install_script),
    ("end to end", end_to_end),
];

impl Run<'_> {
    /// The extension as it is shipped, but with debug assertions; built at the first call.
    fn package(&self) -> Result<&Path> {
        if let Some(package) = self.package.get() {
            return Ok(package);
        }
        let package = self.workspace.package(Build::Debug)?;
        Ok(self.package.get_or_init(|| package))
    }
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let workspace = tools::prepare(Purpose::Test)?;
    let run = Run {
        workspace: &workspace,
        options,
        package: OnceCell::new(),
    };
    let lints = if options.skip_lints { &[] } else { LINTS };
    let mut tally = Tally::default();
    for (name, suite) in lints.iter().chain(TESTS) {
        step(name);
        // A suite that cannot even run counts as one failure, and the others still run.
        let counts = suite(&run).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Counts::one(false)
        });
        tally.record(name, counts);
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

fn formatting(run: &Run) -> Result<Counts> {
    run_command(run.workspace.cargo().args(["fmt", "--all", "--check"]))
        .context("the code is not formatted: run `cargo fmt --all`")?;
    Ok(Counts::one(true))
}

fn clippy(run: &Run) -> Result<Counts> {
    const EXTENSION: &str = "clippy --quiet --package plugin_webhooks --lib --no-default-features";
    const OTHERS: &str = "clippy --quiet --workspace --exclude plugin_webhooks --all-targets";
    let features = format!("{} pg_test", run.workspace.pg_feature());
    let mut extension = run.workspace.cargo();
    extension
        .args(EXTENSION.split(' '))
        .args(["--features", &features]);
    let mut others = run.workspace.cargo();
    others.args(OTHERS.split(' '));
    let mut counts = Counts::default();
    for mut command in [extension, others] {
        command.args(["--", "-D", "warnings"]);
        let result = run_command(&mut command);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        counts.add(Counts::one(result.is_ok()));
    }
    Ok(counts)
}

fn without_server(run: &Run) -> Result<Counts> {
    let packages = ["plugin_webhooks_core", "xtask"];
    cargo_test(run.workspace.cargo(), &packages, run.options)
}

fn inside_server(run: &Run) -> Result<Counts> {
    in_database::run(run.workspace, run.options)
}

fn install_script(run: &Run) -> Result<Counts> {
    if !run.options.select("install_script") {
        return Ok(Counts::default());
    }
    install_script::check(run.workspace, run.package()?)
}

fn end_to_end(run: &Run) -> Result<Counts> {
    let mut cargo = run.workspace.cargo();
    cargo
        .env(PACKAGE_VARIABLE, run.package()?)
        .env("PG_CONFIG", run.workspace.pg_config());
    cargo_test(
        cargo,
        &["plugin_webhooks_kit", "plugin_webhooks_e2e"],
        run.options,
    )
}

fn cargo_test(mut cargo: Command, packages: &[&str], options: &Options) -> Result<Counts> {
    cargo.args(["test", "--no-fail-fast"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo
        .arg("--")
        .arg("--format=pretty")
        .args(&options.filters);
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("cargo has an output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what cargo prints")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.add(Counts::of_libtest(&line).unwrap_or_default());
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() && counts.failed == 0 {
        // A test binary that did not compile, or died, has no closing line.
        counts.add(Counts::one(false));
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(
            &words
                .iter()
                .map(|word| word.to_string())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn filters_follow_two_dashes() {
        let options = parse(&["--skip-lints", "--", "queue", "--skip-lints"]).expect("valid");
        assert_eq!(options.filters, ["queue", "--skip-lints"]);
        assert!(options.skip_lints && options.select("the_queue") && !options.select("worker"));
        assert!(parse(&["queue"]).is_err());
    }

    #[test]
    fn without_filters_everything_runs() {
        assert!(parse(&[]).expect("valid").select("anything"));
    }
}
