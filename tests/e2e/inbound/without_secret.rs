//! Why a secret cannot be read is for the server log, not for a partner.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use plugin_webhooks_kit::Server;

use super::*;
use crate::private_server::builder;

/// Everything that a caller is told.
#[track_caller]
fn told(partners: &Partners) -> String {
    let error = expect_sqlstate(partners.call(&mut partners.session(), NOOP), "28000");
    format!(
        "{} | {:?} | {:?} | {:?}",
        error.message(),
        error.detail(),
        error.hint(),
        error.where_()
    )
}

#[track_caller]
fn assert_logged(server: &Server, part: &str) {
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("cannot be verified") && line.contains(part));
    assert!(
        line.is_some_and(|line| line.contains("LOG:")),
        "{part}: {log}"
    );
}

/// A caller may ask for all that a session can be told.
#[track_caller]
fn assert_psql_is_not_told(partners: &Partners, part: &str) {
    let output = partners.database.psql(&format!(
        "\\set VERBOSITY verbose
         set client_min_messages = debug1;
         set role anon;
         select public.rpc_plugin_ingest_webhook('{PLUGIN}', '{}', '{NOOP}', '00');",
        partners.installation
    ));
    assert!(output.stderr.contains("28000"), "{output:?}");
    assert!(!output.stderr.contains(part), "{output:?}");
}

#[test]
fn every_reason_is_told_in_the_same_words() {
    let own = builder().start();
    let partners = Partners::on(&own);
    let mut admin = partners.admin();
    execute(
        &mut admin,
        "update int.plugin_installations set secret_ref = null",
    );
    let expected = told(&partners);
    assert!(!expected.contains("plugin_webhooks.key"), "{expected}");
    assert_logged(&own, "there is no secret_ref");

    execute(
        &mut admin,
        "update int.plugin_installations set secret_ref = 'nobody'",
    );
    assert_eq!(told(&partners), expected);
    assert_logged(&own, "secret_ref names no secret");

    execute(
        &mut admin,
        "update int.plugin_installations set secret_ref = 'one'",
    );
    partners
        .call(&mut partners.session(), NOOP)
        .expect("the right secret");
    let key = own.data_dir().join("plugin_webhooks.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("open the key file");
    assert_eq!(told(&partners), expected);
    assert_logged(&own, "is open to other users");

    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("close the key file");
    let right = fs::read_to_string(&key).expect("the key");
    fs::write(&key, "0".repeat(64)).expect("another key");
    assert_eq!(told(&partners), expected);
    assert_logged(&own, "cannot be decrypted");

    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).expect("take the key file away");
    assert_eq!(told(&partners), expected);
    assert_logged(&own, "plugin_webhooks.key does not exist");
    assert_psql_is_not_told(&partners, "plugin_webhooks.key");

    fs::rename(&aside, &key).expect("bring the key file back");
    fs::write(&key, right).expect("the right key");
    partners
        .call(&mut partners.session(), NOOP)
        .expect("the right secret again");
}

#[test]
fn a_cancelled_call_says_so() {
    let partners = Partners::new();
    execute(
        &mut partners.admin(),
        "create schema vault;
         create view vault.decrypted_secrets as
             select 'one'::text as name, pg_catalog.pg_sleep(60)::text as decrypted_secret;
         select plugin_webhooks.attach_host()",
    );
    let mut session = partners.session();
    execute(&mut session, "set statement_timeout = '100ms'");
    expect_sqlstate(partners.call(&mut session, NOOP), "57014");
}
