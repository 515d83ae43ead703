//! plugin_webhooks: signed webhooks out of, and signed calls into, a PostgreSQL database.
//! This file is the map: modules, SQL files in their order, and what happens when PostgreSQL
//! loads the library.
// ErrorReport is what pgrx raises; it is built once in a call that fails.
#![allow(clippy::result_large_err)]

mod audit;
mod caller;
mod change;
mod delivery;
mod error;
mod inbound;
mod instance;
mod lifecycle;
mod pg;
mod references;
mod rpc;
mod secrets;
mod settings;
mod status;
mod wake;
mod worker;

use pgrx::prelude::*;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/00_schemas.sql", name = "schemas", bootstrap);
extension_sql_file!(
    "../sql/05_take_over.sql",
    name = "take_over",
    requires = ["schemas"]
);
extension_sql_file!(
    "../sql/10_tables.sql",
    name = "tables",
    requires = ["take_over"]
);
extension_sql_file!(
    "../sql/12_attempts.sql",
    name = "attempts",
    requires = ["tables"]
);
extension_sql_file!(
    "../sql/15_converge.sql",
    name = "converge",
    requires = ["attempts"]
);
extension_sql_file!(
    "../sql/20_identity.sql",
    name = "identity",
    requires = ["converge"]
);
extension_sql_file!(
    "../sql/30_views.sql",
    name = "views",
    requires = ["identity"]
);
extension_sql_file!("../sql/40_rpc.sql", name = "rpc", requires = ["views"]);
extension_sql_file!("../sql/50_audit.sql", name = "audit", requires = ["rpc"]);
extension_sql_file!("../sql/55_home.sql", name = "home", requires = ["audit"]);
extension_sql_file!(
    "../sql/60_operator.sql",
    name = "operator",
    requires = ["home"]
);
extension_sql_file!(
    "../sql/70_grants.sql",
    name = "grants",
    requires = ["operator"]
);
extension_sql_file!(
    "../sql/90_finish.sql",
    name = "finish",
    requires = ["grants"],
    finalize
);

#[cfg(feature = "pg_test")]
#[path = "../pgrx-tests/mod.rs"]
mod pgrx_tests;

/// Called once a process: by the postmaster with shared_preload_libraries, else by the first session
/// that uses the extension.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    pg::cache::init();
    wake::init();
    worker::init();
}
