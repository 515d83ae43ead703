//! The kit of the tests, the demo and the benchmarks: private PostgreSQL servers,
//! webhook receivers and callers that look like PostgREST's.
//!
//! Nothing here writes into the system's PostgreSQL, and whatever a run leaves behind is removed when
//! its process ends, however it ends. A failure panics with a message: this is test equipment. So does the end of a
//! database or server whose log has what nobody announced: see [`Database::expect_log`].

mod account;
mod caller;
mod catalog;
mod clients;
mod database;
mod dns;
mod pgbouncer;
mod project;
mod receiver;
mod server;
mod signature;
mod sql;
mod tenant;
mod tls;
mod tree;
mod volume;
mod wait;

pub use caller::{RoleOptions, as_user, create_supabase_roles, create_supabase_roles_with};
pub use catalog::{assert_same_lines, catalog};
pub use clients::{CLIENTS_VARIABLE, NO_CLIENTS_VARIABLE, run_client, run_example};
pub use database::Database;
pub use dns::{Dns, Records};
pub use pgbouncer::{Pgbouncer, find_program};
pub use project::{
    HOST_SCHEMA, TAKE_OVER_WARNINGS, create_tracked_table, former_system, load_former_system,
    project, project_with_items, shared_server,
};
pub use receiver::{Received, Receiver, Reply};
pub use server::{PsqlOutput, Server, ServerBuilder, StopMode};
pub use signature::{assert_signed, sign, verify_signature};
pub use sql::{count, describe, execute, expect_sqlstate, quote_ident, quote_literal, text, value};
pub use tenant::{Delivery, Tenant, as_service, assert_delivers};
pub use tls::{Ca, Identity};
pub use tree::{EXTENSION, PACKAGE_VARIABLE, SystemFiles, Tree};
pub use volume::Volume;
pub use wait::wait_until;

/// The blocking PostgreSQL client that the kit hands out.
pub use postgres;
