//! `cargo xtask install`: the release build into the system's PostgreSQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::system::{Purpose, user_id};
use crate::tools;
use crate::workspace::{Build, run as run_command, step};

const NEXT: &str = "\
Installed. Next, in postgresql.conf:

  shared_preload_libraries = 'plugin_webhooks'    # beside what is there already

then restart PostgreSQL and, in the database that shall deliver webhooks, as superuser:

  create extension plugin_webhooks;

Without the restart everything works too, except that deliveries wait until
public.rpc_process_plugin_deliveries() is called.

A server that runs keeps the library it has loaded until its restart.";

pub fn run() -> Result<()> {
    let workspace = tools::prepare(Purpose::Build)?;
    step("building the extension");
    let package = workspace.package(Build::Release)?;
    step("installing");
    let become_root: &[&str] = if user_id()? == 0 { &[] } else { &["sudo"] };
    for file in files(&package)? {
        let to = Path::new("/").join(file.strip_prefix(&package)?);
        replace(become_root, &file, &to)
            .with_context(|| format!("{} is not installed", to.display()))?;
        println!("{}", to.display());
    }
    println!("\n{NEXT}");
    Ok(())
}

/// Every file of a package: libraries first and control files last, so that no version is offered
/// before it is complete.
fn files(package: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![package.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path);
            }
        }
    }
    let extension = |path: &Path| path.extension().map(|name| name.to_owned());
    found.sort_by_key(|path| match extension(path) {
        Some(name) if name == "so" => 0,
        Some(name) if name == "control" => 2,
        _ => 1,
    });
    Ok(found)
}

/// Puts a copy of `from` in the place of `to` by renaming. Writing into a library that servers have
/// mapped would end every process of theirs with SIGBUS.
fn replace(become_root: &[&str], from: &Path, to: &Path) -> Result<()> {
    let mut draft = to.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let command = |program: &str| {
        let mut words = become_root.iter().copied().chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words);
        command
    };
    run_command(
        command("install")
            .args(["-D", "-m", "644"])
            .arg(from)
            .arg(&draft),
    )?;
    run_command(command("mv").args(["-f", "-T"]).arg(&draft).arg(to))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).expect("a directory");
            Scratch(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(&path, text).expect("write");
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn whoever_has_the_old_file_open_keeps_it_whole() {
        let scratch = Scratch::new("replace");
        let (from, to) = (
            scratch.write("from.so", "new"),
            scratch.write("to.so", "old library"),
        );
        let mut mapped = File::open(&to).expect("open");
        replace(&[], &from, &to).expect("replace");
        let mut seen = String::new();
        mapped.read_to_string(&mut seen).expect("read");
        assert_eq!(seen, "old library");
        assert_eq!(fs::read_to_string(&to).expect("read"), "new");
        assert_eq!(fs::read_dir(&scratch.0).expect("list").count(), 2);
    }

    #[test]
    fn a_file_that_was_not_there_is_created_with_its_directory() {
        let scratch = Scratch::new("create");
        let from = scratch.write("from", "new");
        let to = scratch.0.join("a/b/to");
        replace(&[], &from, &to).expect("replace");
        assert_eq!(fs::read_to_string(&to).expect("read"), "new");
    }

    #[test]
    fn the_library_comes_first_and_the_control_file_last() {
        let scratch = Scratch::new("order");
        for name in ["share/x.control", "share/x--1.sql", "lib/x.so"] {
            scratch.write(name, "");
        }
        let files = files(&scratch.0).expect("files");
        let names: Vec<_> = files
            .iter()
            .map(|path| path.strip_prefix(&scratch.0).expect("inside").to_owned())
            .collect();
        let wanted = ["lib/x.so", "share/x--1.sql", "share/x.control"].map(PathBuf::from);
        assert_eq!(names, wanted);
    }
}
