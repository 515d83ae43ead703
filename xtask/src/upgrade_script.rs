//! The upgrade scripts. The install script converges: run on an earlier version it makes this one. So an
//! upgrade script is the SQL files of the extension, in their order.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Released versions that can be upgraded from.
const RELEASED: &[&str] = &["0.1.0"];

/// Where the list of SQL files is.
const LIBRARY: &str = "src/lib.rs";
const SQL_DIR: &str = "sql";

/// Writes every upgrade script of this version.
pub fn run() -> Result<()> {
    for (path, text) in scripts(&workspace::root()?)? {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// The path and content of every upgrade script.
fn scripts(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let to = env!("CARGO_PKG_VERSION");
    let files = sql_files(root)?;
    let earlier = RELEASED.iter().filter(|from| **from != to);
    earlier
        .map(|from| {
            let path = root
                .join(SQL_DIR)
                .join(format!("plugin_webhooks--{from}--{to}.sql"));
            Ok((path, script(to, &files)))
        })
        .collect()
}

fn script(to: &str, files: &[(String, String)]) -> String {
    let mut text = format!(
        "-- Written by `cargo xtask upgrade-script` from the other files of this directory. Do not edit.\n\
         \\echo Use \"ALTER EXTENSION plugin_webhooks UPDATE TO '{to}'\" to load this file. \\quit\n"
    );
    for (name, content) in files {
        text.push_str(&format!("\n-- {name}\n{content}"));
    }
    text
}

/// Names and contents of the SQL files, in the order of the library's list.
fn sql_files(root: &Path) -> Result<Vec<(String, String)>> {
    let library = root.join(LIBRARY);
    let text = fs::read_to_string(&library)
        .with_context(|| format!("cannot read {}", library.display()))?;
    let names = listed(&text);
    ensure!(!names.is_empty(), "{LIBRARY} lists no SQL file");
    names
        .into_iter()
        .map(|name| {
            let path = root.join(SQL_DIR).join(&name);
            let content = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok((name, content))
        })
        .collect()
}

/// The files that `extension_sql_file!` names.
fn listed(library: &str) -> Vec<String> {
    let parts = library.split("extension_sql_file!").skip(1);
    parts
        .filter_map(|part| part.split('"').nth(1)?.strip_prefix("../sql/"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_come_in_the_order_of_the_list() {
        let library = "extension_sql_file!(\"../sql/00_a.sql\", name = \"a\", bootstrap);\n\
                       extension_sql_file!(\n    \"../sql/10_b.sql\",\n    name = \"b\",\n    requires = [\"a\"]\n);";
        assert_eq!(listed(library), ["00_a.sql", "10_b.sql"]);
    }

    #[test]
    fn the_scripts_in_the_repository_are_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the repository");
        for (path, text) in scripts(root).expect("scripts") {
            let written = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                written == text,
                "{} is out of date: run `cargo xtask upgrade-script`",
                path.display()
            );
        }
    }
}
