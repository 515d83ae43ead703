//! The repository with a PostgreSQL to build the extension for, and the extension's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::checkout::Checkout;
use crate::upgrade_script;

/// The checkout and the PostgreSQL to build for.
pub struct Workspace {
    checkout: Checkout,
    pg_config: PathBuf,
    pg_major: u32,
    cargo_pgrx: Option<PathBuf>,
}

/// How the extension is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As it is shipped.
    Release,
    /// Quick to build, with debug assertions.
    Debug,
    /// The same with the tests of `pgrx-tests/` inside.
    DebugWithTests,
}

impl Workspace {
    pub fn new(pg_config: PathBuf) -> Result<Workspace> {
        let pg_major = pg_major(&pg_config)?;
        Ok(Workspace {
            checkout: Checkout::find()?,
            pg_config,
            pg_major,
            cargo_pgrx: None,
        })
    }

    pub fn checkout(&self) -> &Checkout {
        &self.checkout
    }

    pub fn root(&self) -> &Path {
        self.checkout.root()
    }

    pub fn pg_config(&self) -> &Path {
        &self.pg_config
    }

    /// The feature of the extension that stands for this PostgreSQL.
    pub fn pg_feature(&self) -> String {
        format!("pg{}", self.pg_major)
    }

    /// Uses this program instead of the `cargo pgrx` on PATH.
    pub fn use_cargo_pgrx(&mut self, program: PathBuf) {
        self.cargo_pgrx = Some(program);
    }

    /// Writes cargo-pgrx's configuration, which would otherwise live in the home directory.
    pub fn write_pgrx_home(&self) -> Result<()> {
        let home = self.checkout.pgrx_home();
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        let config = home.join("config.toml");
        let text = format!("[configs]\n{} = {:?}\n", self.pg_feature(), self.pg_config);
        // An unchanged file keeps its time, and cargo its build.
        if fs::read_to_string(&config).ok().as_deref() != Some(&text) {
            fs::write(&config, text)
                .with_context(|| format!("cannot write {}", config.display()))?;
        }
        Ok(())
    }

    pub fn cargo(&self) -> Command {
        self.checkout.cargo()
    }

    pub fn cargo_pgrx(&self) -> Command {
        let mut command = match &self.cargo_pgrx {
            None => self.cargo(),
            Some(program) => self.checkout.command(program),
        };
        command.arg("pgrx");
        command
    }

    /// Builds the extension and returns the directory that holds its files, upgrade scripts included.
    pub fn package(&self, build: Build) -> Result<PathBuf> {
        let name = match build {
            Build::Release => "release",
            Build::Debug => "debug",
            Build::DebugWithTests => "pg_test",
        };
        let package = self.checkout.target().join("package").join(name);
        if package.exists() {
            // A file of an earlier version must not stay.
            fs::remove_dir_all(&package)
                .with_context(|| format!("cannot delete {}", package.display()))?;
        }
        let mut command = self.cargo_pgrx();
        command
            .args(["package", "--package", "plugin_webhooks"])
            .arg("--pg-config")
            .arg(&self.pg_config);
        command.arg("--out-dir").arg(&package);
        if build != Build::Release {
            command.arg("--debug");
        }
        if build == Build::DebugWithTests {
            command.args(["--features", "pg_test"]);
        }
        // Compiler messages and errors go to standard error; the rest is a list of copied files.
        run(command.stdout(Stdio::null())).context("the extension does not build")?;
        upgrade_script::write(
            &self.root().join(upgrade_script::RELEASED),
            env!("CARGO_PKG_VERSION"),
            &self.install_script(&package)?,
        )?;
        Ok(package)
    }

    /// The install script in a package.
    pub fn install_script(&self, package: &Path) -> Result<PathBuf> {
        let sharedir = ask(&self.pg_config, "--sharedir")?;
        let version = env!("CARGO_PKG_VERSION");
        let script = package
            .join(sharedir.trim_start_matches('/'))
            .join(format!("extension/plugin_webhooks--{version}.sql"));
        ensure!(script.is_file(), "{} was not built", script.display());
        Ok(script)
    }
}

/// Runs a command whose output the reader should see.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", shown(command));
    Ok(())
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Announces a step.
pub fn step(what: &str) {
    println!("\n==> {what}");
}

fn pg_major(pg_config: &Path) -> Result<u32> {
    let version = ask(pg_config, "--version")?;
    let digits: String = version
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    match digits.parse() {
        Ok(major @ 15..=18) => Ok(major),
        _ => bail!(
            "{} is {version}; the extension needs PostgreSQL 15 to 18",
            pg_config.display()
        ),
    }
}

fn ask(pg_config: &Path, question: &str) -> Result<String> {
    let output = Command::new(pg_config)
        .arg(question)
        .output()
        .with_context(|| format!("cannot run {}", pg_config.display()))?;
    ensure!(
        output.status.success(),
        "{} {question} failed",
        pg_config.display()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
