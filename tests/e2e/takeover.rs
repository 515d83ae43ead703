//! CREATE EXTENSION in a database that runs the same system in PL/pgSQL over pg_net, and the way back.

use std::collections::BTreeSet;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, PsqlOutput, Receiver, Server, Tree, as_user, assert_same_lines,
    assert_signed, catalog, create_supabase_roles, execute, expect_sqlstate, former_system,
    shared_server, sign, value, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const CREATE: &str = "create extension plugin_webhooks";
const ONE: &str = "00000000-0000-0000-0000-000000000001";
const DESK: &str = "00000000-0000-0000-0000-000000000101";

/// All rows of the five tables, without what settling or sending a delivery changes.
const ROWS: &str = "
    select 'plugin ' || to_jsonb(p)::text from int.plugins p
    union all select 'installation ' || to_jsonb(i)::text from int.plugin_installations i
    union all select 'subscription ' || to_jsonb(s)::text from int.plugin_webhook_subscriptions s
    union all select 'change ' || to_jsonb(c)::text from audit.entity_changes c
    union all select 'delivery ' || (to_jsonb(q) - '{claim_id,lease_expires_at}'::text[]
        - case when q.net_request_id in (1001, 1002) then '{status,attempts,last_error,sent_at,updated_at}'::text[] \
        else '{}' end)::text
    from int.plugin_delivery_queue q";

#[track_caller]
fn lines(client: &mut Client, sql: &str) -> BTreeSet<String> {
    let rows = client.query(sql, &[]).expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}

/// A database of the former system after the take-over.
#[track_caller]
fn taken_over(receiver: &Receiver) -> (Database, PsqlOutput) {
    let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
    let output = database.psql(CREATE);
    assert!(output.success, "{}", output.stderr);
    (database, output)
}

/// The deliveries of one plugin as `status attempts`, in order.
fn deliveries(client: &mut Client, plugin: &str) -> Vec<String> {
    let sql = format!(
        "select q.status || ' ' || q.attempts from int.plugin_delivery_queue q
         join int.plugin_installations i on i.id = q.plugin_installation_id
         join int.plugins p on p.id = i.plugin_id where p.key = '{plugin}' order by q.source_entity_change_id"
    );
    client
        .query(&sql, &[])
        .expect("the queue")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

mod take_over {
    use super::*;

    #[test]
    fn keeps_every_row_and_foreign_key() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut client = database.client();
        let foreign_keys = "select format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
                            where contype = 'f' and connamespace in ('int'::regnamespace, 'audit'::regnamespace)";
        let (rows, keys) = (lines(&mut client, ROWS), lines(&mut client, foreign_keys));
        assert!(
            rows.len() > 40 && keys.len() == 8,
            "{} rows, {} keys",
            rows.len(),
            keys.len()
        );
        execute(&mut client, CREATE);
        assert_same_lines(("before", &rows), ("after", &lines(&mut client, ROWS)));
        assert_same_lines(
            ("before", &keys),
            ("after", &lines(&mut client, foreign_keys)),
        );
        let next: i64 = value(
            &mut client,
            "insert into audit.entity_changes (table_schema, table_name, record_id, operation) \
            values ('s', 't', '1', 'INSERT')
             returning id - (select max(id) from audit.entity_changes)",
        );
        assert_eq!(next, 1, "the sequence goes on");
    }

    #[test]
    fn makes_what_a_fresh_install_makes() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let comment = |line: &String| {
            let (object, _) = line.strip_prefix("comment on ")?.split_once(": ")?;
            Some(object.to_owned())
        };
        let mut client = database.client();
        execute(&mut client, "set search_path = pg_catalog");
        let commented = lines(
            &mut client,
            "select pg_describe_object(classoid, objoid, objsubid) from pg_description",
        );
        execute(&mut client, CREATE);
        let fresh = shared_server().database_with(|client| {
            create_supabase_roles(client);
            execute(client, HOST_SCHEMA);
        });
        let kinds = [
            "column",
            "constraint",
            "index",
            "policy",
            "trigger",
            "comment",
            "member",
            "dumped",
            "grant",
            "initial grant",
            "view",
        ];
        let of_interest = |database: &Database| -> BTreeSet<String> {
            catalog(&mut database.client())
                .into_iter()
                .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)))
                // The owner's own comments stay.
                .filter(|line| comment(line).is_none_or(|object| !commented.contains(&object)))
                // The schemas are the host's here.
                .filter(|line| {
                    !line.contains("schema int")
                        && !line.contains("schema audit")
                        && !line.contains("schema \"int\"")
                })
                .filter(|line| !line.starts_with("initial grant") || !line.contains(": postgres"))
                // Of a former owner a dump carries it.
                .filter(|line| !line.starts_with("initial grant USAGE"))
                .map(|line| line.replace("plugin_webhooks_owner", "legacy_owner"))
                .collect()
        };
        let (expected, made) = (of_interest(&fresh), of_interest(&database));
        let missing: Vec<_> = expected.difference(&made).collect();
        assert!(missing.is_empty(), "{missing:#?}");
        let extra: Vec<_> = made
            .difference(&expected)
            .filter(|line| line.starts_with("member") || line.starts_with("column"))
            .filter(|line| !line.contains("hand_back_before_drop_extension"))
            .collect();
        assert!(extra.is_empty(), "{extra:#?}");
    }

    /// The host's own statements may count on them. Only those that the extension counts on are replaced.
    #[test]
    fn keeps_defaults_that_the_extension_does_not_rely_on() {
        let database = former_system(shared_server(), "http://127.0.0.1:9");
        let mut client = database.client();
        execute(
            &mut client,
            "alter table int.plugin_installations alter column tenant_id set default authz.get_current_tenant_id();
             alter table audit.entity_changes alter column record_id set default '';
             alter table int.plugin_delivery_queue alter column sent_at set default now();
             alter table int.plugin_installations alter column config set default '{}';",
        );
        execute(&mut client, CREATE);
        assert_eq!(
            lines(
                &mut client,
                "select format('%s %s', a.attname, pg_get_expr(d.adbin, d.adrelid))
                 from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                 where (a.attrelid::regclass::text, a.attname) in (
                     ('\"int\".plugin_installations', 'tenant_id'), ('audit.entity_changes', 'record_id'),
                     ('\"int\".plugin_delivery_queue', 'sent_at'), ('\"int\".plugin_installations', 'config'))",
            )
            .into_iter()
            .collect::<Vec<_>>(),
            [
                "config ",
                "record_id ''::text",
                "sent_at ",
                "tenant_id authz.get_current_tenant_id()",
            ]
        );
    }

    #[test]
    fn replaces_the_functions_and_leaves_one_enqueue_trigger() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut client = database.client();
        let oids = "select p.oid::text || ' ' || p.oid::regprocedure from pg_proc p
                    where (p.proname like 'rpc\\_%' and p.pronamespace = 'public'::regnamespace)
                       or p.proname in ('log_entity_change', 'enqueue_plugin_events_from_audit')";
        let before = lines(&mut client, oids);
        assert_eq!(before.len(), 10);
        execute(&mut client, CREATE);
        assert_same_lines(("before", &before), ("after", &lines(&mut client, oids)));
        let other: i64 = value(
            &mut client,
            "select count(*) from pg_proc p join pg_language l on l.oid = p.prolang
             where l.lanname <> 'c' and p.oid in (select objid from pg_depend d \
             join pg_extension e on e.oid = d.refobjid
                 where e.extname = 'plugin_webhooks' and d.deptype = 'e' and d.classid = 'pg_proc'::regclass)
               and p.pronamespace <> 'plugin_webhooks'::regnamespace",
        );
        assert_eq!(other, 0);
        let triggers = "select tgname || case when tgtype & 1 = 0 then ' for each statement' else ' for each row' end
                        from pg_trigger where tgfoid = 'int.enqueue_plugin_events_from_audit()'::regprocedure";
        assert_eq!(
            lines(&mut client, triggers).into_iter().collect::<Vec<_>>(),
            ["entity_changes_plugin_enqueue_trigger for each statement"]
        );
    }

    #[test]
    fn settles_what_pg_net_has_sent_and_sends_the_rest_again() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        let mut client = database.client();
        // The second was answered with 204, the third never.
        wait_until(
            SOON,
            "the delivery without an answer to be sent again",
            || {
                deliveries(&mut client, "desk")[..6]
                    == [
                        "pending 0",
                        "delivered 0",
                        "delivered 1",
                        "delivered 1",
                        "failed 3",
                        "dead 8",
                    ]
            },
        );
        assert_eq!(receiver.count(), 1);
        // pg_net is not needed any more.
        execute(&mut client, "drop schema net cascade");
        execute(
            &mut client,
            &format!("insert into app.assets (tenant_id, name) values ('{ONE}', 'New')"),
        );
        receiver.wait_for(3, SOON);
        let request = receiver
            .requests()
            .into_iter()
            .find(|request| request.target == "/desk" && request.text().contains("plugin_key"))
            .expect("a native payload");
        assert_signed(&request, "from the vault");
        assert_eq!(request.header("X-Text"), Some("a"));
        assert_eq!(request.header("X-Number"), Some("7"));
        let odd = receiver
            .requests()
            .into_iter()
            .find(|request| request.target == "/odd")
            .expect("odd");
        assert_signed(&odd, "with a newline in its name");
    }

    #[test]
    fn warns_of_urls_that_the_address_policy_refuses() {
        let receiver = Receiver::http();
        let (database, output) = taken_over(&receiver);
        let said = &output.stderr;
        assert!(
            said.contains("WARNING") && said.contains("plugin_webhooks.allowed_networks"),
            "{said}"
        );
        let mut client = database.client();
        let refused = lines(
            &mut client,
            "select p.key from plugin_webhooks.refused_installations() r
             join int.plugin_installations i on i.id = r.installation_id join int.plugins p on p.id = i.plugin_id",
        );
        assert_eq!(
            refused.into_iter().collect::<Vec<_>>(),
            ["plugin_2", "plugin_3", "plugin_5", "plugin_6"]
        );
        for number in [3, 4, 6, 7] {
            assert!(
                said.contains(&format!("00000000-0000-0000-0000-00000000010{number}")),
                "{said}"
            );
        }
        let extras = lines(
            &mut client,
            "select statement from plugin_webhooks.not_in_dumps",
        );
        for extra in [
            "entity_changes_record_idx",
            "entity_changes_tenant_id_idx_before",
            "plugins_updated_at",
            "entity_changes_select_reporting",
        ] {
            assert!(
                extras.iter().any(|line| line.contains(extra)),
                "{extra} is not in a dump: {extras:?}"
            );
        }
        assert!(said.contains("plugin_webhooks.not_in_dumps"), "{said}");
        // Two warnings with their details, and what schedules the processor.
        assert!(said.lines().count() <= 12, "{said}");
    }

    #[test]
    fn stops_at_a_difference_names_it_and_changes_nothing() {
        let server = shared_server();
        let cases = [
            ("alter table int.plugin_delivery_queue alter column net_request_id type integer", "column \
            int.plugin_delivery_queue.net_request_id is integer, expected bigint"),
            ("alter table audit.entity_changes alter column record_id drop not null; insert into audit.entity_changes \
            (table_schema, table_name, operation) values ('s', 't', 'INSERT')",
             "column audit.entity_changes.record_id is null in 1 rows"),
            ("alter table int.plugin_delivery_queue drop column sent_at", "column int.plugin_delivery_queue.sent_at \
            timestamptz is missing"),
            ("alter table int.plugins add column colour text", "column int.plugins.colour is not expected"),
            ("drop function public.rpc_uninstall_plugin(uuid, uuid);
              create function public.rpc_uninstall_plugin(p_tenant uuid, p_installation_id uuid) returns void \
              language sql as ''",
             "function public.rpc_uninstall_plugin(uuid,uuid) has the arguments (p_tenant, p_installation_id), \
             expected (p_tenant_id, p_installation_id)"),
            ("drop function public.rpc_process_plugin_deliveries(integer);
              create function public.rpc_process_plugin_deliveries(p_batch_size bigint) returns integer language sql \
              as 'select 1'",
             "function public.rpc_process_plugin_deliveries(bigint), expected \
             public.rpc_process_plugin_deliveries(integer)"),
            ("drop view public.v_plugins; create view public.v_plugins as select id, key \
            from int.plugins", "view public.v_plugins has the columns (id uuid, key text)"),
            ("alter table int.plugins owner to postgres", "and other objects to another role"),
            ("create unique index plugin_delivery_queue_waiting_idx on int.plugin_delivery_queue (id, status)", "index int.plugin_delivery_queue_waiting_idx is unique"),
            ("create index plugin_delivery_queue_waiting_idx on int.plugins (name)",
             "index int.plugin_delivery_queue_waiting_idx is on \"int\".plugins, expected int.plugin_delivery_queue"),
            ("create index plugin_installations_plugin_id_idx on int.plugin_installations (plugin_id);
              update pg_index set indisvalid = false where indexrelid = 'int.plugin_installations_plugin_id_idx'::regclass",
             "index int.plugin_installations_plugin_id_idx is not valid"),
            ("create table int.plugin_delivery_queue_waiting_idx ()", "int.plugin_delivery_queue_waiting_idx is not an index"),
        ];
        for (change, difference) in cases {
            let database = former_system(server, "http://127.0.0.1:9");
            let mut client = database.client();
            execute(&mut client, change);
            let before = catalog(&mut client);
            let error = expect_sqlstate(client.batch_execute(CREATE), "55000");
            assert!(
                error.message().contains(difference),
                "{difference}: {}",
                error.message()
            );
            assert_same_lines(("before", &before), ("after", &catalog(&mut client)));
        }
    }

    #[test]
    fn names_all_differences_at_once() {
        let database = former_system(shared_server(), "http://127.0.0.1:9");
        let mut client = database.client();
        execute(
            &mut client,
            "alter table int.plugins add column colour text; alter table int.plugin_installations add column shade \
            text",
        );
        let error = expect_sqlstate(client.batch_execute(CREATE), "55000");
        let detail = error.detail().unwrap_or_default();
        assert!(
            detail.contains("colour") && detail.contains("shade"),
            "{detail}"
        );
        assert!(error.hint().is_some());
    }
}

mod application_triggers {
    use super::*;

    #[test]
    fn go_on_whoever_owns_the_table_and_however_it_is_written() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        let mut client = database.client();
        let triggers: i64 = value(
            &mut client,
            "select count(*) from pg_trigger where tgname in ('spare_parts_audit', 'assets_audit', 'tenants_audit')",
        );
        assert_eq!(triggers, 3);
        let changes = |client: &mut Client| -> i64 {
            value(client, "select count(*) from audit.entity_changes")
        };
        let before = changes(&mut client);
        execute(
            &mut client,
            &format!(
                "set role legacy_owner;
                 insert into app.\"Spare Parts\" values ('role', '{ONE}', 'By its owner');
                 reset role;
                 create function app.with_empty_path() returns void language sql set search_path = '' as $$
                     update app.assets set name = name || '!' $$;
                 select app.with_empty_path();
                 insert into app.assets (tenant_id, name) select '{ONE}', 'Bulk ' || n from generate_series(1, 100) n;"
            ),
        );
        assert_eq!(changes(&mut client) - before, 1 + 5 + 100);
        // Two installations subscribe to both tables; one delivery was sent again at the take-over.
        receiver.wait_for(2 * 106 + 1, SOON);
    }

    #[test]
    fn rest_while_the_session_replicates() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        let mut client = database.client();
        let counts = "select (select count(*) from audit.entity_changes) + (select count(*) \
        from int.plugin_delivery_queue)";
        let before: i64 = value(&mut client, counts);
        execute(
            &mut client,
            &format!(
                "set session_replication_role = replica;
                 insert into app.assets (tenant_id, name) values ('{ONE}', 'Replicated');
                 insert into audit.entity_changes (table_schema, table_name, record_id, operation, tenant_id)
                     values ('app', 'assets', '1', 'INSERT', '{ONE}');
                 reset session_replication_role;"
            ),
        );
        assert_eq!(
            value::<i64>(&mut client, counts),
            before + 1,
            "the row itself and nothing else"
        );
    }
}

mod privileges {
    use super::*;

    /// Every privilege of everyone but the owners on what the extension owns, as a table.
    const EXPECTED: &str = "
legacy_owner: CREATE on schema int
legacy_owner: USAGE on schema audit
legacy_owner: USAGE on schema int
legacy_owner: EXECUTE on \"int\".enqueue_plugin_events_from_audit()
legacy_owner: EXECUTE on \"int\".plugin_webhook_apply_action(uuid,text,jsonb)
legacy_owner: EXECUTE on audit.log_entity_change()
legacy_owner: EXECUTE on plugin_webhooks.admin_tenant_id()
legacy_owner: EXECUTE on plugin_webhooks.current_user_id()
legacy_owner: EXECUTE on public.rpc_delete_plugin_webhook_subscription(uuid,uuid)
legacy_owner: EXECUTE on public.rpc_install_plugin(uuid,text,text,jsonb)
legacy_owner: EXECUTE on public.rpc_plugin_ingest_webhook(text,uuid,jsonb,text)
legacy_owner: EXECUTE on public.rpc_process_plugin_deliveries(integer)
legacy_owner: EXECUTE on public.rpc_register_plugin(text,text,text,boolean,boolean)
legacy_owner: EXECUTE on public.rpc_uninstall_plugin(uuid,uuid)
legacy_owner: EXECUTE on public.rpc_update_plugin_installation(uuid,uuid,text,text,jsonb)
legacy_owner: EXECUTE on public.rpc_upsert_plugin_webhook_subscription(uuid,uuid,text,text,text[],text[],boolean)
legacy_owner: SELECT on public.v_audit_entity_changes
legacy_owner: SELECT on public.v_plugin_delivery_queue_recent
legacy_owner: SELECT on public.v_plugin_installations
legacy_owner: SELECT on public.v_plugin_webhook_subscriptions
legacy_owner: SELECT on public.v_plugins
plugin_webhooks_owner: USAGE on schema plugin_webhooks
anon: EXECUTE on plugin_webhooks.admin_tenant_id()
anon: EXECUTE on plugin_webhooks.current_user_id()
anon: EXECUTE on public.rpc_plugin_ingest_webhook(text,uuid,jsonb,text)
anon: SELECT on \"int\".plugin_delivery_attempts
anon: SELECT on \"int\".plugin_delivery_queue
anon: SELECT on \"int\".plugin_installations
anon: SELECT on \"int\".plugin_webhook_subscriptions
anon: SELECT on \"int\".plugins
anon: SELECT on audit.entity_changes
anon: SELECT on public.v_audit_entity_changes
anon: SELECT on public.v_plugin_delivery_attempts
anon: SELECT on public.v_plugin_delivery_queue_recent
anon: SELECT on public.v_plugin_installations
anon: SELECT on public.v_plugin_webhook_subscriptions
anon: SELECT on public.v_plugins
authenticated: EXECUTE on plugin_webhooks.admin_tenant_id()
authenticated: EXECUTE on plugin_webhooks.current_user_id()
authenticated: EXECUTE on public.rpc_delete_plugin_webhook_subscription(uuid,uuid)
authenticated: EXECUTE on public.rpc_install_plugin(uuid,text,text,jsonb)
authenticated: EXECUTE on public.rpc_plugin_ingest_webhook(text,uuid,jsonb,text)
authenticated: EXECUTE on public.rpc_uninstall_plugin(uuid,uuid)
authenticated: EXECUTE on public.rpc_update_plugin_installation(uuid,uuid,text,text,jsonb)
authenticated: EXECUTE on public.rpc_upsert_plugin_webhook_subscription(uuid,uuid,text,text,text[],text[],boolean)
authenticated: SELECT on \"int\".plugin_delivery_attempts
authenticated: SELECT on \"int\".plugin_delivery_queue
authenticated: SELECT on \"int\".plugin_installations
authenticated: SELECT on \"int\".plugin_webhook_subscriptions
authenticated: SELECT on \"int\".plugins
authenticated: SELECT on audit.entity_changes
authenticated: SELECT on public.v_audit_entity_changes
authenticated: SELECT on public.v_plugin_delivery_attempts
authenticated: SELECT on public.v_plugin_delivery_queue_recent
authenticated: SELECT on public.v_plugin_installations
authenticated: SELECT on public.v_plugin_webhook_subscriptions
authenticated: SELECT on public.v_plugins
authenticated: USAGE on schema audit
authenticated: USAGE on schema int
reporting: SELECT on audit.entity_changes
reporting: USAGE on schema audit
service_role: EXECUTE on public.rpc_plugin_ingest_webhook(text,uuid,jsonb,text)
service_role: EXECUTE on public.rpc_process_plugin_deliveries(integer)
service_role: EXECUTE on public.rpc_register_plugin(text,text,text,boolean,boolean)
service_role: SELECT on \"int\".plugin_delivery_attempts
service_role: SELECT on \"int\".plugin_delivery_queue
service_role: USAGE on schema int
";

    #[test]
    fn are_exactly_these_after_a_take_over() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut client = database.client();
        execute(
            &mut client,
            "alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
             alter default privileges in schema public grant all on tables to anon, authenticated, service_role;",
        );
        execute(&mut client, CREATE);
        let of_members: BTreeSet<String> = catalog(&mut client)
            .into_iter()
            .filter_map(|line| {
                let (privilege, rest) = line.strip_prefix("grant ")?.split_once(" on ")?;
                let (object, role) = rest.rsplit_once(": ")?;
                (object != "\"int\".set_updated_at()")
                    .then(|| format!("{role}: {privilege} on {object}"))
            })
            .collect();
        let expected: BTreeSet<String> = EXPECTED.trim().lines().map(str::to_owned).collect();
        assert_same_lines(("granted", &of_members), ("expected", &expected));
    }

    #[test]
    fn of_the_owners_end_where_they_did() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        let mut client = database.client();
        let owners = lines(
            &mut client,
            "select concat_ws(' ', case when p.prosecdef then 'runs as' else 'code of' end, p.proowner::regrole)
             from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
             join pg_extension e on e.oid = d.refobjid and e.extname = 'plugin_webhooks'
             union select concat_ws(' ', 'table', c.oid::regclass, c.relowner::regrole)
             from pg_class c join pg_depend d on d.objid = c.oid and d.classid = 'pg_class'::regclass \
             and d.deptype = 'e'
             join pg_extension e on e.oid = d.refobjid and e.extname = 'plugin_webhooks' where c.relkind = 'r'",
        );
        assert_eq!(
            owners.into_iter().collect::<Vec<_>>(),
            [
                "code of postgres",
                "runs as plugin_webhooks_owner",
                "runs as postgres",
                "table \"int\".plugin_delivery_attempts legacy_owner",
                "table \"int\".plugin_delivery_queue legacy_owner",
                "table \"int\".plugin_installations legacy_owner",
                "table \"int\".plugin_webhook_subscriptions legacy_owner",
                "table \"int\".plugins legacy_owner",
                "table audit.entity_changes legacy_owner",
                "table plugin_webhooks.actions plugin_webhooks_owner",
                "table plugin_webhooks.host_bindings postgres",
                "table plugin_webhooks.inbound_ids plugin_webhooks_owner",
                "table plugin_webhooks.instance postgres",
                "table plugin_webhooks.rate_limits plugin_webhooks_owner",
                "table plugin_webhooks.replaced postgres",
                "table plugin_webhooks.secrets plugin_webhooks_owner",
            ]
        );
        // A trigger that the tables' owner adds runs with the owner's rights, not with a superuser's.
        execute(
            &mut client,
            "set role legacy_owner;
             create table int.ran_as (name text);
             create function int.spy() returns trigger language plpgsql as $$
                 begin insert into int.ran_as select current_user; return new; end $$;
             create trigger spy after insert or update on int.plugin_installations \
             for each row execute function int.spy();
             reset role;",
        );
        let claims =
            format!(r#"{{"sub": "00000000-0000-0000-0000-0000000000a1", "tenant_id": "{ONE}"}}"#);
        as_user(
            &mut database.authenticator(),
            "authenticated",
            &claims,
            |tx| {
                tx.batch_execute(&format!(
                    "select public.rpc_install_plugin('{ONE}', 'plugin_9')"
                ))
            },
        )
        .expect("install");
        assert_eq!(
            lines(&mut client, "select name from int.ran_as")
                .into_iter()
                .collect::<Vec<_>>(),
            ["legacy_owner"]
        );
    }

    /// The functions run as the dedicated role, and reach each table as its owner.
    #[test]
    fn of_the_functions_reach_the_extensions_own_tables() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        database.allow_log("its signing secret cannot be read");
        // Without the Vault's view the names resolve to nothing.
        database.allow_log("secret_ref resolves to no secret");
        let mut client = database.client();
        execute(
            &mut client,
            "drop function util.check_rate_limit;
             drop view vault.decrypted_secrets;
             select plugin_webhooks.create_secret('of the store', 'desk_secret');
             create function app.echo(tenant uuid, data jsonb) returns jsonb language sql as $$ select data $$;
             select plugin_webhooks.register_action('echo', 'app.echo(uuid,jsonb)');",
        );
        let payload = r#"{"data": {"a": 1}, "action": "echo"}"#;
        let answer = as_user(&mut database.authenticator(), "anon", "{}", |tx| {
            let row = tx.query_one(
                "select public.rpc_plugin_ingest_webhook('desk', $1::text::uuid, $2::text::jsonb, $3)::text",
                &[&DESK, &payload, &sign("of the store", payload.as_bytes())],
            )?;
            Ok(row.get::<_, String>(0))
        });
        assert_eq!(answer.expect("the action"), r#"{"a": 1}"#);
        let calls: i64 = value(
            &mut client,
            "select count(*) from plugin_webhooks.rate_limits",
        );
        assert_eq!(calls, 1);
    }

    #[test]
    fn of_tenants_admins_are_theirs_over_one_switching_session() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        let mut session = database.authenticator();
        for (number, installations) in [(1, 9), (2, 0)] {
            let claims = format!(
                r#"{{"sub": "00000000-0000-0000-0000-0000000000a{number}", "tenant_id": "00000000-0000-0000-0000-00000000000{number}"}}"#
            );
            let seen = as_user(&mut session, "authenticated", &claims, |tx| {
                Ok((
                    tx.query("select * from public.v_plugin_installations", &[])?
                        .len(),
                    tx.query("select * from public.v_plugin_delivery_queue_recent", &[])?
                        .is_empty(),
                ))
            });
            assert_eq!(
                seen.expect("the views"),
                (installations, installations == 0),
                "{number}"
            );
        }
        let refused = as_user(&mut session, "authenticated", "{}", |tx| {
            tx.batch_execute(
                "insert into int.plugin_installations (tenant_id, plugin_id) \
            select gen_random_uuid(), id from int.plugins",
            )
        });
        expect_sqlstate(refused, "42501");
    }
}

mod pg_cron {
    use super::*;

    #[test]
    fn goes_on_with_the_job_it_had() {
        let server = Server::builder(Tree::shared())
            .setting("fsync", "off")
            .setting("shared_preload_libraries", "plugin_webhooks,pg_cron")
            .setting("cron.host", "127.0.0.1")
            .setting("plugin_webhooks.dispatch", "on_call")
            .setting("plugin_webhooks.allowed_networks", "127.0.0.0/8")
            .start();
        let receiver = Receiver::http();
        let database = former_system(&server, receiver.url("").trim_end_matches('/'));
        let mut cron = server.connect("postgres");
        execute(&mut cron, "create extension pg_cron");
        execute(
            &mut cron,
            &format!(
                "select cron.schedule_in_database('plugin_webhook_process', '* * * * *',
                     'select public.rpc_process_plugin_deliveries(50)', '{}')",
                database.name()
            ),
        );
        let mut client = database.client();
        execute(&mut client, CREATE);
        execute(
            &mut client,
            &format!("insert into app.assets (tenant_id, name) values ('{ONE}', 'New')"),
        );
        receiver.wait_for(2, Duration::from_secs(90));
    }
}

mod way_back {
    use super::*;

    #[test]
    fn drop_extension_alone_is_refused() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        let mut client = database.client();
        let rows = lines(&mut client, ROWS);
        let error = expect_sqlstate(
            client.batch_execute("drop extension plugin_webhooks"),
            "2BP01",
        );
        let detail = error.detail().unwrap_or_default();
        assert!(
            detail.contains("hand_back_before_drop_extension"),
            "{detail}"
        );
        assert_same_lines(("before", &rows), ("after", &lines(&mut client, ROWS)));
    }

    #[test]
    fn restores_what_was_there() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut client = database.client();
        let before = catalog(&mut client);
        let code = |lines: &BTreeSet<String>| -> BTreeSet<String> {
            let kinds = ["function", "view", "trigger", "policy", "relation", "grant"];
            lines
                .iter()
                .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)))
                .cloned()
                .collect()
        };
        for round in 1..=2 {
            execute(&mut client, CREATE);
            let replaced: i64 = value(
                &mut client,
                "select count(*) from audit.track_all(false) where action = 'replace'",
            );
            assert!(
                replaced >= 3,
                "{replaced} tables are recorded once a statement"
            );
            execute(
                &mut client,
                &format!(
                    "insert into app.assets (tenant_id, name) values ('{ONE}', 'Round {round}')"
                ),
            );
            wait_until(SOON, "no delivery under way", || {
                value::<i64>(
                    &mut client,
                    "select count(*) from int.plugin_delivery_queue where status in ('pending', 'sending') \
                    and next_attempt_at < now()",
                ) == 0
            });
            let rows = lines(&mut client, ROWS);
            execute(
                &mut client,
                "begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;",
            );
            assert_same_lines(("before", &rows), ("after", &lines(&mut client, ROWS)));
            let mut after = code(&catalog(&mut client));
            after.retain(|line| {
                !line.contains("relation plugin_webhooks.")
                    && !line.contains("schema plugin_webhooks:")
                    && !line.contains("plugin_delivery_attempts")
                    && !line.contains("fillfactor")
            });
            let mut expected = code(&before);
            expected.retain(|line| !line.starts_with("relation \"int\".plugin_delivery_queue:"));
            assert_same_lines(
                ("before the take-over", &expected),
                ("after the way back", &after),
            );
        }
        // The former system works again.
        let enqueued = format!(
            "select count(*) from int.plugin_delivery_queue where payload ->> 'legacy' = 'true' \
            and plugin_installation_id = '{DESK}'"
        );
        let count: i64 = value(&mut client, &enqueued);
        execute(
            &mut client,
            &format!("insert into app.assets (tenant_id, name) values ('{ONE}', 'Legacy')"),
        );
        assert_eq!(value::<i64>(&mut client, &enqueued), count + 1);
        let moved: i32 = value(
            &mut client,
            "select public.rpc_process_plugin_deliveries(50)",
        );
        assert!(moved > 0);
    }

    #[test]
    fn leaves_row_triggers_where_only_track_made_any() {
        let receiver = Receiver::http();
        let (database, _) = taken_over(&receiver);
        database.allow_log("audit.track() left columns out");
        let mut client = database.client();
        execute(
            &mut client,
            "create table app.later (id int, tenant_id uuid); select audit.track('app.later');
             create table app.secret (id int, tenant_id uuid, pin text); select audit.track('app.secret', '{pin}');
             begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;",
        );
        let changes =
            "select count(*) from audit.entity_changes where table_name in ('later', 'secret')";
        execute(
            &mut client,
            &format!(
                "insert into app.later select n, '{ONE}' from generate_series(1, 2) n;
                 update app.later set id = id + 10; delete from app.later;
                 insert into app.secret values (1, '{ONE}', '1234');"
            ),
        );
        assert_eq!(value::<i64>(&mut client, changes), 6);
    }

    #[test]
    fn names_what_the_former_system_needs_before_it_changes_anything() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut client = database.client();
        execute(
            &mut client,
            "create role \"to be dropped\";
             grant select on int.plugins to \"to be dropped\";",
        );
        execute(&mut client, CREATE);
        execute(
            &mut client,
            "drop owned by \"to be dropped\"; drop role \"to be dropped\";
             drop schema net cascade; drop schema extensions cascade;",
        );
        let before = catalog(&mut client);
        let error = expect_sqlstate(
            client.batch_execute("select plugin_webhooks.hand_back()"),
            "55000",
        );
        assert_eq!(
            error
                .detail()
                .unwrap_or_default()
                .lines()
                .collect::<Vec<_>>(),
            [
                "function extensions.gen_random_uuid()",
                "function net.http_post() of extension pg_net",
                "role \"to be dropped\"",
            ]
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("pg_net")));
        assert_same_lines(("before", &before), ("after", &catalog(&mut client)));
        execute(
            &mut client,
            "create schema net; create schema extensions; grant usage on schema extensions to legacy_owner; create role \"to be dropped\";
             create function net.http_post() returns bigint language sql as 'select 1::bigint';
             create function extensions.gen_random_uuid() returns uuid language sql as 'select null::uuid';
             begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;
             drop owned by \"to be dropped\"; drop role \"to be dropped\";",
        );
    }

    #[test]
    fn and_an_update_leave_the_comments_of_the_owner() {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut client = database.client();
        execute(
            &mut client,
            "comment on table int.plugins is 'The owner''s plugins';
             comment on column int.plugins.key is E'With a \\\\ in it';
             comment on function public.rpc_install_plugin is null;
             comment on view public.v_plugins is 'The owner''s view';
             comment on function public.rpc_uninstall_plugin(uuid, uuid) is 'The owner''s function';
             comment on trigger entity_changes_plugin_enqueue_trigger on audit.entity_changes is 'The owner''s trigger';",
        );
        let comments = |client: &mut Client| {
            lines(
                client,
                "select format('%s: %s', pg_describe_object(classoid, objoid, objsubid), description)
                 from pg_description
                 where objoid in (select 'int.plugins'::regclass::oid union select 'public.v_plugins'::regclass
                                  union select 'public.rpc_uninstall_plugin(uuid,uuid)'::regprocedure
                                  union select 'public.rpc_install_plugin'::regproc
                                  union select oid from pg_trigger
                                  where tgname = 'entity_changes_plugin_enqueue_trigger')",
            )
        };
        let before = comments(&mut client);
        assert!(before.len() >= 5, "{before:?}");
        execute(&mut client, CREATE);
        let during = comments(&mut client);
        for line in before.iter().filter(|line| !line.starts_with("trigger ")) {
            assert!(during.contains(line), "{line}: {during:?}");
        }
        assert!(
            during
                .iter()
                .any(|line| line.starts_with("function rpc_install_plugin")),
            "others have those of the extension: {during:?}"
        );
        execute(
            &mut client,
            "begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;",
        );
        assert_same_lines(("before", &before), ("after", &comments(&mut client)));
    }

    #[test]
    fn leaves_the_tables_of_a_fresh_install_too() {
        let database = shared_server().database_with(create_supabase_roles);
        let mut client = database.client();
        execute(
            &mut client,
            "select public.rpc_register_plugin('desk', 'Desk');
             select public.rpc_install_plugin(gen_random_uuid(), 'desk');",
        );
        let rows = lines(&mut client, ROWS);
        execute(
            &mut client,
            "begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;",
        );
        assert_same_lines(("before", &rows), ("after", &lines(&mut client, ROWS)));
        execute(&mut client, CREATE);
        assert_same_lines(
            ("before", &rows),
            ("taken over again", &lines(&mut client, ROWS)),
        );
        let error = expect_sqlstate(
            client.batch_execute("drop extension plugin_webhooks"),
            "2BP01",
        );
        assert!(
            error
                .detail()
                .is_some_and(|detail| detail.contains("hand_back"))
        );
        let extra: i64 = value(
            &mut client,
            "select count(*) from plugin_webhooks.not_in_dumps",
        );
        assert_eq!(extra, 0);
    }
}
