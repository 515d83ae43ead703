//! `pg`, on its own sessions and behind pgbouncer.

use super::*;
use crate::upgrade::database_of;

#[test]
fn binds_parameters_and_prepares_statements() {
    Site::plain().run("node_postgres.js");
}

#[test]
fn keeps_its_prepared_statements_while_the_extension_is_updated() {
    let database = database_of("0.2.0", |_| {});
    run_client(&database, "update.js", &[("SITE", "{}")]);
}

#[test]
fn leaks_no_tenant_in_a_pool_in_transaction_mode() {
    Site::plain().run_pooled("pool.js");
}

#[test]
fn leaks_no_tenant_in_a_pool_after_a_take_over() {
    Site::taken_over().run_pooled("pool.js");
}
