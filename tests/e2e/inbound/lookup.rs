//! Which installations can be called.

use super::*;

#[track_caller]
fn unknown(session: &mut Client, plugin: &str, installation: &str) {
    let signature = signature(session, SECRET, NOOP);
    expect_sqlstate(
        ingest(session, plugin, installation, NOOP, &signature),
        "P0001",
    );
}

#[test]
fn knows_only_the_installations_of_that_plugin() {
    let partners = Partners::new();
    let mut session = partners.session();
    let random = text(&mut session, "select gen_random_uuid()::text");
    unknown(&mut session, PLUGIN, &random);
    unknown(&mut session, "unused", &partners.installation);
    unknown(&mut session, "Desk", &partners.installation);
    unknown(&mut session, "desk' or '1'='1", &partners.installation);
}

#[test]
fn skips_what_is_switched_off_until_it_is_on_again() {
    let partners = Partners::new();
    let (mut admin, mut session) = (partners.admin(), partners.session());
    let installation = &partners.installation;
    for status in ["disabled", "uninstalled"] {
        execute(
            &mut admin,
            &format!(
                "select public.rpc_update_plugin_installation('{TENANT}', '{installation}', '{status}')"
            ),
        );
        unknown(&mut session, PLUGIN, installation);
    }
    execute(
        &mut admin,
        &format!(
            "select public.rpc_update_plugin_installation('{TENANT}', '{installation}', 'installed')"
        ),
    );
    partners.call(&mut session, NOOP).expect("installed again");
    execute(
        &mut admin,
        &format!("select public.rpc_register_plugin('{PLUGIN}', 'Desk', p_is_active => false)"),
    );
    unknown(&mut session, PLUGIN, installation);
    execute(
        &mut admin,
        &format!("select public.rpc_register_plugin('{PLUGIN}', 'Desk')"),
    );
    partners.call(&mut session, NOOP).expect("active again");
    execute(
        &mut admin,
        &format!("select public.rpc_uninstall_plugin('{TENANT}', '{installation}')"),
    );
    unknown(&mut session, PLUGIN, installation);
}

#[test]
fn sees_a_new_secret_at_once() {
    let partners = Partners::new();
    let mut session = partners.session();
    partners.call(&mut session, NOOP).expect("the old secret");
    execute(
        &mut partners.admin(),
        "select plugin_webhooks.update_secret(id, 'rotated') from plugin_webhooks.secret_names where name = 'one'",
    );
    expect_sqlstate(partners.call(&mut session, NOOP), "42501");
    let rotated = signature(&mut session, "rotated", NOOP);
    let answer = ingest(&mut session, PLUGIN, &partners.installation, NOOP, &rotated);
    assert_eq!(answer.expect("the new secret"), NOOP_ANSWER);
}
