//! The tools that registries provide, pinned, inside the build directory.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::checkout::Checkout;
use crate::system::{self, Purpose};
use crate::workspace::{Workspace, run, step};

const CARGO_PGRX: &str = "0.18.1";
const CARGO_MUTANTS: &str = "27.1.0";
const PGSPOT: &str = "0.9.4";
/// The SQL parser inside pgspot.
const PGLAST: &str = "7.21";

/// A workspace in which the extension can be built.
pub fn prepare(purpose: Purpose) -> Result<Workspace> {
    let mut workspace = Workspace::new(system::prepare(purpose)?)?;
    if !is_version(workspace.cargo_pgrx(), CARGO_PGRX) {
        let program = install_cargo_pgrx(workspace.checkout())?;
        workspace.use_cargo_pgrx(program);
    }
    workspace.write_pgrx_home()?;
    Ok(workspace)
}

fn is_version(mut command: Command, version: &str) -> bool {
    let output = command.arg("--version").stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success() && text.split_whitespace().any(|word| word == version)
    })
}

fn install_cargo_pgrx(checkout: &Checkout) -> Result<PathBuf> {
    let program = checkout.tools().join("bin/cargo-pgrx");
    let mut installed = Command::new(&program);
    installed.arg("pgrx");
    if !is_version(installed, CARGO_PGRX) {
        install(checkout, "cargo-pgrx", CARGO_PGRX)?;
    }
    Ok(program)
}

/// The program cargo-mutants.
pub fn cargo_mutants(checkout: &Checkout) -> Result<PathBuf> {
    let program = checkout.tools().join("bin/cargo-mutants");
    let mut installed = Command::new(&program);
    installed.arg("mutants");
    if !is_version(installed, CARGO_MUTANTS) {
        install(checkout, "cargo-mutants", CARGO_MUTANTS)?;
    }
    Ok(program)
}

fn install(checkout: &Checkout, name: &str, version: &str) -> Result<()> {
    let tools = checkout.tools();
    step(&format!(
        "building {name} {version} into {}: once, a few minutes",
        tools.display()
    ));
    let mut install = checkout.cargo();
    install
        .args(["install", "--locked", "--force", "--quiet", "--root"])
        .arg(&tools);
    // Its own build directory, which cargo deletes afterwards.
    install
        .arg(format!("{name}@{version}"))
        .env_remove("CARGO_TARGET_DIR");
    run(&mut install).with_context(|| format!("{name} cannot be installed: check the network"))
}

/// The program pgspot, in a virtual environment of its own.
pub fn pgspot(workspace: &Workspace) -> Result<PathBuf> {
    let venv = workspace.checkout().target().join("pgspot-venv");
    let (program, stamp) = (venv.join("bin/pgspot"), venv.join("requirements.txt"));
    let requirements = format!("pgspot=={PGSPOT}\npglast=={PGLAST}\n");
    if fs::read_to_string(&stamp).ok().as_deref() == Some(&requirements) && program.exists() {
        return Ok(program);
    }
    step(&format!(
        "installing pgspot {PGSPOT} into {}",
        venv.display()
    ));
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv))
    .context("cannot create a virtual environment: install python3-venv")?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"])
        .args(requirements.lines());
    run(&mut pip).context("pgspot cannot be installed: check the network")?;
    fs::write(&stamp, requirements).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(program)
}
