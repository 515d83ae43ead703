//! A running server: sessions, psql, settings, log.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postgres::{Client, Config, NoTls};

use super::log::{APPLICATION, START_MARK, Watch};
use crate::sql::{describe, quote_literal};
use crate::tree::{EXTENSION, Tree};
use crate::wait::wait_until;

pub(super) const START_DEADLINE: Duration = Duration::from_secs(60);
/// A statement that hangs fails its test. A benchmark may set it to 0.
const STATEMENT_TIMEOUT: &str = "-c statement_timeout=120s";
pub(super) const SUPERUSER: &str = "postgres";

/// A running server. Clones are handles to the same one; the last one dropped stops it.
#[derive(Clone)]
pub struct Server(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) tree: Tree,
    pub(super) dir: PathBuf,
    pub(super) port: u16,
    pub(super) environment: Vec<(String, String)>,
    pub(super) name_server: Option<Ipv4Addr>,
    pub(super) process: Mutex<Option<Child>>,
    pub(super) watch: Mutex<Watch>,
}

/// What `psql` printed.
#[derive(Debug)]
pub struct PsqlOutput {
    /// Whether every statement succeeded.
    pub success: bool,
    /// Rows, unaligned and without headers.
    pub stdout: String,
    /// Errors and notices.
    pub stderr: String,
}

impl Server {
    /// The installation that the server runs from.
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The cluster's data directory, readable only by the servers' user and root.
    pub fn data_dir(&self) -> PathBuf {
        self.0.dir.join("data")
    }

    /// A session of the superuser.
    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        self.connect_as(database, SUPERUSER)
    }

    /// A session of `user`.
    #[track_caller]
    pub fn connect_as(&self, database: &str, user: &str) -> Client {
        self.try_connect_as(database, user)
            .unwrap_or_else(|error| panic!("cannot connect to {database} as {user}: {error}"))
    }

    /// A session of `user`, or why there is none.
    pub fn try_connect_as(&self, database: &str, user: &str) -> Result<Client, postgres::Error> {
        self.config().dbname(database).user(user).connect(NoTls)
    }

    /// Connection parameters without user and database.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.0.port)
            .application_name(APPLICATION)
            .options(STATEMENT_TIMEOUT)
            .connect_timeout(Duration::from_secs(10));
        config
    }

    /// Runs `sql` in a real psql as the superuser; stops at the first error.
    pub fn psql(&self, database: &str, sql: &str) -> PsqlOutput {
        let mut psql = self.program("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            "-",
            "-d",
            database,
        ]);
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start psql");
        let mut stdin = child.stdin.take().expect("psql's standard input");
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || {
            // psql may have left at an earlier error; its exit status tells.
            let _ = stdin.write_all(sql.as_bytes());
        });
        let output = child.wait_with_output().expect("psql's output");
        writer.join().expect("write to psql");
        PsqlOutput {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A program of the tree, such as `pg_dump`, that connects here as the superuser by default.
    pub fn program(&self, name: &str) -> Command {
        let mut command = self.0.tree.program(name);
        self.point_here(&mut command);
        command
    }

    /// libpq's variables of a program that connects here as the superuser by default.
    pub(crate) fn point_here(&self, command: &mut Command) {
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.0.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGAPPNAME", APPLICATION);
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log_bytes()).into_owned()
    }

    pub(super) fn log_bytes(&self) -> Vec<u8> {
        self.0.log_bytes()
    }

    /// The last lines of the log, for the report of a failure.
    pub(crate) fn log_tail(&self) -> String {
        const LINES: usize = 40;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.0.log_path()
    }

    /// Makes the server read its configuration again; sessions that start afterwards see it.
    pub fn reload(&self) {
        const LOADED: &str = "select pg_conf_load_time()::text";
        let mut client = self.connect("postgres");
        let loaded: String = client.query_one(LOADED, &[]).expect("the load time").get(0);
        client
            .batch_execute("select pg_reload_conf()")
            .expect("reload");
        wait_until(START_DEADLINE, "the reload", || {
            let now: String = self
                .connect("postgres")
                .query_one(LOADED, &[])
                .expect("the load time")
                .get(0);
            now != loaded
        });
    }

    /// `ALTER SYSTEM SET`, then a reload.
    pub fn alter_system(&self, name: &str, value: &str) {
        let mut client = self.connect("postgres");
        if name.starts_with(EXTENSION) {
            // A session that has not loaded the library does not know its settings.
            client
                .batch_execute(&format!("load '{EXTENSION}'"))
                .expect("load the library");
        }
        client
            .batch_execute(&format!(
                "alter system set {name} = {}",
                quote_literal(value)
            ))
            .unwrap_or_else(|error| panic!("alter system: {}", describe(&error)));
        self.reload();
    }

    pub(super) fn log_of_last_start(&self) -> String {
        let log = self.log();
        log.rsplit(START_MARK).next().unwrap_or_default().to_owned()
    }

    pub(super) fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.0
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.0.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(super) fn log_bytes(&self) -> Vec<u8> {
        fs::read(self.log_path()).unwrap_or_default()
    }
}
