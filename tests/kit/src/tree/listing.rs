//! What lies in directories that a run must leave as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::digest;

use super::files::entries;
use super::layout::{ask, pg_config};

/// Larger files are told apart by size and time alone.
const HASHED: u64 = 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    size: u64,
    modified: Option<SystemTime>,
    digest: Option<Vec<u8>>,
}

/// Every file of the system's PostgreSQL that a private tree has one of its own of.
pub struct SystemFiles(BTreeMap<PathBuf, Entry>);

impl SystemFiles {
    /// As they are now, of the PostgreSQL that the variable `PG_CONFIG` or PATH names.
    pub fn now() -> SystemFiles {
        SystemFiles::of(&pg_config())
    }

    /// The same of the PostgreSQL that `pg_config` describes.
    pub fn of(pg_config: &Path) -> SystemFiles {
        let mut found = BTreeMap::new();
        for question in ["--bindir", "--pkglibdir", "--sharedir"] {
            list(&ask(pg_config, question), &mut found);
        }
        SystemFiles(found)
    }

    /// What was added, deleted or changed since then, one line each.
    pub fn changes_until(&self, later: &SystemFiles) -> Vec<String> {
        let mut changes = Vec::new();
        for (path, entry) in &self.0 {
            match later.0.get(path) {
                None => changes.push(format!("deleted: {}", path.display())),
                Some(other) if other != entry => {
                    changes.push(format!("changed: {}", path.display()));
                }
                Some(_) => {}
            }
        }
        let added = later.0.keys().filter(|path| !self.0.contains_key(*path));
        changes.extend(added.map(|path| format!("added: {}", path.display())));
        changes
    }
}

fn list(dir: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    for path in entries(dir) {
        let metadata = fs::symlink_metadata(&path)
            .unwrap_or_else(|error| panic!("cannot look at {}: {error}", path.display()));
        if metadata.is_dir() {
            list(&path, found);
        }
        // A link is followed: what it leads to must not change either. It may lead nowhere.
        let target = fs::metadata(&path).unwrap_or(metadata);
        let text = (target.is_file() && target.len() <= HASHED).then(|| fs::read(&path).ok());
        let entry = Entry {
            size: target.len(),
            modified: target.modified().ok(),
            digest: text
                .flatten()
                .map(|text| digest::digest(&digest::SHA256, &text).as_ref().to_vec()),
        };
        found.insert(path, entry);
    }
}
