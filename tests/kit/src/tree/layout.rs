//! Where the parts of an installation lie, and how a tree gets its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use super::files::{create_dir, entries, file_name};
use crate::account::clean_command;

/// The name of the extension, of its library and of its control file.
pub const EXTENSION: &str = "plugin_webhooks";

/// Where the parts of the installation lie, in the system and in the tree.
pub(super) struct Layout {
    pub(super) bin: Part,
    pub(super) library: Part,
    pub(super) share: Part,
}

pub(super) struct Part {
    pub(super) system: PathBuf,
    pub(super) private: PathBuf,
}

impl Layout {
    pub(super) fn of_system(pg_config: &Path, root: &Path) -> Layout {
        let [bin, library, share] =
            ["--bindir", "--pkglibdir", "--sharedir"].map(|question| ask(pg_config, question));
        let common = common_prefix(&[&bin, &library, &share]);
        let part = |system: PathBuf| {
            let below = system.strip_prefix(&common).expect("the prefix is common");
            Part {
                private: root.join(below),
                system,
            }
        };
        Layout {
            bin: part(bin),
            library: part(library),
            share: part(share),
        }
    }

    /// Copies what a test may write, and links what servers only read.
    pub(super) fn fill(&self) {
        let [bin, library, share] = [&self.bin, &self.library, &self.share];
        let extension = share.system.join("extension");
        fill(&bin.system, &bin.private, &[], copy);
        fill(&library.system, &library.private, &[], |from, to| {
            // Bitcode and PGXS.
            if from.is_dir() {
                symlink(from, to)
            } else {
                copy(from, to)
            }
        });
        fill(&share.system, &share.private, &["extension"], |from, to| {
            symlink(from, to)
        });
        fill(&extension, &share.private.join("extension"), &[], copy);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(|_| ())
}

pub(super) fn ask(pg_config: &Path, question: &str) -> PathBuf {
    let output = clean_command(pg_config)
        .arg(question)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "cannot run {}: {error}; set PG_CONFIG to the path of pg_config",
                pg_config.display()
            )
        });
    assert!(
        output.status.success(),
        "{} {question} failed: {}",
        pg_config.display(),
        output.status
    );
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.canonicalize().unwrap_or_else(|error| {
        panic!(
            "{} {question} says {}, which is not there ({error})",
            pg_config.display(),
            path.display()
        )
    })
}

fn common_prefix(paths: &[&Path]) -> PathBuf {
    let (first, others) = paths.split_first().expect("at least one path");
    let shared = |position: usize, component: Component<'_>| {
        others
            .iter()
            .all(|other| other.components().nth(position) == Some(component))
    };
    first
        .components()
        .enumerate()
        .take_while(|(position, component)| shared(*position, *component))
        .map(|(_, component)| component)
        .collect()
}

/// Puts every entry but the `except`ed ones there, and never the system's copy of the extension.
fn fill(from: &Path, to: &Path, except: &[&str], put: impl Fn(&Path, &Path) -> io::Result<()>) {
    create_dir(to);
    let except: BTreeSet<&OsStr> = except.iter().map(OsStr::new).collect();
    for entry in entries(from) {
        let name = file_name(&entry);
        if except.contains(name) || name.to_string_lossy().starts_with(EXTENSION) {
            continue;
        }
        put(&entry, &to.join(name))
            .unwrap_or_else(|error| panic!("cannot copy or link {}: {error}", entry.display()));
    }
}

/// The variable `PG_CONFIG`, else the `pg_config` on PATH.
pub fn pg_config() -> PathBuf {
    std::env::var_os("PG_CONFIG").map_or_else(|| "pg_config".into(), PathBuf::from)
}
