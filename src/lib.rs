//! plugin_webhooks: signed webhooks out of, and signed calls into, a PostgreSQL database.
//! This file is the map: modules, SQL files in their order, and what happens when PostgreSQL
//! loads the library.
// ErrorReport is what pgrx raises; it is built once in a call that fails.
#![allow(clippy::result_large_err)]

mod audit;
mod caller;
mod change;
mod compat;
mod delivery;
mod error;
mod host;
mod inbound;
mod inbound_ids;
mod instance;
mod lifecycle;
mod limits;
mod pg;
mod references;
mod rpc;
mod secrets;
mod settings;
mod status;
mod tables;
mod text_enum;
mod wake;
mod worker;

use pgrx::prelude::*;

pgrx::pg_module_magic!();

// In the order of their numbers, through both directories.
extension_sql_file!("../sql/install/00_schemas.sql", name = "schemas", bootstrap);
extension_sql_file!(
    "../sql/takeover/03_strangers.sql",
    name = "strangers",
    requires = ["schemas"]
);
extension_sql_file!(
    "../sql/takeover/04_lock.sql",
    name = "lock",
    requires = ["strangers"]
);
extension_sql_file!(
    "../sql/takeover/05_expected_shape.sql",
    name = "expected_shape",
    requires = ["lock"]
);
extension_sql_file!(
    "../sql/takeover/06_found.sql",
    name = "found",
    requires = ["expected_shape"]
);
extension_sql_file!(
    "../sql/takeover/07_trust.sql",
    name = "trust",
    requires = ["found"]
);
extension_sql_file!(
    "../sql/takeover/08_adopt.sql",
    name = "adopt",
    requires = ["trust"]
);
extension_sql_file!(
    "../sql/install/09_owner.sql",
    name = "owner",
    requires = ["adopt"]
);
extension_sql_file!(
    "../sql/install/10_caller.sql",
    name = "caller",
    requires = ["owner"]
);
extension_sql_file!(
    "../sql/install/11_trigger_functions.sql",
    name = "trigger_functions",
    requires = ["caller"]
);
extension_sql_file!(
    "../sql/install/12_host_candidates.sql",
    name = "host_candidates",
    requires = ["trigger_functions"]
);
extension_sql_file!(
    "../sql/install/13_host.sql",
    name = "host",
    requires = ["host_candidates"]
);
extension_sql_file!(
    "../sql/install/20_plugins.sql",
    name = "plugins",
    requires = ["host"]
);
extension_sql_file!(
    "../sql/install/21_plugin_installations.sql",
    name = "plugin_installations",
    requires = ["plugins"]
);
extension_sql_file!(
    "../sql/install/22_plugin_webhook_subscriptions.sql",
    name = "plugin_webhook_subscriptions",
    requires = ["plugin_installations"]
);
extension_sql_file!(
    "../sql/install/23_entity_changes.sql",
    name = "entity_changes",
    requires = ["plugin_webhook_subscriptions"]
);
extension_sql_file!(
    "../sql/install/24_plugin_delivery_queue.sql",
    name = "plugin_delivery_queue",
    requires = ["entity_changes"]
);
extension_sql_file!(
    "../sql/install/25_plugin_delivery_attempts.sql",
    name = "plugin_delivery_attempts",
    requires = ["plugin_delivery_queue"]
);
extension_sql_file!(
    "../sql/install/26_instance.sql",
    name = "instance",
    requires = ["plugin_delivery_attempts"]
);
extension_sql_file!(
    "../sql/install/27_secrets.sql",
    name = "secrets",
    requires = ["instance"]
);
extension_sql_file!(
    "../sql/install/28_actions.sql",
    name = "actions",
    requires = ["secrets"]
);
extension_sql_file!(
    "../sql/install/29_rate_limits.sql",
    name = "rate_limits",
    requires = ["actions"]
);
extension_sql_file!(
    "../sql/install/30_inbound_ids.sql",
    name = "inbound_ids",
    requires = ["rate_limits"]
);
extension_sql_file!(
    "../sql/takeover/35_converge.sql",
    name = "converge",
    requires = ["inbound_ids"]
);
extension_sql_file!(
    "../sql/install/40_tenant_views.sql",
    name = "tenant_views",
    requires = ["converge"]
);
extension_sql_file!(
    "../sql/install/41_rpc.sql",
    name = "rpc",
    requires = ["tenant_views"]
);
extension_sql_file!(
    "../sql/install/42_track.sql",
    name = "track",
    requires = ["rpc"]
);
extension_sql_file!(
    "../sql/install/50_references.sql",
    name = "references",
    requires = ["track"]
);
extension_sql_file!(
    "../sql/install/51_resume.sql",
    name = "resume",
    requires = ["references"]
);
extension_sql_file!(
    "../sql/install/52_dump.sql",
    name = "dump",
    requires = ["resume"]
);
extension_sql_file!(
    "../sql/install/60_worker.sql",
    name = "worker",
    requires = ["dump"]
);
extension_sql_file!(
    "../sql/takeover/85_way_back.sql",
    name = "way_back",
    requires = ["worker"]
);
extension_sql_file!(
    "../sql/install/90_grants.sql",
    name = "grants",
    requires = ["way_back"]
);
extension_sql_file!(
    "../sql/install/99_finish.sql",
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
