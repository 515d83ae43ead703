//! The harness of the end-to-end tests, the demo and the benchmarks: private PostgreSQL servers,
//! webhook receivers and callers that look like PostgREST's.
//!
//! Nothing here writes into the system's PostgreSQL, and whatever a run leaves behind is removed when
//! its process ends, however it ends. A failure panics with a message: this is test equipment.

mod account;
mod caller;
mod catalog;
mod database;
mod dns;
mod receiver;
mod server;
mod signature;
mod tenant;
mod tls;
mod tree;
mod volume;
mod wait;

pub use caller::{
    RoleOptions, as_user, create_supabase_roles, create_supabase_roles_with, describe,
    expect_sqlstate, quote_ident, quote_literal,
};
pub use catalog::{assert_same_lines, catalog};
pub use database::{Database, HOST_SCHEMA, legacy, load_legacy};
pub use dns::{Dns, Records};
pub use receiver::{Received, Receiver, Reply};
pub use server::{PsqlOutput, Server, ServerBuilder, StopMode};
pub use signature::{sign, verify_signature};
pub use tenant::{Delivery, Tenant, as_service, create_tracked_table, execute, project, value};
pub use tls::{Ca, Identity};
pub use tree::{EXTENSION, PACKAGE_VARIABLE, Tree};
pub use volume::Volume;
pub use wait::wait_until;

/// The blocking PostgreSQL client that the harness hands out.
pub use postgres;

use std::sync::OnceLock;

/// The server that the tests of one test binary share: preloaded, with loopback receivers allowed.
///
/// Take a fresh [`Database`] from it with [`Server::database`]. A test that stops its server, kills
/// a process of it or changes a setting starts its own with [`Server::preloaded`].
pub fn shared_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        Server::preloaded(
            Tree::shared(),
            &[("plugin_webhooks.allowed_networks", "127.0.0.0/8, ::1/128")],
        )
    })
}
