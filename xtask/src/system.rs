//! What the operating system has to offer: PostgreSQL, its headers, a C compiler front end. On Debian
//! the missing packages are installed; nothing else is changed, and no database cluster is created.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use plugin_webhooks_kit::find_program;

use crate::workspace::{run, step};

const DEBIAN_PG_CONFIG: &str = "/usr/lib/postgresql/15/bin/pg_config";
const TO_BUILD: &[&str] = &[
    "postgresql-15",
    "postgresql-server-dev-15",
    "libclang-dev",
    "clang",
    "pkg-config",
];
const TO_TEST: &[&str] = &["postgresql-15-cron"];
const TO_RUN_PYTHON: &[&str] = &["python3", "python3-venv"];
/// Programs that the tests of other clients run, each with its package.
const TO_RUN_CLIENTS: &[(&str, &str)] = &[
    ("node", "nodejs"),
    ("npm", "npm"),
    ("pgbouncer", "pgbouncer"),
];

/// Debian's PostgreSQL creates and starts a cluster when it is installed, unless a file here says no.
const CLUSTER_SETTINGS: &str = "/etc/postgresql-common/createcluster.d";
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/plugin-webhooks-no-cluster.conf";

/// What a command is going to do with the system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Build,
    Test,
}

/// Makes sure that everything is there, and returns the `pg_config` to build with.
pub fn prepare(purpose: Purpose) -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("PG_CONFIG") {
        return Ok(chosen.into());
    }
    ensure!(
        is_debian(),
        "this system has no apt-get: install PostgreSQL 15 to 18 with its server headers, clang, \
         libclang and pkg-config, and set PG_CONFIG to the path of its pg_config"
    );
    let mut wanted = TO_BUILD.to_vec();
    if purpose == Purpose::Test {
        wanted.extend(TO_TEST);
        if !python_has_venv() {
            wanted.extend(TO_RUN_PYTHON);
        }
    }
    let missing = missing_packages(&wanted)?;
    if !missing.is_empty() {
        install(&missing)?;
    }
    let pg_config = Path::new(DEBIAN_PG_CONFIG);
    ensure!(
        pg_config.exists(),
        "{DEBIAN_PG_CONFIG} is missing although its package is installed"
    );
    Ok(pg_config.to_owned())
}

/// Makes sure that clients of other languages can run.
pub fn prepare_clients() -> Result<()> {
    // By program, not by package: Node.js of another source is as good, and Debian's would not fit beside it.
    let mut missing: Vec<&str> = TO_RUN_CLIENTS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !python_has_venv() {
        missing.extend(TO_RUN_PYTHON);
    }
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        std::env::var_os("PG_CONFIG").is_none() && is_debian(),
        "the tests of other clients need {}: install what Debian calls so",
        missing.join(", ")
    );
    install(&missing)
}

fn is_debian() -> bool {
    ["/usr/bin/apt-get", "/usr/bin/dpkg-query"]
        .iter()
        .all(|program| Path::new(program).exists())
}

fn python_has_venv() -> bool {
    let mut python = Command::new("python3");
    python
        .args(["-c", "import venv, ensurepip"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

fn missing_packages<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    // An unknown package makes dpkg-query fail, but it still lists the others.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("cannot run dpkg-query")?;
    let known = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed = |package: &&str| {
        known
            .lines()
            .any(|line| line == format!("{package} installed"))
    };
    Ok(wanted
        .iter()
        .filter(|package| !installed(package))
        .copied()
        .collect())
}

fn install(missing: &[&str]) -> Result<()> {
    step(&format!("installing {} with apt-get", missing.join(" ")));
    let root = Root::find(missing)?;
    run(&mut root.command("apt-get", &["update", "-qq"]))
        .context("apt-get cannot read the package lists: check the network and sources.list")?;
    let _guard = missing
        .contains(&"postgresql-15")
        .then(|| NoCluster::declare(&root))
        .transpose()?;
    let mut arguments = vec!["install", "-qq", "--yes", "--no-install-recommends"];
    arguments.extend(missing);
    run(&mut root.command("apt-get", &arguments)).context(
        "apt-get cannot install these packages; where Debian has no PostgreSQL 15, install another \
         version with its server headers and set PG_CONFIG to the path of its pg_config",
    )
}

/// How to become root.
struct Root {
    prefix: Vec<OsString>,
}

impl Root {
    fn find(missing: &[&str]) -> Result<Root> {
        if user_id()? == 0 {
            return Ok(Root { prefix: Vec::new() });
        }
        let sudo = Command::new("sudo")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if sudo.is_ok_and(|status| status.success()) {
            return Ok(Root {
                prefix: vec!["sudo".into()],
            });
        }
        bail!(
            "you are not root and there is no sudo: as root, run\n  apt-get install {}",
            missing.join(" ")
        )
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut words = self.prefix.clone();
        // `env` because sudo drops variables.
        words.extend(["env", "DEBIAN_FRONTEND=noninteractive", program].map(OsString::from));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

/// While this lives, installing PostgreSQL creates no cluster.
struct NoCluster<'a> {
    root: &'a Root,
    created_dir: bool,
}

impl NoCluster<'_> {
    fn declare(root: &Root) -> Result<NoCluster<'_>> {
        let created_dir = !Path::new(CLUSTER_SETTINGS).exists();
        let guard = NoCluster { root, created_dir };
        run(&mut root.command("mkdir", &["-p", CLUSTER_SETTINGS]))?;
        let write = format!("echo 'create_main_cluster = false' >{NO_CLUSTER}");
        run(&mut root.command("sh", &["-c", &write]))?;
        Ok(guard)
    }
}

impl Drop for NoCluster<'_> {
    fn drop(&mut self) {
        let mut undo = self.root.command("rm", &["-f", NO_CLUSTER]);
        if let Err(error) = run(&mut undo) {
            eprintln!("warning: {NO_CLUSTER} is left behind, delete it: {error:#}");
        }
        if self.created_dir {
            // It stays when something else has moved in.
            let _ = self
                .root
                .command("rmdir", &[CLUSTER_SETTINGS])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// The user who runs this.
pub fn user_id() -> Result<u32> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("cannot run id")?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .context("id -u prints no number")
}
