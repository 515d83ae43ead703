//! pg_dump and restore: the same rows, rights and effects, and silence until an operator says otherwise.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, Receiver, Server, Tenant, Tree, as_service, assert_same_lines, catalog,
    create_supabase_roles, create_tracked_table, execute, expect_sqlstate, former_system, project,
    quote_ident, shared_server, value, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const ONE: &str = "00000000-0000-0000-0000-000000000001";
const TWO: &str = "00000000-0000-0000-0000-000000000002";

/// How a database travels.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    PlainText,
    Inserts,
    CustomTwoJobs,
}

/// What the worker of a copy warns of, as soon as it looks.
const PAUSED: &str = "are paused: ";

const WAYS: [Way; 3] = [Way::PlainText, Way::Inserts, Way::CustomTwoJobs];

#[track_caller]
fn ran(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("start");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        complaints
            .lines()
            .all(|line| line.contains("nothing schedules")),
        "{complaints}"
    );
    output.stdout
}

/// What a restore grants to the owner of a fresh install, who owns a taken-over database's tables too until the
/// statements that name the former owner have run.
fn is_for_the_first_owner(line: &str) -> bool {
    line.to_uppercase().contains("USAGE ON SCHEMA") && line.contains("plugin_webhooks_owner")
}

/// The database as text.
fn text_of(database: &Database) -> String {
    let dump = ran(database.server().program("pg_dump").arg(database.name()));
    let text = String::from_utf8(dump).expect("UTF-8");
    // Comments name owners, and these two carry a random word each.
    let lines = text.lines().filter(|line| {
        !line.starts_with("--")
            && !line.starts_with("\\restrict")
            && !line.starts_with("\\unrestrict")
            && !is_for_the_first_owner(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The file of a dump; deleted with the tree.
fn file(database: &Database, way: Way) -> PathBuf {
    let path = std::env::temp_dir().join(format!(
        "plugin-webhooks-{}-{}-{way:?}",
        std::process::id(),
        database.name()
    ));
    let mut dump = database.server().program("pg_dump");
    dump.arg("-f").arg(&path);
    match way {
        Way::PlainText => {}
        Way::Inserts => {
            dump.arg("--inserts");
        }
        Way::CustomTwoJobs => {
            dump.arg("-Fc");
        }
    }
    ran(dump.arg(database.name()));
    path
}

/// A new database on a server, filled from a dump of another.
#[track_caller]
fn restored(from: &Database, way: Way, server: &Server) -> Database {
    let path = file(from, way);
    let target = server.empty_database();
    target.allow_log(PAUSED);
    // What travels has an odd one: see `filled`.
    target.allow_log("secret_ref resolves to no secret");
    match way {
        Way::PlainText | Way::Inserts => {
            ran(server
                .program("psql")
                .args([
                    "-X",
                    "-q",
                    "-o",
                    "/dev/null",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-d",
                    target.name(),
                    "-f",
                ])
                .arg(&path));
        }
        Way::CustomTwoJobs => {
            ran(server
                .program("pg_restore")
                .args(["-j2", "--exit-on-error", "-d", target.name()])
                .arg(&path));
        }
    }
    std::fs::remove_file(path).expect("delete the dump");
    target
}

/// Every row and sequence of the extension's tables, with policies and grants.
fn contents(database: &Database) -> BTreeSet<String> {
    let mut client = database.client();
    let tables: Vec<String> = client
        .query(
            "select t.oid::regclass::text from pg_extension e, unnest(e.extconfig) as t (oid) \
            where e.extname = 'plugin_webhooks'",
            &[],
        )
        .expect("the tables")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut lines: BTreeSet<String> = catalog(&mut client)
        .into_iter()
        .filter(|line| {
            ["policy", "grant"]
                .iter()
                .any(|kind| line.starts_with(kind))
        })
        .filter(|line| !is_for_the_first_owner(line))
        // These are the host's own: see the test about statements that go along.
        .filter(|line| {
            !line.contains("_all_owner") && !line.contains("entity_changes_select_reporting")
        })
        .collect();
    for table in tables {
        let sql = format!(
            "select format('%s: %s', '{}', to_jsonb(t) - 'log_cnt') from (select * from {table}) t",
            table.replace('"', "")
        );
        // Rows that are alike count, too.
        for (number, row) in client
            .query(&format!("{sql} order by 1"), &[])
            .expect("rows")
            .iter()
            .enumerate()
        {
            lines.insert(format!("{} {number}", row.get::<_, String>(0)));
        }
    }
    lines
}

/// A fresh project of two plugins with a delivery in every status, secrets and an action.
fn filled(receiver: &Receiver) -> Database {
    let database = project(shared_server());
    database.allow_log(PAUSED);
    let mut client = database.client();
    create_tracked_table(&mut client, "items");
    let tenant = Tenant::with_items_to(&database, &receiver.url("/fresh"));
    tenant.insert_items(&mut client, 6);
    tenant.wait_delivered(&mut client, SOON);
    execute(
        &mut client,
        // Rows from before the limits travel, too.
        "set session_replication_role = replica;
         update int.plugin_webhook_subscriptions
         set changed_fields_allowlist = array_fill('x'::text, array[1601]), updated_at = 'yesterday';
         update int.plugin_installations
         set secret_ref = repeat('x', 201), config = config || jsonb_build_object('x', repeat('x', 70000)),
             updated_at = 'yesterday';
         reset session_replication_role;
         select plugin_webhooks.create_secret('s', 'a secret');
         create function public.handle(tenant uuid, data jsonb) returns jsonb language sql as $$ select data $$;
         select plugin_webhooks.register_action('a.b', 'public.handle(uuid,jsonb)');
         insert into plugin_webhooks.inbound_ids select id, 'call', '{\"ok\": 1.10}' from int.plugin_installations;
         grant usage on schema audit to pg_monitor;
         grant select on audit.entity_changes to pg_monitor;",
    );
    in_every_status(&mut client);
    database
}

/// A taken-over database; its deliveries have every status already.
fn taken_over(receiver: &Receiver) -> Database {
    let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
    database.allow_log(PAUSED);
    let mut client = database.client();
    execute(&mut client, "create extension plugin_webhooks");
    wait_until(SOON, "what was under way to be settled", || {
        value::<i64>(
            &mut client,
            "select count(*) from int.plugin_delivery_queue where status = 'sending' or next_attempt_at < now() \
            and status = 'pending'",
        ) == 0
    });
    in_every_status(&mut client);
    database
}

/// Pause by pretending that the active instance is elsewhere, so that rows stay as they are made.
fn in_every_status(client: &mut Client) {
    execute(
        client,
        "update plugin_webhooks.instance set site = 'elsewhere';
         with numbered as (select id, row_number() over (order by source_entity_change_id) as n \
         from int.plugin_delivery_queue)
         update int.plugin_delivery_queue q
         set status = (array['pending', 'sending', 'sending', 'delivered', 'failed', 'dead'])[1 + (n.n % 6)::int],
             claim_id = case when n.n % 6 = 1 then 7 end,
             lease_expires_at = case when n.n % 6 = 1 then now() + interval '1 hour' when n.n % 6 = 2 then now() end,
             next_attempt_at = now() - interval '1 hour'
         from numbered n where n.id = q.id;",
    );
    let statuses: i64 = value(
        client,
        "select count(distinct status) from int.plugin_delivery_queue",
    );
    assert_eq!(statuses, 5);
}

#[track_caller]
fn wait_for_paused_worker(database: &Database) {
    let said = format!("deliveries of database \"{}\" are paused", database.name());
    wait_until(SOON, "the worker to say that it is paused", || {
        database.server().log().contains(&said)
    });
}

#[track_caller]
fn travels(original: &Database, receiver: &Receiver) {
    let (before, text) = (contents(original), text_of(original));
    let sent = receiver.count();
    for way in WAYS {
        let first = restored(original, way, shared_server());
        wait_for_paused_worker(&first);
        assert_same_lines(("before", &before), ("restored", &contents(&first)));
        let second = restored(&first, way, shared_server());
        wait_for_paused_worker(&second);
        assert_same_lines(("before", &before), ("restored twice", &contents(&second)));
        if way != Way::Inserts {
            assert!(
                text == text_of(&first),
                "{way:?}: the dump of the copy is another text"
            );
            assert!(
                text == text_of(&second),
                "{way:?}: the dump of the copy's copy is another text"
            );
        }
    }
    assert_eq!(receiver.count(), sent, "nothing is sent");
}

mod round_trip {
    use super::*;

    #[test]
    fn of_a_fresh_database_is_exact() {
        let receiver = Receiver::http();
        travels(&filled(&receiver), &receiver);
    }

    #[test]
    fn of_a_taken_over_database_is_exact() {
        let receiver = Receiver::http();
        travels(&taken_over(&receiver), &receiver);
    }

    #[test]
    fn keeps_what_hangs_on_the_tables_when_its_statements_go_along() {
        let receiver = Receiver::http();
        let original = taken_over(&receiver);
        let mut client = original.client();
        let statements = "select string_agg(statement, E'\\n' order by kind = 'owner', object, statement) \
        from plugin_webhooks.not_in_dumps";
        let extras: String = value(&mut client, statements);
        assert!(extras.contains("entity_changes_record_idx"), "{extras}");
        let copy = restored(&original, Way::CustomTwoJobs, shared_server());
        execute(&mut copy.client(), &extras);
        let same = |database: &Database| -> BTreeSet<String> {
            catalog(&mut database.client())
                .into_iter()
                .filter(|line| !line.starts_with("initial grant"))
                .filter(|line| !is_for_the_first_owner(line))
                .collect()
        };
        assert_same_lines(
            ("the original", &same(&original)),
            ("the copy", &same(&copy)),
        );
    }

    #[test]
    fn of_an_empty_database_is_a_database_in_use() {
        let original = project(shared_server());
        let copy = restored(&original, Way::PlainText, shared_server());
        let receiver = Receiver::http();
        let mut client = copy.client();
        create_tracked_table(&mut client, "items");
        let tenant = Tenant::with_items_to(&copy, &receiver.url("/"));
        tenant.insert_items(&mut client, 1);
        receiver.wait_for(1, SOON);
    }

    #[test]
    fn of_nothing_but_the_install_script_needs_no_statements_beside() {
        let database = project(shared_server());
        let extras: i64 = value(
            &mut database.client(),
            "select count(*) from plugin_webhooks.not_in_dumps",
        );
        assert_eq!(extras, 0);
    }

    #[test]
    fn policies_of_tables_in_schemas_of_any_name_are_no_matter() {
        let database = project(shared_server());
        let mut client = database.client();
        execute(
            &mut client,
            "create schema \"Mixed.Case\";
             create table \"Mixed.Case\".plugins (id int);
             create policy theirs on \"Mixed.Case\".plugins using (true);
             create policy ours on int.plugins using (true);
             set enable_nestloop = off;",
        );
        let objects: String = value(
            &mut client,
            "select string_agg(statement, ' ') from plugin_webhooks.not_in_dumps where kind = 'policy'",
        );
        assert!(
            objects.contains("ours") && !objects.contains("theirs"),
            "{objects}"
        );
    }
}

mod host_rows {
    use super::*;

    /// What happens to installations and deliveries of tenant One, as counts.
    fn counts(client: &mut Client) -> (i64, i64, i64) {
        let row = client
            .query_one(
                "select (select count(*) from int.plugin_installations), (select count(*) \
                from int.plugin_delivery_queue),
                        (select count(*) from int.plugin_installations where installed_by is null)",
                &[],
            )
            .expect("counts");
        (row.get(0), row.get(1), row.get(2))
    }

    fn behaves_as_with_foreign_keys(database: &Database) {
        let mut client = database.client();
        execute(
            &mut client,
            "do $$ begin execute format('alter database %I owner to legacy_owner', current_database()); end $$;
             select plugin_webhooks.attach_host()",
        );
        let install = |tenant: &str, user: &str| {
            format!(
                "insert into int.plugin_installations (tenant_id, plugin_id, installed_by)
                     select '{tenant}', id, {user} from int.plugins where key = 'plugin_9'"
            )
        };
        expect_sqlstate(
            client.batch_execute(&install("00000000-0000-0000-0000-0000000000ff", "null")),
            "23503",
        );
        expect_sqlstate(
            client.batch_execute(&install(ONE, "gen_random_uuid()")),
            "23503",
        );
        expect_sqlstate(
            client.batch_execute(&format!(
                "update int.plugin_installations set tenant_id = gen_random_uuid() \
            where tenant_id = '{ONE}'"
            )),
            "23503",
        );
        expect_sqlstate(
            client.batch_execute(
                "update int.plugin_delivery_queue set tenant_id = gen_random_uuid()",
            ),
            "23503",
        );
        expect_sqlstate(
            client.batch_execute(&format!(
                "update app.tenants set id = gen_random_uuid() where id = '{ONE}'"
            )),
            "23503",
        );
        expect_sqlstate(client.batch_execute("truncate app.tenants"), "0A000");
        execute(&mut client, &install(TWO, "null"));
        let (installations, deliveries, orphans) = counts(&mut client);
        assert!(installations == 10 && deliveries > 6 && orphans == 1);
        let changes_of: &str = "select count(*) from audit.entity_changes \
        where user_id = '00000000-0000-0000-0000-0000000000a2'";
        assert_ne!(value::<i64>(&mut client, changes_of), 0);
        execute(&mut client, "delete from auth.users");
        assert_eq!(
            counts(&mut client),
            (installations, deliveries, installations)
        );
        assert_eq!(
            value::<i64>(&mut client, changes_of),
            0,
            "the audit log's reference is emptied, too"
        );
        execute(
            &mut client,
            &format!("delete from app.tenants where id = '{ONE}'"),
        );
        assert_eq!(counts(&mut client), (1, 0, 1));
    }

    #[test]
    fn have_the_same_effects_before_and_after() {
        let receiver = Receiver::http();
        let original = taken_over(&receiver);
        let first = restored(&original, Way::CustomTwoJobs, shared_server());
        let second = restored(&first, Way::PlainText, shared_server());
        let is_constrained: bool = value(
            &mut second.client(),
            "select exists (select from pg_constraint where conrelid = 'int.plugin_installations'::regclass \
            and confrelid = 'app.tenants'::regclass)",
        );
        assert!(
            !is_constrained,
            "a dump carries no such constraint: this test is about triggers"
        );
        for database in [&original, &first, &second] {
            behaves_as_with_foreign_keys(database);
        }
    }

    #[test]
    fn of_a_host_that_comes_later_count_from_then_on() {
        let database = project(shared_server());
        let mut client = database.client();
        let install = "select public.rpc_install_plugin(gen_random_uuid(), 'desk')";
        execute(
            &mut client,
            &format!("select public.rpc_register_plugin('desk', 'Desk'); {install}; {HOST_SCHEMA}"),
        );
        execute(&mut client, "select plugin_webhooks.attach_host()");
        expect_sqlstate(client.batch_execute(install), "23503");
        execute(
            &mut client,
            &format!(
                "insert into app.tenants (id, name) values ('{ONE}', 'One');
                 select public.rpc_install_plugin('{ONE}', 'desk');
                 delete from app.tenants;"
            ),
        );
        assert_eq!(counts(&mut client).0, 1);
        expect_sqlstate(
            client.batch_execute("truncate app.tenants cascade"),
            "23503",
        );
    }
}

mod a_copy {
    use super::*;

    fn reason(client: &mut Client) -> Option<String> {
        value(client, "select paused_because from plugin_webhooks.health")
    }

    #[test]
    fn sends_what_waited_and_what_was_written_meanwhile_once_it_may() {
        let receiver = Receiver::http();
        let original = filled(&receiver);
        let copy = restored(&original, Way::CustomTwoJobs, shared_server());
        let mut client = copy.client();
        wait_for_paused_worker(&copy);
        let before = receiver.count();
        execute(
            &mut client,
            "insert into items (tenant_id, title) select tenant_id, 'written in the copy' \
            from int.plugin_installations",
        );
        let waiting = "select count(*) from int.plugin_delivery_queue where status = 'pending'";
        let pending: i64 = value(&mut client, waiting);
        assert_eq!(pending, 2, "the restored one and the new one");
        let moved: i32 = as_service(&copy, |call| {
            Ok(call
                .query_one("select public.rpc_process_plugin_deliveries()", &[])?
                .get(0))
        });
        assert_eq!((moved, receiver.count()), (0, before));
        assert!(reason(&mut client).is_some());

        execute(&mut client, "select plugin_webhooks.resume()");
        // Two more were under way when the dump was made.
        receiver.wait_for(before + 4, SOON);
        assert_eq!(reason(&mut client), None);
        wait_until(SOON, "their outcomes", || {
            value::<i64>(&mut client, waiting) == 0
        });
    }

    #[test]
    fn in_the_place_of_the_original_waits_too() {
        let receiver = Receiver::http();
        let database = filled(&receiver);
        let mut client = database.client();
        execute(&mut client, "update plugin_webhooks.instance set site = ''");
        let sent = receiver.count();
        let path = file(&database, Way::CustomTwoJobs);
        drop(client);
        ran(database
            .server()
            .program("pg_restore")
            .args([
                "--clean",
                "--if-exists",
                "--exit-on-error",
                "-d",
                database.name(),
            ])
            .arg(&path));
        std::fs::remove_file(path).expect("delete the dump");
        let mut client = database.client();
        let why = reason(&mut client).unwrap_or_default();
        assert!(why.contains("restored into this database"), "{why}");
        wait_for_paused_worker(&database);
        assert!(receiver.count() >= sent);
    }

    #[test]
    fn by_template_waits() {
        let server = Server::start(
            Tree::shared(),
            &[
                ("fsync", "off"),
                ("session_preload_libraries", "plugin_webhooks"),
            ],
        );
        server.expect_log(PAUSED);
        let original = server.database_with(create_supabase_roles);
        execute(
            &mut original.client(),
            "select public.rpc_register_plugin('desk', 'Desk'); select public.rpc_install_plugin(gen_random_uuid(), \
            'desk')",
        );
        assert_eq!(reason(&mut original.client()), None);
        wait_until(SOON, "the sessions to leave", || {
            let sessions = format!(
                "select count(*) from pg_stat_activity where datname = '{}'",
                original.name()
            );
            value::<i64>(&mut server.connect("postgres"), &sessions) == 0
        });
        execute(
            &mut server.connect("postgres"),
            &format!(
                "create database copy template {}",
                quote_ident(original.name())
            ),
        );
        let mut copy = server.connect("copy");
        let why = reason(&mut copy).unwrap_or_default();
        assert!(why.contains("another database of this cluster"), "{why}");
        let output = server.psql("copy", "select public.rpc_process_plugin_deliveries()");
        assert_eq!(output.stdout, "0\n");
        assert!(
            output.stderr.contains("WARNING") && output.stderr.contains("resume()"),
            "{}",
            output.stderr
        );
    }

    #[test]
    fn of_the_first_version_waits() {
        let receiver = Receiver::http();
        let original = filled(&receiver);
        // What the first version kept no record of.
        execute(
            &mut original.client(),
            "delete from plugin_webhooks.instance",
        );
        let copy = restored(&original, Way::PlainText, shared_server());
        wait_for_paused_worker(&copy);
        let mut client = copy.client();
        assert!(reason(&mut client).is_some());
        execute(&mut client, "select plugin_webhooks.resume()");
        assert_eq!(reason(&mut client), None);
    }
}

mod a_fresh_database {
    use super::*;

    const UNCHECKED: &str = "
        select count(*) from pg_trigger t join pg_constraint c on c.oid = t.tgconstraint
        where t.tgenabled = 'D' and c.contype = 'f' and c.connamespace in ('int'::regnamespace, 'audit'::regnamespace)";

    /// Foreign keys that pg_restore -j could not satisfy are off until the first plugin.
    #[test]
    fn has_its_foreign_keys_checked_once_it_is_used() {
        let database = project(shared_server());
        let mut client = database.client();
        assert_eq!(
            value::<i64>(&mut client, UNCHECKED),
            8,
            "two triggers a key"
        );
        let install = "insert into int.plugin_installations (tenant_id, plugin_id) \
        values (gen_random_uuid(), gen_random_uuid())";
        expect_sqlstate(client.batch_execute(install), "23503");
        execute(
            &mut client,
            "select public.rpc_register_plugin('desk', 'Desk')",
        );
        expect_sqlstate(client.batch_execute(install), "23503");
        wait_until(SOON, "the worker to turn the foreign keys on", || {
            value::<i64>(&mut client, UNCHECKED) == 0
        });
        expect_sqlstate(client.batch_execute(install), "23503");
    }

    #[test]
    fn is_active_with_its_first_rows_however_they_come() {
        let whole = "with plugin as (insert into int.plugins (key, name) values ('desk', 'Desk') returning id)
                     insert into int.plugin_installations (tenant_id, plugin_id) select gen_random_uuid(), id \
                     from plugin";
        let seeded = "set session_replication_role = replica;
                      insert into int.plugins (key, name) values ('desk', 'Desk');
                      reset session_replication_role;
                      select public.rpc_install_plugin(gen_random_uuid(), 'desk')";
        for rows in [whole, seeded] {
            let database = project(shared_server());
            let mut client = database.client();
            execute(&mut client, rows);
            let paused: Option<String> = value(
                &mut client,
                "select paused_because from plugin_webhooks.health",
            );
            assert_eq!(paused, None);
        }
    }

    #[test]
    fn in_a_host_is_dropped_without_cascade() {
        let database = shared_server().database_with(|client| {
            create_supabase_roles(client);
            execute(client, HOST_SCHEMA);
        });
        let mut client = database.client();
        execute(
            &mut client,
            "select public.rpc_register_plugin('desk', 'Desk'); drop extension plugin_webhooks;",
        );
        let triggers: i64 = value(
            &mut client,
            "select count(*) from pg_trigger where not tgisinternal and tgrelid = 'app.tenants'::regclass
             and tgname <> 'tenants_updated_at'",
        );
        assert_eq!(triggers, 0);
    }
}
