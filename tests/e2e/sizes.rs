//! Values and numbers of rows that tenants choose: limits hold between sessions, and a row from before them costs
//! its own tenant and nobody else, neither memory nor time.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use plugin_webhooks_kit::postgres::{Client, Error};
use plugin_webhooks_kit::{
    Database, Receiver, Tenant, as_service, execute, expect_sqlstate, project_with_items,
    shared_server, value, wait_until,
};

use crate::private_server::{SOON, builder};

const TENANT: &str = "00000000-0000-0000-0000-0000000000aa";
/// Mebibytes that a process may take for a while, whatever its tenants have stored.
const A_WHILE: f64 = 32.0;

/// Stores what the limits refuse today, as an earlier version did.
fn store_as_before(client: &mut Client, assignments: &str, tenant: &Tenant<'_>, table: &str) {
    let key = match table {
        "int.plugin_installations" => "id",
        _ => "plugin_installation_id",
    };
    execute(
        client,
        &format!(
            "set session_replication_role = replica;
             update {table} set {assignments}, updated_at = 'yesterday' where {key} = '{}';
             reset session_replication_role",
            tenant.installation
        ),
    );
}

/// A line of a process's /proc/…/status, in MiB.
fn memory(pid: i32, line: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|text| text.strip_prefix(line));
    let kibibytes = line.and_then(|text| text.split_whitespace().nth(1));
    kibibytes
        .and_then(|n| n.parse::<f64>().ok())
        .expect("a number")
        / 1024.0
}

/// How much more memory than now a process takes at most until `body` has ended, in MiB.
fn growth(pid: i32, body: impl FnOnce()) -> f64 {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("reset the peak");
    let before = memory(pid, "VmRSS");
    body();
    memory(pid, "VmHWM") - before
}

fn worker(client: &mut Client) -> i32 {
    let mut pid = None;
    wait_until(SOON, "the worker", || {
        pid = value(client, "select plugin_webhooks.worker_pid()");
        pid.is_some()
    });
    pid.expect("a process id")
}

/// The status and last_error of the tenant's delivery when an attempt has ended.
fn ended(client: &mut Client, tenant: &Tenant<'_>) -> String {
    let mut found = None;
    wait_until(SOON, "an attempt", || {
        found = value(
            client,
            &format!(
                "select (select concat_ws(': ', status, last_error) from int.plugin_delivery_queue
                         where plugin_installation_id = '{}' and attempts > 0)",
                tenant.installation
            ),
        );
        found.is_some()
    });
    found.unwrap_or_default()
}

/// Makes the first call in an open transaction, then the second, which has to wait for its end; what the second came
/// to.
fn take_turns(database: &Database, calls: &[String; 2], ending: &str) -> Result<(), Error> {
    let mut first = database.client();
    execute(&mut first, "begin");
    execute(&mut first, &calls[0]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            let result = database.client().batch_execute(&calls[1]);
            ended.store(true, Ordering::Relaxed);
            result
        });
        let mut look = database.client();
        wait_until(SOON, "the second session to wait", || {
            assert!(!ended.load(Ordering::Relaxed), "it did not wait");
            value::<bool>(
                &mut look,
                "select exists (select from pg_locks where locktype = 'advisory' and not granted)",
            )
        });
        execute(&mut first, ending);
        second.join().expect("the second session")
    })
}

/// Two sessions that add a row of the same owner, `calls`, where only one fits: the second waits for the first.
fn only_one_fits(database: &Database, calls: &[String; 2], first_commits: bool) {
    let ending = if first_commits { "commit" } else { "rollback" };
    let second = take_turns(database, calls, ending);
    if first_commits {
        expect_sqlstate(second, "23514");
    } else {
        second.expect("there is room");
    }
}

#[test]
fn two_sessions_that_uninstall_from_one_tenant_take_turns() {
    let database = project_with_items(shared_server());
    for key in ["one", "two"] {
        as_service(&database, |call| {
            call.execute("select rpc_register_plugin($1, $1)", &[&key])
        });
    }
    let mut client = database.client();
    execute(
        &mut client,
        &format!(
            "select rpc_install_plugin('{TENANT}', 'one'), rpc_install_plugin('{TENANT}', 'two');
             select rpc_upsert_plugin_webhook_subscription(
                 '{TENANT}', id, 'int', 'plugin_installations', '{{DELETE}}') from int.plugin_installations"
        ),
    );
    let uninstall = |key: &str| {
        format!(
            "select rpc_uninstall_plugin('{TENANT}', i.id) from int.plugin_installations i
             join int.plugins p on p.id = i.plugin_id where p.key = '{key}'"
        )
    };
    take_turns(&database, &["one", "two"].map(uninstall), "commit").expect("both are gone");
    let left = "select count(*) from int.plugin_installations";
    assert_eq!(value::<i64>(&mut client, left), 0);
}

#[test]
fn two_sessions_do_not_pass_a_limit_together() {
    let own = builder()
        .settings(&[
            ("plugin_webhooks.max_installations", "1"),
            ("plugin_webhooks.max_subscriptions", "1"),
        ])
        .start();
    let database = project_with_items(&own);
    for key in ["one", "two"] {
        as_service(&database, |call| {
            call.execute("select rpc_register_plugin($1, $1)", &[&key])
        });
    }
    let install = |key| format!("select rpc_install_plugin('{TENANT}', '{key}')");
    only_one_fits(&database, &["one", "two"].map(install), true);
    let subscribe = |table: &str| {
        format!(
            "select rpc_upsert_plugin_webhook_subscription('{TENANT}', id, 'public', '{table}', '{{INSERT}}')
             from int.plugin_installations"
        )
    };
    only_one_fits(&database, &["a", "b"].map(subscribe), false);
    let mut client = database.client();
    execute(&mut client, "delete from int.plugin_installations");
    only_one_fits(&database, &["one", "two"].map(install), false);
    only_one_fits(&database, &["a", "b"].map(subscribe), true);
}

#[test]
fn what_is_too_large_to_be_sent_with_does_not_enter_the_workers_memory() {
    let own = builder().preloaded().start();
    let database = project_with_items(&own);
    let receiver = Receiver::http();
    let mut client = database.client();
    let tenants: [Tenant<'_>; 4] =
        std::array::from_fn(|_| Tenant::with_items_to(&database, &receiver.url("/")));
    let [neighbour, secret, config, event] = &tenants;
    const LARGE: &str = "repeat('x', 130000000)";
    const INSTALLATIONS: &str = "int.plugin_installations";
    store_as_before(
        &mut client,
        &format!("secret_ref = {LARGE}"),
        secret,
        INSTALLATIONS,
    );
    store_as_before(
        &mut client,
        &format!("config = config || jsonb_build_object('x', {LARGE})"),
        config,
        INSTALLATIONS,
    );
    neighbour.insert_items(&mut client, 1);
    neighbour.wait_delivered(&mut client, SOON);
    let worker = worker(&mut client);
    let grown = growth(worker, || {
        // Becomes due when everything is there.
        execute(
            &mut client,
            &format!(
                "begin;
                 insert into items (tenant_id, title) select id::uuid, 'x' from unnest('{{{}}}'::text[]) as id;
                 update int.plugin_delivery_queue set event_type = {LARGE}
                 where plugin_installation_id = '{}';
                 commit",
                [neighbour, secret, config, event].map(|tenant| tenant.id.as_str()).join(","),
                event.installation
            ),
        );
        assert_eq!(
            ended(&mut client, secret),
            "pending: secret_ref is longer than 200 characters"
        );
        assert_eq!(
            ended(&mut client, config),
            "pending: config is longer than 1048576 bytes"
        );
        assert_eq!(
            ended(&mut client, event),
            "dead: the event type is too long to send"
        );
        receiver.wait_for(2, SOON);
    });
    assert!(grown < A_WHILE, "the worker took {grown} MiB more");

    // Nothing is lost: they are mended, and the deliveries go out.
    store_as_before(&mut client, "secret_ref = null", secret, INSTALLATIONS);
    store_as_before(&mut client, "config = config - 'x'", config, INSTALLATIONS);
    execute(
        &mut client,
        "update int.plugin_delivery_queue set next_attempt_at = now() where status = 'pending'",
    );
    receiver.wait_for(4, SOON);
    assert_eq!(receiver.count(), 4, "none of them was sent before");
}

#[test]
fn payloads_that_would_print_too_long_cost_the_worker_one_of_them_at_a_time() {
    let own = builder().preloaded().start();
    let database = project_with_items(&own);
    let receiver = Receiver::http();
    let mut client = database.client();
    let tenants: [Tenant<'_>; 3] =
        std::array::from_fn(|_| Tenant::with_items_to(&database, &receiver.url("/")));
    let worker = worker(&mut client);
    let grown = growth(worker, || {
        let ids = tenants
            .each_ref()
            .map(|tenant| tenant.id.as_str())
            .join(",");
        // A control character of one byte prints as six.
        execute(
            &mut client,
            &format!(
                r"begin;
                  insert into items (tenant_id, title) select id::uuid, 'x' from unnest('{{{ids}}}'::text[]) as id;
                  update int.plugin_delivery_queue set payload = jsonb_build_object('x', repeat(E'\x01', 60 << 20));
                  commit"
            ),
        );
        for tenant in &tenants {
            assert_eq!(
                ended(&mut client, tenant),
                "dead: the payload is too long to send"
            );
        }
    });
    // What is stored compressed has a copy for as long as it is looked at.
    assert!(grown < 60.0 + A_WHILE, "the worker took {grown} MiB more");
}

#[test]
fn what_is_too_large_to_be_matched_does_not_enter_a_sessions_memory() {
    let own = builder().start();
    let database = project_with_items(&own);
    let mut client = database.client();
    let tenant = Tenant::with_items_to(&database, "https://receiver.invalid/");
    const SUBSCRIPTIONS: &str = "int.plugin_webhook_subscriptions";
    store_as_before(
        &mut client,
        "operations = array_fill('INSERT'::text, array[1000000]),
         changed_fields_allowlist = (select array_agg('name_' || n) from generate_series(1, 3000000) as n)",
        &tenant,
        SUBSCRIPTIONS,
    );
    execute(
        &mut client,
        "insert into int.plugin_webhook_subscriptions
             (plugin_installation_id, table_schema, table_name, operations, updated_at)
         select plugin_installation_id, 'public', repeat('x', 100000), operations, 'yesterday'
         from int.plugin_webhook_subscriptions",
    );
    let mut session = database.client();
    let pid = value(&mut session, "select pg_backend_pid()");
    // The code of the library, without what it reads.
    execute(
        &mut session,
        "insert into items (tenant_id, title) values (gen_random_uuid(), 'of nobody')",
    );
    let grown = growth(pid, || {
        tenant.insert_items(&mut session, 1);
        execute(
            &mut session,
            "update items set title = 'changed'; delete from items",
        );
    });
    assert!(grown < A_WHILE, "the session took {grown} MiB more");
    let events: Vec<String> = tenant
        .deliveries(&mut client)
        .into_iter()
        .map(|delivery| delivery.event_type)
        .collect();
    // What is not known to be unwanted is sent.
    for operation in ["insert", "update", "delete"] {
        let event = format!("entity_change.items.{operation}");
        assert!(events.contains(&event), "{event} of {events:?}");
    }
}

/// As many installations and subscriptions as the limits allow, with the longest allowlists.
#[test]
fn what_one_tenant_may_subscribe_to_does_not_fill_a_sessions_memory() {
    let own = builder().start();
    let database = project_with_items(&own);
    let mut client = database.client();
    let tenant = Tenant::with_items_to(&database, "https://receiver.invalid/");
    execute(
        &mut client,
        &format!(
            "set session_replication_role = replica;
             create temporary table names as
             select array_agg(rpad('name_' || n || '_', 63, 'x')) as list from generate_series(1, 1600) as n;
             insert into int.plugins (key, name) select 'many_' || n, 'plugin' from generate_series(1, 999) as n;
             insert into int.plugin_installations (tenant_id, plugin_id, status)
             select '{}', id, 'installed' from int.plugins where key like 'many_%';
             insert into int.plugin_webhook_subscriptions
                 (plugin_installation_id, table_schema, table_name, operations, changed_fields_allowlist)
             select i.id, 'public', 'items', '{{UPDATE}}', list from int.plugin_installations as i, names
             where i.id <> '{}';
             insert into int.plugin_webhook_subscriptions
                 (plugin_installation_id, table_schema, table_name, operations, changed_fields_allowlist)
             select '{}', 'public', 'table_' || n, '{{UPDATE}}', list from generate_series(1, 999) as n, names;
             update int.plugin_webhook_subscriptions
             set operations = '{{UPDATE}}', changed_fields_allowlist = (select list[:1599] || '{{title}}'::text[] from names)
             where plugin_installation_id = '{}' and table_name = 'items'",
            tenant.id, tenant.installation, tenant.installation, tenant.installation
        ),
    );
    let mut session = database.client();
    let pid = value(&mut session, "select pg_backend_pid()");
    execute(
        &mut session,
        "insert into items (tenant_id, title) values (gen_random_uuid(), 'of nobody')",
    );
    let grown = growth(pid, || {
        tenant.insert_items(&mut session, 1);
        execute(&mut session, "update items set title = 'changed'");
        execute(&mut session, "update items set note = 'changed'");
    });
    assert!(grown < A_WHILE, "the session took {grown} MiB more");
    let updates =
        "select count(*) from int.plugin_delivery_queue where event_type like '%.items.update'";
    assert_eq!(
        value::<i64>(&mut client, updates),
        1,
        "of the wanted column"
    );
}

#[test]
fn a_configuration_is_read_once_however_many_deliveries_need_it() {
    const EACH: i32 = 50;
    let own = builder().preloaded().start();
    let database = project_with_items(&own);
    let receiver = Receiver::http();
    let mut client = database.client();
    let tenants: [Tenant<'_>; 4] =
        std::array::from_fn(|_| Tenant::with_items_to(&database, &receiver.url("/")));
    for tenant in &tenants {
        store_as_before(
            &mut client,
            "config = config || jsonb_build_object('x', (select string_agg(md5(n::text), '')
                                                         from generate_series(1, 32000) as n))",
            tenant,
            "int.plugin_installations",
        );
    }
    // One look into the table behind it is one configuration read.
    const READ: &str = "
        select s.idx_scan from pg_stat_all_tables as s join pg_class as c on c.reltoastrelid = s.relid
        where c.oid = 'int.plugin_installations'::regclass";
    execute(&mut client, "select pg_stat_force_next_flush()");
    let before: i64 = value(&mut client, READ);
    for tenant in &tenants {
        tenant.insert_items(&mut client, EACH);
    }
    let all = EACH * 4;
    for tenant in &tenants {
        tenant.wait_delivered(&mut client, SOON);
    }
    // The worker reports all it did at once.
    wait_until(SOON, "the worker's statistics", || {
        value::<bool>(
            &mut client,
            &format!(
                "select n_tup_upd >= 2 * {all} from pg_stat_all_tables
                 where relid = 'int.plugin_delivery_queue'::regclass"
            ),
        )
    });
    let read = value::<i64>(&mut client, READ) - before;
    assert_eq!(read, 4, "{all} deliveries");
}
