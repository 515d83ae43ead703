//! The role that owns a fresh install.

use plugin_webhooks_kit::{Server, Tree, expect_sqlstate, wait_until};

use super::*;

const CREATE: &str = "create extension plugin_webhooks";

/// A server without the role: roles belong to a whole cluster.
fn server() -> Server {
    Server::builder(Tree::shared())
        .setting("fsync", "off")
        .start()
}

#[test]
fn is_made_by_create_extension_and_stays() {
    let server = server();
    let database = server.database();
    let mut client = database.client();
    let attributes = "select concat_ws(' ', rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls)
                      from pg_roles where rolname = 'plugin_webhooks_owner'";
    assert_eq!(value::<String>(&mut client, attributes), "f f f f f f");
    let members: i64 = value(
        &mut client,
        "select count(*) from pg_auth_members where 'plugin_webhooks_owner'::regrole in (roleid, member)",
    );
    assert_eq!(members, 0);
    execute(&mut client, "drop extension plugin_webhooks");
    assert_eq!(value::<String>(&mut client, attributes), "f f f f f f");
    execute(&mut client, CREATE);
}

#[test]
fn is_refused_when_it_is_more_than_an_owner() {
    let server = server();
    let database = server.empty_database();
    let mut client = database.client();
    let role = "plugin_webhooks_owner";
    for (change, reason) in [
        (format!("create role {role} login"), "it can log in"),
        (format!("create role {role} superuser"), "it is a superuser"),
        (format!("create role {role} createdb"), "CREATEDB"),
        (format!("create role {role} createrole"), "CREATEROLE"),
        (format!("create role {role} replication"), "REPLICATION"),
        (format!("create role {role} bypassrls"), "BYPASSRLS"),
        (
            format!("create role {role}; grant pg_read_all_data to {role}"),
            "it is a member of pg_read_all_data",
        ),
        (
            format!("create role {role}; create role mallory_here; grant {role} to mallory_here"),
            "its members are mallory_here",
        ),
    ] {
        execute(&mut client, &change);
        let error = expect_sqlstate(client.batch_execute(CREATE), "55000");
        assert!(
            error.message().contains(role) && error.message().contains(reason),
            "{change}: {}",
            error.message()
        );
        assert!(error.hint().is_some());
        execute(&mut client, &format!("drop role {role}"));
    }
}

/// Whoever holds CREATEROLE may have been its member for a moment, and left it code that tenants would call.
#[test]
fn is_refused_when_it_owns_what_is_not_the_extensions() {
    let server = server();
    let database = server.empty_database();
    let mut client = database.client();
    execute(
        &mut client,
        "create role plugin_webhooks_owner; create schema auth authorization plugin_webhooks_owner;
         set role plugin_webhooks_owner; create function auth.uid() returns uuid language sql as 'select null::uuid';
         reset role",
    );
    let error = expect_sqlstate(client.batch_execute(CREATE), "55000");
    assert!(
        error
            .message()
            .contains("in this database it owns function auth.uid(), schema auth"),
        "{}",
        error.message()
    );
    execute(&mut client, "drop schema auth cascade");
    execute(&mut client, CREATE);
    // Nor later.
    database
        .expect_log("does not use these objects of the host: auth.uid() of plugin_webhooks_owner");
    execute(
        &mut client,
        "create schema auth; create function auth.uid() returns uuid language sql as 'select null::uuid';
         alter function auth.uid() owner to plugin_webhooks_owner; select plugin_webhooks.attach_host()",
    );
    let status: String = value(
        &mut client,
        "select concat_ws(': ', status, reason) from plugin_webhooks.host_objects where object = 'auth.uid()'",
    );
    assert_eq!(
        status,
        "ignored: owner plugin_webhooks_owner is not trusted"
    );
}

/// Two databases of one cluster: the second waits for the first, whether that commits or not.
#[test]
fn is_made_once_by_two_at_the_same_time() {
    let server = server();
    for ending in ["rollback", "commit"] {
        let (first, second) = (server.empty_database(), server.empty_database());
        let mut one = first.client();
        execute(&mut one, "begin");
        execute(&mut one, CREATE);
        let name = second.name().to_owned();
        let waiting = std::thread::spawn(move || {
            second.client().batch_execute(CREATE).expect("the second");
            second
        });
        let mut looking = server.connect("postgres");
        wait_until(
            std::time::Duration::from_secs(20),
            "the second to wait, or to need nothing",
            || {
                waiting.is_finished()
                    || value::<i64>(
                        &mut looking,
                        &format!(
                            "select count(*) from pg_stat_activity
                             where datname = '{name}' and wait_event_type = 'Lock'"
                        ),
                    ) == 1
            },
        );
        execute(&mut one, ending);
        waiting.join().expect("the second");
    }
}

#[test]
fn owns_what_tenants_and_the_worker_reach_and_nothing_else() {
    let mut watched = Watched::of(shared_server().database());
    for call in [
        "select int.resolve_installation_signing_secret(gen_random_uuid())",
        "select int.plugin_webhook_apply_action(gen_random_uuid(), 'noop', null)",
        "select plugin_webhooks.create_secret('s', 'n')",
        "select plugin_webhooks.receiver_secret('n')",
    ] {
        assert!(
            !watched.tries_as("plugin_webhooks_owner", call),
            "shows or changes secrets, or forges a call: {call}"
        );
    }
    let owned = |watched: &mut Watched, reached: bool| -> BTreeSet<String> {
        let rows = watched
            .client
            .query(
                "select distinct kind || ' ' || owner::regrole from plugin_webhooks.member_owners where reached = $1",
                &[&reached],
            )
            .expect("owners");
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        owned(&mut watched, true).into_iter().collect::<Vec<_>>(),
        [
            "FUNCTION plugin_webhooks_owner",
            "TABLE plugin_webhooks_owner"
        ]
    );
    assert_eq!(
        owned(&mut watched, false).into_iter().collect::<Vec<_>>(),
        ["FUNCTION postgres", "TABLE postgres", "VIEW postgres"]
    );
    let tenants: i64 = value(
        &mut watched.client,
        "select count(*) from plugin_webhooks.member_owners o
         join pg_proc p on o.kind = 'FUNCTION' and p.oid = o.object::regprocedure
         where not o.reached and p.prosecdef
           and exists (select from aclexplode(p.proacl) x where x.grantee <> p.proowner)",
    );
    assert_eq!(
        tenants, 0,
        "what others may call runs as the owner of the tables"
    );
}
