//! From each released version to this one: the library first, the catalogs by ALTER EXTENSION UPDATE.

use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, Receiver, Reply, Server, Tenant, Tree, assert_same_lines, catalog,
    create_supabase_roles, create_tracked_table, execute, value, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
/// Released versions with their install scripts.
const RELEASED: [(&str, &str); 2] = [
    (
        "0.1.0",
        include_str!("../../sql/released/plugin_webhooks--0.1.0.sql"),
    ),
    (
        "0.2.0",
        include_str!("../../sql/released/plugin_webhooks--0.2.0.sql"),
    ),
];
const UPDATE: &str = "alter extension plugin_webhooks update";

/// A preloaded server that knows the released versions, too.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        // A tree of its own, because others must not find the released versions.
        let tree = Tree::from_environment();
        for (version, script) in RELEASED {
            let name = format!("plugin_webhooks--{version}.sql");
            fs::write(tree.extension_dir().join(name), script).expect("an install script");
        }
        Server::preloaded(
            &tree,
            &[
                ("fsync", "off"),
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ],
        )
    })
}

/// A database in an earlier version.
#[track_caller]
fn database_of(version: &str, prepare: impl FnOnce(&mut Client)) -> Database {
    let database = server().empty_database();
    let mut client = database.client();
    create_supabase_roles(&mut client);
    prepare(&mut client);
    execute(
        &mut client,
        &format!("create extension plugin_webhooks version '{version}'"),
    );
    database
}

fn version(client: &mut Client) -> String {
    value(
        client,
        "select extversion from pg_extension where extname = 'plugin_webhooks'",
    )
}

#[test]
fn update_equals_fresh_install() {
    for host in [false, true] {
        let prepare = |client: &mut Client| {
            if host {
                execute(client, HOST_SCHEMA);
            }
        };
        let fresh = server().database_with(|client| {
            create_supabase_roles(client);
            prepare(client);
        });
        let expected = catalog(&mut fresh.client());
        for (from, _) in RELEASED {
            let updated = database_of(from, prepare);
            let mut client = updated.client();
            execute(&mut client, UPDATE);
            assert_eq!(version(&mut client), env!("CARGO_PKG_VERSION"));
            assert_same_lines(
                (
                    &format!("after the update from {from}"),
                    &catalog(&mut client),
                ),
                ("after a fresh install", &expected),
            );
        }
    }
}

#[test]
fn the_library_delivers_with_the_catalogs_of_each_released_version() {
    for (from, _) in RELEASED {
        let database = database_of(from, |_| {});
        let mut client = database.client();
        create_tracked_table(&mut client, "items");
        let receiver = Receiver::http();
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        tenant.insert_items(&mut client, 5);
        receiver.wait_for(5, SOON);
        tenant.wait_delivered(&mut client, SOON);
        let moved: i32 = value(&mut client, "select public.rpc_process_plugin_deliveries()");
        assert_eq!(moved, 0);
        assert_eq!(version(&mut client), from);
    }
}

#[test]
fn data_and_deliveries_under_way_survive() {
    for (from, _) in RELEASED {
        let database = database_of(from, |_| {});
        let mut client = database.client();
        create_tracked_table(&mut client, "items");
        let receiver = Receiver::http();
        let tenant = Tenant::with_items_to(&database, &receiver.url("/"));
        tenant.insert_items(&mut client, 3);
        tenant.wait_delivered(&mut client, SOON);
        receiver.answer("/", Reply::Hang);
        tenant.insert_items(&mut client, 2);
        wait_until(SOON, "two requests under way", || receiver.count() == 5);

        let before: String = value(&mut client, DATA);
        execute(&mut client, UPDATE);
        assert_eq!(value::<String>(&mut client, DATA), before, "{from}");
        // The worker of the old catalogs goes on with the new ones.
        receiver.answer("/", Reply::ok());
        tenant.insert_items(&mut client, 1);
        receiver.wait_for(6, SOON);
        let paused: Option<String> = value(
            &mut client,
            "select paused_because from plugin_webhooks.health",
        );
        assert_eq!(paused, None, "{from}");
    }
}

/// Everything but what a delivery under way changes by itself.
const DATA: &str = "
    select concat_ws(E'\n',
        (select jsonb_agg(p order by id) from int.plugins p),
        (select jsonb_agg(p order by id) from int.plugin_installations p),
        (select jsonb_agg(p order by id) from int.plugin_webhook_subscriptions p),
        (select jsonb_agg(p order by id) from audit.entity_changes p),
        (select jsonb_agg(p order by id) from int.plugin_delivery_queue p))";

#[test]
fn grants_of_an_administrator_stay() {
    for (from, _) in RELEASED {
        let database = database_of(from, |_| {});
        let mut client = database.client();
        execute(
            &mut client,
            "do $$ begin create role upgrade_reader; exception when duplicate_object then null; end $$;
             grant usage on schema audit to upgrade_reader;
             grant select on audit.entity_changes to upgrade_reader;
             grant select (id, status) on int.plugin_delivery_queue to upgrade_reader;
             grant execute on function plugin_webhooks.worker_pid() to upgrade_reader with grant option;",
        );
        let granted = |client: &mut Client| {
            catalog(client)
                .into_iter()
                .filter(|line| line.contains("upgrade_reader"))
                .collect::<Vec<_>>()
        };
        let before = granted(&mut client);
        assert!(before.len() >= 4, "{before:#?}");
        execute(&mut client, UPDATE);
        let kept: Vec<String> = granted(&mut client);
        assert_eq!(
            kept, before,
            "and no dump takes them for the extension's own"
        );
    }
}
