//! The settings of a server that is to be started, and its standbys.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::config::{inherited_settings, write_config};
use super::handle::{Inner, START_DEADLINE, Server};
use super::log::{LINE_PREFIX, Watch};
use crate::dns::Dns;
use crate::tree::{EXTENSION, Tree, run};
use crate::wait::wait_until;

const START_ATTEMPTS: usize = 5;

/// What every server is started with; a test's own settings come after these and win.
const DEFAULTS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "100"),
    // One worker for each database that has the extension, and tests run side by side.
    ("max_worker_processes", "64"),
    ("log_line_prefix", LINE_PREFIX),
    ("log_timezone", "UTC"),
];

/// The settings of a server that has not started yet.
#[derive(Clone)]
pub struct ServerBuilder {
    tree: Tree,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    name_server: Option<Ipv4Addr>,
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

    fn start_with(self, create_data: impl Fn(&Path)) -> Server {
        for attempt in 1.. {
            let dir = self.tree.new_server_dir();
            create_data(&dir.join("data"));
            let port = free_port();
            write_config(&dir, port, &self.settings);
            let server = Server(Arc::new(Inner {
                tree: self.tree.clone(),
                dir,
                port,
                environment: self.environment.clone(),
                name_server: self.name_server,
                process: Mutex::new(None),
                watch: Mutex::new(Watch::default()),
            }));
            match server.try_start() {
                Ok(()) => return server,
                Err(_)
                    if attempt < START_ATTEMPTS
                        && server.log().contains("Address already in use") =>
                {
                    server.allow_log("");
                }
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
        let standby = builder.settings(settings).start_with(|data| {
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
        });
        // The end of the primary, or of the standby's time as one, ends its receiver of WAL.
        standby.allow_log("|walreceiver|");
        standby
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
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on 127.0.0.1");
    listener.local_addr().expect("its address").port()
}
