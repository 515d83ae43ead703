//! Planning a query evaluates what is constant in indexes, statistics and policies of a table: what operators read
//! through views and functions is planned as the owner of the table, not as the superuser who reads.

use super::*;

const CODE: &str = "
    create schema hostile;
    grant usage on schema hostile to public;
    create function hostile.always(what text) returns boolean language plpgsql immutable as $$
        begin perform watch.tell(what); return true; end $$;";

/// Each on a table `{table}` with a column `{column}`.
const ATTACHED: [&str; 4] = [
    "create index on {table} ({column}) where hostile.always('predicate')",
    "create index on {table} ({column}, (hostile.always('expression')))",
    "create statistics {table}_statistics on {column}, (hostile.always('statistics')) from {table}",
    "create policy policy on {table} using (hostile.always('policy')); alter table {table} force row level security",
];

const READ: [&str; 11] = [
    "select pending from plugin_webhooks.health",
    "select count(*) from plugin_webhooks.secret_names",
    "select count(*) from plugin_webhooks.refused_secret_refs",
    "select count(*) from plugin_webhooks.inbound_actions",
    "select count(*) from plugin_webhooks.refused_installations()",
    "select count(*) from plugin_webhooks.not_in_dumps",
    "select plugin_webhooks.paused_because()",
    "select plugin_webhooks.grant_to_roles()",
    "select plugin_webhooks.attach_host()",
    "update plugin_webhooks.instance set site = 'elsewhere'; select plugin_webhooks.resume()",
    "begin; select plugin_webhooks.hand_back(); rollback",
];

/// Tables, and a column of each.
const TABLES: [(&str, &str); 6] = [
    ("int.plugin_delivery_queue", "id"),
    ("int.plugin_installations", "id"),
    ("int.plugins", "id"),
    ("audit.entity_changes", "id"),
    ("plugin_webhooks.secrets", "id"),
    ("plugin_webhooks.actions", "action"),
];

#[test]
fn of_operators_are_planned_as_the_owner_of_what_they_read() {
    for attach in ATTACHED {
        let mut watched = Watched::taken_over("http://127.0.0.1:9");
        watched.run(CODE);
        let mut owners = BTreeSet::new();
        for (table, column) in TABLES {
            let owner: String = value(
                &mut watched.client,
                &format!(
                    "select relowner::regrole::text from pg_class where oid = '{table}'::regclass"
                ),
            );
            let schema = table.split('.').next().expect("a schema");
            let statement = attach.replace("{table}", table).replace("{column}", column);
            watched.run(&format!("grant create on schema {schema} to {owner}"));
            watched.run_as(&owner, &statement);
            watched.run(&format!("revoke create on schema {schema} from {owner}"));
            owners.insert(owner);
        }
        watched.run("delete from watch.told");
        for read in READ {
            watched.run(read);
        }
        let told = watched.told();
        println!("{attach}: {told:?}");
        assert!(!told.is_empty() || attach.contains("policy"), "{attach}");
        let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
        watched.assert_ran_only_as(&owners);
    }
}

#[test]
fn of_operators_say_what_they_said() {
    let database = shared_server().database();
    let mut client = database.client();
    let columns = "select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum)
                   from pg_attribute where attrelid = ";
    for (view, expected) in [
        (
            "health",
            "worker_pid integer, worker_state text, worker_activity text, \
             worker_started_at timestamp with time zone, pending bigint, due bigint, sending bigint, \
             dead_last_hour bigint, oldest_due_at timestamp with time zone, oldest_due_age interval, \
             paused_because text, instance text",
        ),
        (
            "secret_names",
            "id uuid, name text, description text, key_id text, created_at timestamp with time zone, \
             updated_at timestamp with time zone, tenant_id uuid, plugin_key text",
        ),
        (
            "refused_secret_refs",
            "tenant_id uuid, installation_id uuid, plugin_key text, status text, secret_ref text, reason text",
        ),
        (
            "inbound_actions",
            "action text, handler text, built_in boolean",
        ),
    ] {
        let found: String = value(
            &mut client,
            &format!("{columns} 'plugin_webhooks.{view}'::regclass"),
        );
        assert_eq!(found, expected, "{view}");
    }
}

#[test]
fn of_operators_need_the_functions_that_they_call_and_no_table() {
    let database = shared_server().database();
    let mut client = database.client();
    execute(
        &mut client,
        "do $$ begin create role views_reader; exception when duplicate_object or unique_violation then null; end $$;
         grant usage on schema plugin_webhooks to views_reader;
         grant select on plugin_webhooks.health, plugin_webhooks.secret_names, plugin_webhooks.refused_secret_refs,
             plugin_webhooks.inbound_actions to views_reader;
         grant execute on function plugin_webhooks.worker_pid(), plugin_webhooks.queue_state(),
             plugin_webhooks.paused_because(), plugin_webhooks.stored_secrets(), plugin_webhooks.secret_refs(),
             plugin_webhooks.secret_name_is_allowed(text, uuid, text), plugin_webhooks.registered_actions()
             to views_reader;
         select plugin_webhooks.create_secret('a secret', 'a name');
         set role views_reader",
    );
    for (view, rows) in [
        ("health", 1),
        ("secret_names", 1),
        ("refused_secret_refs", 0),
        ("inbound_actions", 2),
    ] {
        let sql = format!("select count(*) from plugin_webhooks.{view}");
        assert_eq!(value::<i64>(&mut client, &sql), rows, "{view}");
    }
}
