//! Where the repository and its build directory are, and how cargo is called: always with the same
//! environment, so that one command does not undo the build of another.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The repository's directory and its build directory.
pub struct Checkout {
    root: PathBuf,
    target: PathBuf,
}

impl Checkout {
    /// The one that `cargo xtask` was called in.
    pub fn find() -> Result<Checkout> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .context("run this by `cargo xtask` inside the repository")?;
        let root = Path::new(&manifest)
            .parent()
            .context("xtask/ lies in the repository")?
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => std::path::absolute(&target).unwrap_or_else(|_| target.into()),
            None => root.join("target"),
        };
        Ok(Checkout { root, target })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where tools that cargo installs belong.
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Where cargo-pgrx's configuration lives instead of the home directory.
    pub fn pgrx_home(&self) -> PathBuf {
        self.target.join("pgrx-home")
    }

    pub fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.command(Path::new(&cargo))
    }

    /// A program that builds something here.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if set_by_cargo_run(&name) {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("PGRX_HOME", self.pgrx_home());
        command
    }
}

/// What `cargo run` tells this program about itself would make cargo build other crates again.
fn set_by_cargo_run(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name == "CARGO_CRATE_NAME"
        || name == "CARGO_BIN_NAME"
        || name == "LD_LIBRARY_PATH"
}
