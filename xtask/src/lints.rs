//! rustfmt and clippy over the whole repository.

use anyhow::{Context, Result};

use crate::tally::Counts;
use crate::workspace::{Workspace, run};

pub fn formatting(workspace: &Workspace) -> Result<Counts> {
    run(workspace.cargo().args(["fmt", "--all", "--check"]))
        .context("the code is not formatted: run `cargo fmt --all`")?;
    Ok(Counts::one(true))
}

pub fn clippy(workspace: &Workspace) -> Result<Counts> {
    const EXTENSION: &str = "clippy --quiet --package plugin_webhooks --lib --no-default-features";
    const OTHERS: &str = "clippy --quiet --workspace --exclude plugin_webhooks --all-targets";
    let features = format!("{} pg_test", workspace.pg_feature());
    let mut extension = workspace.cargo();
    extension
        .args(EXTENSION.split(' '))
        .args(["--features", &features]);
    let mut others = workspace.cargo();
    others.args(OTHERS.split(' '));
    let mut counts = Counts::default();
    for mut command in [extension, others] {
        command.args(["--", "-D", "warnings"]);
        let result = run(&mut command);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        counts.add(Counts::one(result.is_ok()));
    }
    Ok(counts)
}
