//! `cargo test` of some packages, with its output shown and its tests counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::names::Names;
use crate::tally::Counts;

/// Runs the wanted tests of these packages.
pub fn run(mut cargo: Command, packages: &[&str], names: &Names) -> Result<Counts> {
    select(&mut cargo, packages);
    cargo.args(["--", "--format=pretty"]).args(names.parts());
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

/// The names of the wanted tests of these packages; builds them, runs nothing.
pub fn wanted(mut cargo: Command, packages: &[&str], names: &Names) -> Result<Vec<String>> {
    select(&mut cargo, packages);
    let output = cargo
        .args(["--", "--list", "--format=terse"])
        .args(names.parts())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let tests = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    Ok(tests.map(str::to_owned).collect())
}

fn select(cargo: &mut Command, packages: &[&str]) {
    cargo.args(["test", "--no-fail-fast"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
}
