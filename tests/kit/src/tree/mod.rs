//! A PostgreSQL installation of our own: copies of the system's programs, libraries and extensions, and the packaged
//! extension beside them. Only directories that nothing writes into are links to the system's.
//!
//! PostgreSQL finds its files relative to its executable, so the copy never looks at the system's
//! extension directories. The tree lives in /tmp, where the user `postgres` may go even when the
//! clone lies somewhere it may not.

mod files;
mod janitor;
mod layout;
mod listing;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use files::copy_files;
pub(crate) use files::run;
use janitor::Janitor;
pub use layout::EXTENSION;
use layout::{Layout, pg_config};
pub use listing::SystemFiles;

use crate::account::{Account, clean_command};

/// The environment variable that holds the directory with the packaged extension.
pub const PACKAGE_VARIABLE: &str = "PLUGIN_WEBHOOKS_PACKAGE";

/// The file in a data directory that holds the settings of its server.
pub(crate) const SETTINGS_FILE: &str = "kit.conf";

/// A private PostgreSQL installation and the directory for everything a run creates.
///
/// Clones share one directory. It goes away, with the servers in it, when the last clone is dropped
/// or the process ends.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

struct Inner {
    root: PathBuf,
    layout: Layout,
    account: Account,
    template: OnceLock<PathBuf>,
    servers: AtomicUsize,
    janitor: Mutex<Janitor>,
}

impl Tree {
    /// A tree of the PostgreSQL that `pg_config` describes, with the packaged extension of
    /// `package`, the directory that `cargo pgrx package --out-dir` wrote.
    pub fn create(pg_config: &Path, package: &Path) -> Tree {
        let tree = Tree::without_package(pg_config);
        tree.add_package(package);
        tree
    }

    /// A tree with the extension of `PLUGIN_WEBHOOKS_PACKAGE`.
    pub fn from_environment() -> Tree {
        let package = std::env::var_os(PACKAGE_VARIABLE).unwrap_or_else(|| {
            panic!("{PACKAGE_VARIABLE} is not set: run `cargo xtask test e2e`, which builds the extension and sets it")
        });
        Tree::create(&pg_config(), Path::new(&package))
    }

    /// The tree that all tests of one test binary share: the extension of `PLUGIN_WEBHOOKS_PACKAGE`.
    pub fn shared() -> &'static Tree {
        static TREE: OnceLock<Tree> = OnceLock::new();
        TREE.get_or_init(Tree::from_environment)
    }

    /// A tree that knows nothing of the extension.
    pub fn without_extension() -> Tree {
        Tree::without_package(&pg_config())
    }

    fn without_package(pg_config: &Path) -> Tree {
        let account = Account::of_servers();
        let root = tempfile::Builder::new()
            .prefix("plugin-webhooks-")
            .tempdir_in("/tmp")
            .expect("a temporary directory in /tmp")
            .keep();
        let janitor = Mutex::new(Janitor::hire(&root));
        fs::set_permissions(&root, Permissions::from_mode(0o755))
            .expect("open the tree to everyone");
        account.own(&root);
        let layout = Layout::of_system(pg_config, &root);
        layout.fill();
        let template = OnceLock::new();
        Tree(Arc::new(Inner {
            root,
            layout,
            account,
            template,
            servers: AtomicUsize::new(0),
            janitor,
        }))
    }

    fn add_package(&self, package: &Path) {
        let layout = &self.0.layout;
        let control = in_package(package, &layout.share.system)
            .join("extension")
            .join(format!("{EXTENSION}.control"));
        assert!(
            control.is_file(),
            "{} is not a packaged extension ({} is missing): run `cargo xtask test`",
            package.display(),
            control.display(),
        );
        copy_files(
            &in_package(package, &layout.library.system),
            &self.library_dir(),
        );
        copy_files(
            &in_package(package, &layout.share.system).join("extension"),
            &self.extension_dir(),
        );
    }

    /// The directory of everything below; readable by every user.
    pub fn dir(&self) -> &Path {
        &self.0.root
    }

    /// Where the programs are, such as `psql`.
    pub fn bin_dir(&self) -> &Path {
        &self.0.layout.bin.private
    }

    /// Where the server looks for libraries (`$libdir`).
    pub fn library_dir(&self) -> PathBuf {
        self.0.layout.library.private.clone()
    }

    /// Where the server looks for control files and scripts; add a file to make it known.
    pub fn extension_dir(&self) -> PathBuf {
        self.0.layout.share.private.join("extension")
    }

    /// A program of the tree as a command, in a clean environment, as the user who runs the tests.
    pub fn program(&self, name: &str) -> Command {
        clean_command(&self.bin_dir().join(name))
    }

    /// A program of the tree as the user who owns the servers' files.
    pub(crate) fn server_program(&self, name: &str) -> Command {
        self.server_command(&self.bin_dir().join(name))
    }

    /// Any program as that user.
    pub(crate) fn server_command(&self, program: &Path) -> Command {
        let mut command = self.0.account.command(program);
        command.current_dir(&self.0.root).stdin(Stdio::null());
        command
    }

    /// Gives a file or directory to the user who owns the servers' files.
    pub(crate) fn give_to_servers(&self, path: &Path) {
        self.0.account.own(path);
    }

    /// The same, in a mount namespace of its own where the system's resolver asks `name_server`.
    /// `dir` holds the files that say so.
    pub(crate) fn server_program_with_names(
        &self,
        name: &str,
        dir: &Path,
        name_server: Ipv4Addr,
    ) -> Command {
        // One process from beginning to end: its id is that of the server.
        const ENTER: &str = r#"
            mount --bind "$1/resolv.conf" /etc/resolv.conf &&
            mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf &&
            shift && exec "$@""#;
        let files = [
            (
                "resolv.conf",
                format!("nameserver {name_server}\noptions timeout:10 attempts:1\n"),
            ),
            ("nsswitch.conf", "passwd: files\nhosts: dns\n".to_owned()),
        ];
        for (file, text) in files {
            let path = dir.join(file);
            fs::write(&path, text).expect("write the resolver's configuration");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("make it readable");
        }
        let mut command = clean_command(Path::new("unshare"));
        command
            .args(["--mount", "--propagation", "private"])
            .args(["/bin/sh", "-c", ENTER, "enter"])
            .arg(dir);
        self.0
            .account
            .switch(&mut command, &self.bin_dir().join(name));
        command.current_dir(&self.0.root).stdin(Stdio::null());
        command
    }

    /// A fresh directory for one server.
    pub(crate) fn new_server_dir(&self) -> PathBuf {
        let number = self.0.servers.fetch_add(1, Ordering::Relaxed);
        let dir = self.0.root.join(format!("server{number}"));
        fs::create_dir(&dir).expect("a directory for a server");
        self.0.account.own(&dir);
        dir
    }

    /// Fills `data` with a copy of a fresh cluster; `initdb` runs once for a tree.
    pub(crate) fn copy_template(&self, data: &Path) {
        let template = self.0.template.get_or_init(|| self.init_template());
        let mut copy = self.0.account.command(Path::new("cp"));
        copy.args(["-a", "--reflink=auto"])
            .arg(template)
            .arg(data)
            .current_dir(&self.0.root);
        run(&mut copy);
    }

    fn init_template(&self) -> PathBuf {
        let template = self.0.root.join("template");
        let mut initdb = self.server_program("initdb");
        initdb
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--no-sync", "--no-instructions", "-D"])
            .arg(&template);
        run(&mut initdb);
        let mut config = File::options()
            .append(true)
            .open(template.join("postgresql.conf"))
            .expect("open the template's postgresql.conf");
        writeln!(config, "include_if_exists '{SETTINGS_FILE}'").expect("extend postgresql.conf");
        template
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.janitor
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .dismiss();
    }
}

/// Where a package keeps the files that belong into the absolute directory `system`.
fn in_package(package: &Path, system: &Path) -> PathBuf {
    package.join(system.strip_prefix("/").expect("an absolute path"))
}
