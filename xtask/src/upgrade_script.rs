//! The upgrade scripts of a package. The install script converges: run on an earlier version it makes this
//! one. So each upgrade script is the install script again, and none is kept in the repository.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Where the frozen install scripts of released versions are, in the repository.
pub const RELEASED: &str = "sql/released";

const EXTENSION: &str = "plugin_webhooks";

/// Puts a script from each version in the directory `released` to `version` beside the install script.
pub fn write(released: &Path, version: &str, install_script: &Path) -> Result<()> {
    let install = fs::read_to_string(install_script)
        .with_context(|| format!("cannot read {}", install_script.display()))?;
    let script = format!(
        "\\echo Use \"ALTER EXTENSION {EXTENSION} UPDATE TO '{version}'\" to load this file. \\quit\n{install}"
    );
    for from in versions(released)? {
        if from == version {
            continue;
        }
        let path = install_script.with_file_name(format!("{EXTENSION}--{from}--{version}.sql"));
        fs::write(&path, &script).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The versions that a directory has install scripts of.
fn versions(released: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(released).with_context(|| format!("cannot list {}", released.display()))?;
    let mut versions = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        versions.extend(version_of(&name.to_string_lossy()).map(str::to_owned));
    }
    ensure!(
        !versions.is_empty(),
        "{} holds no install script",
        released.display()
    );
    Ok(versions)
}

/// The version whose install script has this name.
fn version_of(name: &str) -> Option<&str> {
    let version = name
        .strip_prefix(EXTENSION)?
        .strip_prefix("--")?
        .strip_suffix(".sql")?;
    (!version.contains("--")).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_install_scripts_name_a_version() {
        assert_eq!(version_of("plugin_webhooks--0.1.0.sql"), Some("0.1.0"));
        assert_eq!(version_of("plugin_webhooks--0.1.0--0.2.0.sql"), None);
        assert_eq!(version_of("README.md"), None);
    }

    #[test]
    fn each_released_version_gets_a_script_that_is_the_install_script() {
        let dir = std::env::temp_dir().join(format!("xtask-upgrade-{}", std::process::id()));
        let released = dir.join("released");
        fs::create_dir_all(&released).expect("a directory");
        for version in ["0.1.0", "0.2.0", "0.3.0"] {
            fs::write(released.join(format!("plugin_webhooks--{version}.sql")), "")
                .expect("a released script");
        }
        let install = dir.join("plugin_webhooks--0.3.0.sql");
        fs::write(&install, "SELECT 1;\n").expect("the install script");
        write(&released, "0.3.0", &install).expect("the upgrade scripts");
        for from in ["0.1.0", "0.2.0"] {
            let path = dir.join(format!("plugin_webhooks--{from}--0.3.0.sql"));
            let script = fs::read_to_string(path).expect("an upgrade script");
            assert!(
                script.starts_with("\\echo Use \"ALTER EXTENSION"),
                "{script}"
            );
            assert!(script.ends_with("SELECT 1;\n"), "{script}");
        }
        assert!(!dir.join("plugin_webhooks--0.3.0--0.3.0.sql").exists());
        fs::remove_dir_all(&dir).expect("delete");
    }
}
