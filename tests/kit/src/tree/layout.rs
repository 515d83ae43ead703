//! Where the parts of an installation lie, and how a tree gets its own.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
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

    pub(super) fn copy_programs(&self) {
        create_dir(&self.bin.private);
        for entry in entries(&self.bin.system) {
            let to = self.bin.private.join(file_name(&entry));
            fs::copy(&entry, &to)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", entry.display()));
        }
    }

    pub(super) fn link_libraries(&self) {
        link_entries(&self.library.system, &self.library.private, &[]);
    }

    pub(super) fn link_shared_files(&self) {
        link_entries(&self.share.system, &self.share.private, &["extension"]);
        link_entries(
            &self.share.system.join("extension"),
            &self.share.private.join("extension"),
            &[],
        );
    }
}

fn ask(pg_config: &Path, question: &str) -> PathBuf {
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

/// Links every entry but the `except`ed ones, and never the system's copy of the extension.
fn link_entries(from: &Path, to: &Path, except: &[&str]) {
    create_dir(to);
    let except: BTreeSet<&OsStr> = except.iter().map(OsStr::new).collect();
    for entry in entries(from) {
        let name = file_name(&entry);
        if except.contains(name) || name.to_string_lossy().starts_with(EXTENSION) {
            continue;
        }
        symlink(&entry, to.join(name))
            .unwrap_or_else(|error| panic!("cannot link {}: {error}", entry.display()));
    }
}
