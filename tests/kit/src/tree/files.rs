//! Files of a tree: copies, and directories that every user may enter.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn copy_files(from: &Path, to: &Path) {
    for entry in entries(from) {
        let to = to.join(file_name(&entry));
        let copied = fs::copy(&entry, &to)
            .and_then(|_| fs::set_permissions(&to, Permissions::from_mode(0o755)));
        copied.unwrap_or_else(|error| panic!("cannot copy {}: {error}", entry.display()));
    }
}

pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    list().unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display()))
}

pub(super) fn file_name(path: &Path) -> &OsStr {
    path.file_name()
        .expect("an entry of a directory has a name")
}

/// Creates a directory that every user may enter, whatever our umask is.
pub(super) fn create_dir(dir: &Path) {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    for ancestor in missing.into_iter().rev() {
        fs::create_dir(ancestor)
            .and_then(|()| fs::set_permissions(ancestor, Permissions::from_mode(0o755)))
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", ancestor.display()));
    }
}

pub(crate) fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
