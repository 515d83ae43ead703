//! A PostgreSQL installation of our own: real copies of the system's programs, links to its
//! libraries and data files, and the packaged extension beside them.
//!
//! PostgreSQL finds its files relative to its executable, so the copy never looks at the system's
//! extension directories. The tree lives in /tmp, where the user `postgres` may go even when the
//! clone lies somewhere it may not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::account::{Account, clean_command};

/// The name of the extension, of its library and of its control file.
pub const EXTENSION: &str = "plugin_webhooks";

/// The environment variable that holds the directory with the packaged extension.
pub const PACKAGE_VARIABLE: &str = "PLUGIN_WEBHOOKS_PACKAGE";

/// The file in a data directory that holds the settings of its server.
pub(crate) const SETTINGS_FILE: &str = "harness.conf";

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

/// Where the parts of the installation lie, in the system and in the tree.
struct Layout {
    bin: Part,
    library: Part,
    share: Part,
}

struct Part {
    system: PathBuf,
    private: PathBuf,
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
        layout.copy_programs();
        layout.link_libraries();
        layout.link_shared_files();
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
        let mut command = self.0.account.command(&self.bin_dir().join(name));
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

impl Layout {
    fn of_system(pg_config: &Path, root: &Path) -> Layout {
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

    fn copy_programs(&self) {
        create_dir(&self.bin.private);
        for entry in entries(&self.bin.system) {
            let to = self.bin.private.join(file_name(&entry));
            fs::copy(&entry, &to)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", entry.display()));
        }
    }

    fn link_libraries(&self) {
        link_entries(&self.library.system, &self.library.private, &[]);
    }

    fn link_shared_files(&self) {
        link_entries(&self.share.system, &self.share.private, &["extension"]);
        link_entries(
            &self.share.system.join("extension"),
            &self.share.private.join("extension"),
            &[],
        );
    }
}

/// A process that outlives ours by a moment: when the pipe to it closes, because we dismissed it,
/// exited, panicked or were killed, it ends every process whose program lies in the tree, unmounts what
/// is mounted there and then deletes the tree.
struct Janitor {
    process: Child,
}

const JANITOR: &str = r#"
trap '' INT TERM HUP QUIT
cat >/dev/null
ours() {
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null) in
            "$1"/*) echo "${process#/proc/}" ;;
        esac
    done
}
for signal in QUIT KILL; do
    for pid in $(ours "$1"); do kill -s "$signal" "$pid" 2>/dev/null; done
    for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -n "$(ours "$1")" ] || break 2
        sleep 0.1
    done
done
while read -r device dir rest; do
    case $dir in "$1"/*) umount -l "$dir" ;; esac
done </proc/mounts
rm -rf -- "$1"
"#;

impl Janitor {
    fn hire(root: &Path) -> Janitor {
        let process = Command::new("/bin/sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start /bin/sh");
        Janitor { process }
    }

    fn dismiss(&mut self) {
        drop(self.process.stdin.take());
        // Nothing is left to do about a janitor that failed.
        let _ = self.process.wait();
    }
}

/// The variable `PG_CONFIG`, else the `pg_config` on PATH.
fn pg_config() -> PathBuf {
    std::env::var_os("PG_CONFIG").map_or_else(|| "pg_config".into(), PathBuf::from)
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

/// Where a package keeps the files that belong into the absolute directory `system`.
fn in_package(package: &Path, system: &Path) -> PathBuf {
    package.join(system.strip_prefix("/").expect("an absolute path"))
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

fn copy_files(from: &Path, to: &Path) {
    for entry in entries(from) {
        let to = to.join(file_name(&entry));
        let copied = fs::copy(&entry, &to)
            .and_then(|_| fs::set_permissions(&to, Permissions::from_mode(0o755)));
        copied.unwrap_or_else(|error| panic!("cannot copy {}: {error}", entry.display()));
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    };
    list().unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display()))
}

fn file_name(path: &Path) -> &OsStr {
    path.file_name()
        .expect("an entry of a directory has a name")
}

/// Creates a directory that every user may enter, whatever our umask is.
fn create_dir(dir: &Path) {
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
