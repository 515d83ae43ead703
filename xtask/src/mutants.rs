//! `cargo xtask mutants`: changes core's rules one by one, as `.cargo/mutants.toml` says, and lists the
//! changes that no test notices.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::checkout::Checkout;
use crate::tools;

/// Runs cargo-mutants with these arguments of its own.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let program = tools::cargo_mutants(&checkout)?;
    let status = checkout
        .command(&program)
        .args(["mutants", "--package", "plugin_webhooks_core", "--output"])
        .arg(checkout.target())
        .args(arguments)
        // It builds each copy in a directory of that copy.
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
