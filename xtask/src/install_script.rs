//! pgspot on the install script: a function without a safe search_path in an extension is a way to
//! superuser.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tally::Counts;
use crate::tools;
use crate::workspace::Workspace;

/// Findings that are known and right, one a line, each under a comment with its reason. A `*` at the end
/// of a line stands for any rest.
const ALLOWED: &str = "tests/pgspot.allow";

pub fn check(workspace: &Workspace, package: &Path) -> Result<Counts> {
    let script = workspace.install_script(package)?;
    let output = Command::new(tools::pgspot(workspace)?)
        .arg(&script)
        .output()
        .context("cannot run pgspot")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let findings = complete(&printed)?;
    let path = workspace.root().join(ALLOWED);
    let allowed =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let complaints = compare(findings, &allowed);
    for complaint in &complaints {
        println!("{complaint}");
    }
    println!("{} against {ALLOWED}", script.display());
    Ok(Counts::one(complaints.is_empty()))
}

/// The findings, when pgspot has read the whole script. Where it stumbles it still exits with success
/// and prints the reason behind its totals.
fn complete(printed: &str) -> Result<&str> {
    let (findings, rest) = printed
        .split_once(" Errors: ")
        .context("pgspot did not start")?;
    let stumbled_at = rest.lines().skip(1).collect::<String>();
    ensure!(
        stumbled_at.trim().is_empty(),
        "pgspot stopped in the middle of the script: {}; it cannot read functions with an \
         SQL-standard body, for one: write AS $$ ... $$",
        stumbled_at.trim(),
    );
    Ok(findings)
}

/// Findings that are not allowed, and allowed ones that pgspot no longer has.
fn compare(findings: &str, allowed: &str) -> Vec<String> {
    let allowed: BTreeSet<&str> = allowed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let findings: Vec<&str> = findings
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let kinds: BTreeSet<&str> = findings
        .iter()
        .map(|finding| without_line(finding))
        .collect();
    let covers = |line: &str, kind: &str| match line.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => line == kind,
    };
    let new = findings.iter().filter(|finding| {
        !allowed
            .iter()
            .any(|line| covers(line, without_line(finding)))
    });
    let gone = allowed
        .iter()
        .filter(|line| !kinds.iter().any(|kind| covers(line, kind)));
    new.map(|finding| format!("not allowed: {finding}"))
        .chain(gone.map(|finding| format!("allowed, but no longer found: {finding}")))
        .collect()
}

/// A finding without its line number, which moves with every change.
fn without_line(finding: &str) -> &str {
    finding
        .rsplit_once(" at line ")
        .map_or(finding, |(finding, _)| finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINDING: &str = "PS005: Function without explicit search_path: a.f() at line 2";
    const KIND: &str = "PS005: Function without explicit search_path: a.f()";

    #[test]
    fn a_clean_script_has_nothing_to_say() {
        let findings = complete("\n Errors: 0 Warnings: 0 Unknown: 0 \n\n").expect("complete");
        assert!(compare(findings, "# nothing\n").is_empty());
    }

    #[test]
    fn a_script_read_in_part_is_not_clean() {
        let printed = "\n Errors: 0 Warnings: 0 Unknown: 0 \n list index out of range\n";
        assert!(complete(printed).is_err());
        assert!(complete("").is_err());
    }

    #[test]
    fn a_finding_needs_leave() {
        assert_eq!(compare(FINDING, ""), [format!("not allowed: {FINDING}")]);
        assert!(compare(FINDING, &format!("# reason\n{KIND}\n")).is_empty());
    }

    #[test]
    fn leave_may_be_given_to_all_findings_of_a_kind() {
        assert!(compare(FINDING, "PS005: Function without *").is_empty());
        assert_eq!(compare(FINDING, "PS006: *").len(), 2);
    }

    #[test]
    fn leave_that_nobody_needs_is_withdrawn() {
        assert_eq!(
            compare("", KIND),
            [format!("allowed, but no longer found: {KIND}")]
        );
    }
}
