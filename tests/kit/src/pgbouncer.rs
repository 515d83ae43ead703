//! Debian's pgbouncer in transaction mode, in front of one database.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use crate::caller::AUTHENTICATOR;
use crate::database::Database;
use crate::server::free_port;
use crate::wait::wait_until;

const PROGRAM: &str = "pgbouncer";
const SOON: Duration = Duration::from_secs(20);

/// A running pgbouncer; dropping it stops it.
pub struct Pgbouncer {
    process: Child,
    port: u16,
}

impl Pgbouncer {
    /// `authenticator` reaches the database by its name with five sessions, and by the name `one` with a single one.
    #[track_caller]
    pub fn in_front_of(database: &Database) -> Pgbouncer {
        let server = database.server();
        let tree = server.tree();
        let program = find_program(PROGRAM).expect("pgbouncer: `cargo xtask test e2e` installs it");
        let (dir, port) = (tree.new_server_dir(), free_port());
        let (ini, users) = (dir.join("pgbouncer.ini"), dir.join("users"));
        let (name, behind) = (database.name(), server.port());
        let text = format!(
            "[databases]
             {name} = host=127.0.0.1 port={behind} pool_size=5
             one = host=127.0.0.1 port={behind} dbname={name} pool_size=1
             [pgbouncer]
             listen_addr = 127.0.0.1
             listen_port = {port}
             unix_socket_dir =
             auth_type = trust
             auth_file = {}
             pool_mode = transaction
             max_client_conn = 300
            ",
            users.display()
        );
        fs::write(&ini, text).expect("write pgbouncer's configuration");
        fs::write(&users, format!("\"{AUTHENTICATOR}\" \"\"\n")).expect("write its users");
        // A copy in the tree ends with the tree, however the test ends.
        let copy = dir.join(PROGRAM);
        fs::copy(&program, &copy).expect("copy pgbouncer");
        let log = File::create(dir.join("log")).expect("a log");
        let process = tree
            .server_command(&copy)
            .arg(&ini)
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("start pgbouncer");
        let bouncer = Pgbouncer { process, port };
        wait_until(SOON, "pgbouncer to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        bouncer
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where a program is, also one for administrators.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}
