//! One PostgreSQL server in a private tree: start, stop, crash, restart, settings, log.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use crate::database::Database;
use crate::dns::Dns;
use crate::sql::{describe, quote_ident, quote_literal};
use crate::tree::{EXTENSION, SETTINGS_FILE, Tree, run};
use crate::volume::Volume;
use crate::wait::wait_until;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const START_ATTEMPTS: usize = 5;
/// A statement that hangs fails its test. A benchmark may set it to 0.
const STATEMENT_TIMEOUT: &str = "-c statement_timeout=120s";
const SUPERUSER: &str = "postgres";
const READY: &str = "database system is ready to accept";

/// What every server is started with; a test's own settings come after these and win.
const DEFAULTS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "100"),
    // One worker for each database that has the extension, and tests run side by side.
    ("max_worker_processes", "64"),
    ("log_line_prefix", "%m [%p] %b %d "),
    ("log_timezone", "UTC"),
];

/// How to end a server: see `pg_ctl stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has gone.
    Smart,
    /// Ends the sessions, writes a checkpoint.
    Fast,
    /// Ends everything at once; the next start recovers.
    Immediate,
}

/// A running server. Clones are handles to the same one; the last one dropped stops it.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    tree: Tree,
    dir: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    name_server: Option<Ipv4Addr>,
    process: Mutex<Option<Child>>,
}

/// The settings of a server that has not started yet.
#[derive(Clone)]
pub struct ServerBuilder {
    tree: Tree,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    name_server: Option<Ipv4Addr>,
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

impl ServerBuilder {
    /// Adds a setting; a later one of the same name wins.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds several settings.
    pub fn settings(self, settings: &[(&str, &str)]) -> Self {
        settings
            .iter()
            .fold(self, |builder, (name, value)| builder.setting(name, value))
    }

    /// Loads the extension's library at server start. To load others too, such as pg_cron, name all
    /// of them in the setting `shared_preload_libraries`.
    pub fn preloaded(self) -> Self {
        self.setting("shared_preload_libraries", EXTENSION)
    }

    /// Adds an environment variable of the server's process.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the server's processes look names up at `dns` and nowhere else. Needs root.
    pub fn name_server(mut self, dns: &Dns) -> Self {
        self.name_server = Some(dns.address());
        self
    }

    /// Creates the cluster from the tree's template and starts it.
    pub fn start(self) -> Server {
        let tree = self.tree.clone();
        self.start_with(|data| tree.copy_template(data))
    }

    fn start_with(self, create_data: impl FnOnce(&Path)) -> Server {
        let dir = self.tree.new_server_dir();
        create_data(&dir.join("data"));
        for attempt in 1.. {
            let port = free_port();
            write_config(&dir, port, &self.settings);
            let server = Server(Arc::new(Inner {
                tree: self.tree.clone(),
                dir: dir.clone(),
                port,
                environment: self.environment.clone(),
                name_server: self.name_server,
                process: Mutex::new(None),
            }));
            match server.try_start() {
                Ok(()) => return server,
                Err(_)
                    if attempt < START_ATTEMPTS
                        && server.log().contains("Address already in use") => {}
                Err(reason) => panic!("{reason}"),
            }
        }
        unreachable!("the loop ends by returning or panicking")
    }
}

impl Server {
    /// A server to configure before its start.
    pub fn builder(tree: &Tree) -> ServerBuilder {
        let settings = DEFAULTS
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        ServerBuilder {
            tree: tree.clone(),
            settings,
            environment: Vec::new(),
            name_server: None,
        }
    }

    /// Starts a server that loads the extension only when a session needs it.
    pub fn start(tree: &Tree, settings: &[(&str, &str)]) -> Server {
        Server::builder(tree).settings(settings).start()
    }

    /// Starts a server that has the extension in `shared_preload_libraries`.
    pub fn preloaded(tree: &Tree, settings: &[(&str, &str)]) -> Server {
        Server::builder(tree).preloaded().settings(settings).start()
    }

    /// Starts a streaming standby of this server, with its settings and these.
    pub fn standby(&self, settings: &[(&str, &str)]) -> Server {
        let primary = self.clone();
        let mut builder = Server::builder(self.tree());
        builder.settings = inherited_settings(&self.0.dir);
        builder.environment = self.0.environment.clone();
        builder.name_server = self.0.name_server;
        builder.settings(settings).start_with(|data| {
            let mut backup = primary.0.tree.server_program("pg_basebackup");
            primary.point_here(&mut backup);
            run(backup
                .args([
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                    "--no-sync",
                    "-D",
                ])
                .arg(data));
        })
    }

    /// Ends recovery of a standby and waits until it accepts writes.
    pub fn promote(&self) {
        let mut client = self.connect("postgres");
        client
            .batch_execute("select pg_promote()")
            .expect("promote the standby");
        wait_until(START_DEADLINE, "the end of recovery", || {
            let row = client
                .query_one("select pg_is_in_recovery()", &[])
                .expect("ask for recovery");
            !row.get::<_, bool>(0)
        });
    }

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
            .application_name("e2e")
            .options(STATEMENT_TIMEOUT)
            .connect_timeout(Duration::from_secs(10));
        config
    }

    /// A fresh database with the extension.
    #[track_caller]
    pub fn database(&self) -> Database {
        self.database_with(|_| {})
    }

    /// A fresh database; `prepare` runs in it before `CREATE EXTENSION`.
    #[track_caller]
    pub fn database_with(&self, prepare: impl FnOnce(&mut Client)) -> Database {
        let database = self.empty_database();
        let mut client = database.client();
        prepare(&mut client);
        client
            .batch_execute(&format!("create extension {EXTENSION}"))
            .unwrap_or_else(|error| panic!("create extension: {}", describe(&error)));
        database
    }

    /// A fresh database without the extension.
    #[track_caller]
    pub fn empty_database(&self) -> Database {
        Database::create(self.clone())
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

    fn point_here(&self, command: &mut Command) {
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.0.port.to_string())
            .env("PGUSER", SUPERUSER);
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log, for the report of a failure.
    pub(crate) fn log_tail(&self) -> String {
        const LINES: usize = 40;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.0.dir.join("log")
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

    /// Stops the server and returns how long that took.
    pub fn stop(&self, mode: StopMode) -> Duration {
        let signal = match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        self.end_with(signal)
    }

    /// Kills the postmaster as a power failure would; start again with [`Server::start_again`].
    pub fn crash(&self) {
        self.end_with(Signal::KILL);
    }

    fn end_with(&self, signal: Signal) -> Duration {
        let started = Instant::now();
        let mut process = self.process();
        let Some(mut postmaster) = process.take() else {
            return Duration::ZERO;
        };
        send(signal, &postmaster);
        wait_until(STOP_DEADLINE, "the server to stop", || {
            exited(&mut postmaster)
        });
        started.elapsed()
    }

    /// Starts the stopped server on the same port and data.
    pub fn start_again(&self) {
        assert!(self.process().is_none(), "the server is running");
        let deadline = Instant::now() + START_DEADLINE;
        while let Err(reason) = self.try_start() {
            // Orphans of a killed postmaster hold its shared memory until they notice.
            let orphans = self.log_of_last_start().contains("still in use");
            assert!(orphans && Instant::now() < deadline, "{reason}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops fast and starts again.
    pub fn restart(&self) {
        self.stop(StopMode::Fast);
        self.start_again();
    }

    /// Kills one process of the server, which makes PostgreSQL end all others and recover.
    pub fn kill_9(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::KILL).expect("kill the process");
    }

    /// Freezes one process of the server with all its threads.
    pub fn pause(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::STOP).expect("pause the process");
    }

    /// Lets a frozen process go on.
    pub fn resume(&self, pid: i32) {
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, Signal::CONT).expect("resume the process");
    }

    /// Restarts the server with its WAL on a volume of its own; `None`, and nothing happens, when
    /// whoever runs the tests may not mount.
    pub fn move_wal_to_volume(&self, megabytes: u32) -> Option<Volume> {
        self.stop(StopMode::Fast);
        let wal = self.data_dir().join("pg_wal");
        let old = self.0.dir.join("old_wal");
        fs::rename(&wal, &old).expect("move the WAL away");
        fs::create_dir(&wal).expect("an empty directory");
        let volume = Volume::mount(&wal, megabytes);
        if volume.is_some() {
            self.0.tree.give_to_servers(&wal);
            run(Command::new("cp").arg("-aT").arg(&old).arg(&wal));
        } else {
            fs::remove_dir(&wal).expect("remove the empty directory");
            fs::rename(&old, &wal).expect("move the WAL back");
        }
        self.start_again();
        volume
    }

    /// Creates a tablespace on a volume of its own; `None` when whoever runs the tests may not mount.
    pub fn tablespace_on_volume(&self, name: &str, megabytes: u32) -> Option<Volume> {
        let dir = self.0.dir.join(name);
        fs::create_dir(&dir).expect("a directory for the tablespace");
        let volume = Volume::mount(&dir, megabytes)?;
        self.0.tree.give_to_servers(&dir);
        let sql = format!(
            "create tablespace {} location {}",
            quote_ident(name),
            quote_literal(&dir.display().to_string())
        );
        let mut client = self.connect("postgres");
        client
            .batch_execute(&sql)
            .unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
        Some(volume)
    }

    /// Kills one process of the server and waits until the server has recovered from that.
    pub fn kill_9_and_recover(&self, pid: i32) {
        let readiness = || self.log().matches(READY).count();
        let before = readiness();
        self.kill_9(pid);
        wait_until(START_DEADLINE, "recovery after kill -9", || {
            readiness() > before
        });
        self.wait_ready();
    }

    /// Waits until the server accepts connections.
    pub fn wait_ready(&self) {
        wait_until(START_DEADLINE, "the server to accept connections", || {
            self.try_connect_as("postgres", SUPERUSER).is_ok()
        });
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> i32 {
        let process = self.process();
        let id = process.as_ref().expect("the server is running").id();
        i32::try_from(id).expect("a process id")
    }

    fn try_start(&self) -> Result<(), String> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("open the log");
        writeln!(&log, "{START_MARK}").expect("write to the log");
        let mut postgres = match self.0.name_server {
            None => self.0.tree.server_program("postgres"),
            Some(address) => {
                self.0
                    .tree
                    .server_program_with_names("postgres", &self.0.dir, address)
            }
        };
        postgres
            .arg("-D")
            .arg(self.data_dir())
            .envs(self.0.environment.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .process_group(0);
        let mut postmaster = postgres.spawn().expect("start postgres");
        let deadline = Instant::now() + START_DEADLINE;
        while !self.says_ready(&postmaster) {
            if exited(&mut postmaster) {
                return Err(format!(
                    "postgres did not start:\n{}",
                    self.log_of_last_start()
                ));
            }
            if Instant::now() > deadline {
                send(Signal::QUIT, &postmaster);
                let _ = postmaster.wait();
                return Err(format!(
                    "postgres was not ready in time:\n{}",
                    self.log_of_last_start()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        *self.process() = Some(postmaster);
        Ok(())
    }

    /// Whether the postmaster's lock file, which `pg_ctl` reads too, says that sessions may come.
    fn says_ready(&self, postmaster: &Child) -> bool {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&postmaster.id().to_string())
            && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    }

    fn log_of_last_start(&self) -> String {
        let log = self.log();
        log.rsplit(START_MARK).next().unwrap_or_default().to_owned()
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.0
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const START_MARK: &str = "---- start ----";

impl Drop for Inner {
    fn drop(&mut self) {
        let process = self
            .process
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(mut postmaster) = process.take() {
            send(Signal::QUIT, &postmaster);
            let _ = postmaster.wait();
        }
        // The tree's janitor deletes what cannot be deleted now.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn send(signal: Signal, process: &Child) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    // A process that has gone already needs no signal.
    let _ = kill_process(pid.expect("a process id"), signal);
}

fn exited(process: &mut Child) -> bool {
    process
        .try_wait()
        .expect("ask for the exit status")
        .is_some()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on 127.0.0.1");
    listener.local_addr().expect("its address").port()
}

fn write_config(dir: &Path, port: u16, settings: &[(String, String)]) {
    let mut text = String::new();
    let socket_dir = dir.display().to_string();
    let own = [
        ("unix_socket_directories", socket_dir.as_str()),
        ("port", &port.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    for (name, value) in settings.iter().chain(&own) {
        writeln!(text, "{name} = {}", config_literal(value)).expect("write to a string");
    }
    fs::write(settings_path(dir), text).expect("write the settings");
}

/// The settings of the server in `dir`, without the two that must differ.
fn inherited_settings(dir: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(settings_path(dir)).expect("read the settings");
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    lines
        .filter(|(name, _)| !matches!(*name, "port" | "unix_socket_directories"))
        .map(|(name, value)| {
            (
                name.to_owned(),
                value[1..value.len() - 1]
                    .replace("''", "'")
                    .replace("\\\\", "\\"),
            )
        })
        .collect()
}

fn settings_path(dir: &Path) -> PathBuf {
    dir.join("data").join(SETTINGS_FILE)
}

fn config_literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

impl Database {
    fn create(server: Server) -> Database {
        let name = crate::database::unique_name();
        let mut client = server.connect("postgres");
        client
            .batch_execute(&format!(
                "create database {} template template0",
                quote_ident(&name)
            ))
            .unwrap_or_else(|error| panic!("create database: {}", describe(&error)));
        Database::new(server, name)
    }
}
