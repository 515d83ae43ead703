//! One database of a test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use postgres::Client;

use crate::caller::AUTHENTICATOR;
use crate::server::{PsqlOutput, Server};
use crate::sql::{describe, quote_ident};
use crate::tree::EXTENSION;

const NAME_LIMIT: usize = 63;

/// A database of its own name, dropped again when the test succeeds. The test fails then if the server's log has
/// messages that it did not announce: see [`Database::expect_log`].
pub struct Database {
    server: Server,
    name: String,
}

impl Server {
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
}

impl Database {
    fn create(server: Server) -> Database {
        let name = unique_name();
        let mut client = server.connect("postgres");
        client
            .batch_execute(&format!(
                "create database {} template template0",
                quote_ident(&name)
            ))
            .unwrap_or_else(|error| panic!("create database: {}", describe(&error)));
        server.watch_database(&name);
        Database { server, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A session of the superuser.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.server.connect(&self.name)
    }

    /// A session of `user`.
    #[track_caller]
    pub fn client_as(&self, user: &str) -> Client {
        self.server.connect_as(&self.name, user)
    }

    /// A session of `authenticator`, as PostgREST has it: see [`crate::as_user`].
    #[track_caller]
    pub fn authenticator(&self) -> Client {
        self.client_as(AUTHENTICATOR)
    }

    /// Announces a message about this database, see [`Server::expect_log`]: one must be logged before it is dropped.
    pub fn expect_log(&self, text: &str) {
        self.server.announce_about(&self.name, text, true);
    }

    /// Announces a message about this database that may be logged or not, because that depends on time.
    pub fn allow_log(&self, text: &str) {
        self.server.announce_about(&self.name, text, false);
    }

    /// Runs `sql` in a real psql as the superuser.
    pub fn psql(&self, sql: &str) -> PsqlOutput {
        self.server.psql(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.server.log_tail());
            return;
        }
        self.server.end_database(&self.name, || {
            // Best effort: the server may be stopped, and its end removes the database anyway.
            if let Ok(mut client) = self.server.try_connect_as("postgres", "postgres") {
                let _ = client.batch_execute("set statement_timeout = '10s'");
                let _ = client.batch_execute(&format!(
                    "drop database {} with (force)",
                    quote_ident(&self.name)
                ));
            }
        });
    }
}

/// A new name that tells which test it belongs to: libtest names threads after tests.
fn unique_name() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let thread = thread::current();
    let test = thread.name().unwrap_or("unnamed").replace("::", "_");
    let mut name = format!("t{number}_{test}");
    let fitting = (0..=NAME_LIMIT.min(name.len()))
        .rev()
        .find(|length| name.is_char_boundary(*length));
    name.truncate(fitting.unwrap_or(0));
    name
}
