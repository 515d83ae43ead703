//! Clients of other languages for the end-to-end tests: Debian's Node.js, Python and pgbouncer, and in the build
//! directory the packages that `tests/clients` pins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::system;
use crate::workspace::{Workspace, run, step};

/// What each ecosystem calls its list of packages with versions and hashes.
const NODE_LOCK: &str = "package-lock.json";
const PYTHON_LOCK: &str = "requirements.txt";
const CHECK_NETWORK: &str = "cannot be installed: check the network";

/// The directory with `node_modules` and the virtual environment `venv`.
pub fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    system::prepare_clients()?;
    let target = workspace.checkout().target();
    let (pinned, clients) = (
        workspace.root().join("tests/clients"),
        target.join("clients"),
    );
    fs::create_dir_all(&clients).with_context(|| format!("cannot create {}", clients.display()))?;
    when_changed(&pinned, &clients, NODE_LOCK, || {
        step(&format!(
            "installing npm packages into {}",
            clients.display()
        ));
        copy(&pinned, &clients, "package.json")?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--no-update-notifier", "--loglevel=error"])
            .args(["--fetch-retries=1", "--fetch-timeout=20000", "--cache"])
            .arg(target.join("npm-cache"))
            .current_dir(&clients);
        run(&mut npm)
            .with_context(|| format!("the packages of tests/clients/{NODE_LOCK} {CHECK_NETWORK}"))
    })?;
    when_changed(&pinned, &clients, PYTHON_LOCK, || {
        let venv = clients.join("venv");
        step(&format!(
            "installing Python packages into {}",
            venv.display()
        ));
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-cache-dir",
        ])
        .args([
            "--retries=1",
            "--timeout=20",
            "--only-binary=:all:",
            "--require-hashes",
        ])
        .arg("--requirement")
        .arg(clients.join(PYTHON_LOCK));
        run(&mut pip)
            .with_context(|| format!("the packages of tests/clients/{PYTHON_LOCK} {CHECK_NETWORK}"))
    })?;
    Ok(clients)
}

/// Installs what `lock` pins, unless the last complete installation was of the same.
fn when_changed(
    pinned: &Path,
    clients: &Path,
    lock: &str,
    install: impl Fn() -> Result<()>,
) -> Result<()> {
    let wanted = fs::read(pinned.join(lock)).with_context(|| format!("cannot read {lock}"))?;
    let stamp = clients.join(format!("{lock}.installed"));
    if fs::read(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    copy(pinned, clients, lock)?;
    install()?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

fn copy(from: &Path, to: &Path, name: &str) -> Result<()> {
    fs::copy(from.join(name), to.join(name)).with_context(|| format!("cannot copy {name}"))?;
    Ok(())
}
