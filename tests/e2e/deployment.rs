//! What an administrator meets: CREATE EXTENSION anywhere, the exact grants, pg_cron, the settings,
//! DROP EXTENSION.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    PsqlOutput, Receiver, RoleOptions, Server, Tree, as_user, count, create_supabase_roles,
    create_supabase_roles_with, expect_sqlstate, quote_literal, shared_server, text, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CREATE: &str = "create extension plugin_webhooks";
const LOOPBACK: (&str, &str) = ("plugin_webhooks.allowed_networks", "127.0.0.0/8");

/// A server without preload and without any role but the superuser.
fn plain_server() -> Server {
    Server::start(Tree::shared(), &[("fsync", "off")])
}

/// The first column of every row.
#[track_caller]
fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}

/// A tracked table `public.things` whose inserts go to `url`.
#[track_caller]
fn deliver_things_to(client: &mut Client, url: &str) {
    let config = format!(r#"{{"webhook_url": "{url}"}}"#);
    client
        .batch_execute(&format!(
            "create table if not exists public.things (id int primary key, tenant_id uuid);
             select audit.track('public.things');
             select public.rpc_register_plugin('demo', 'Demo');
             select public.rpc_upsert_plugin_webhook_subscription('{TENANT}',
                 public.rpc_install_plugin('{TENANT}', 'demo', p_config => {}),
                 'public', 'things', '{{INSERT}}');",
            quote_literal(&config)
        ))
        .expect("a subscription");
}

#[track_caller]
fn insert_thing(client: &mut Client, id: i32) {
    client
        .batch_execute(&format!(
            "insert into public.things values ({id}, '{TENANT}')"
        ))
        .expect("insert");
}

mod create_extension {
    use super::*;

    #[test]
    fn needs_nothing_but_a_superuser() {
        let server = plain_server();
        let database = server.database();
        let mut client = database.client();
        let roles = count(
            &mut client,
            "select count(*) from pg_roles where rolname in ('anon', 'authenticated', 'service_role')",
        );
        assert_eq!(roles, 0);
        assert_eq!(
            lines(
                &mut client,
                "select unnest(plugin_webhooks.grant_to_roles())"
            ),
            Vec::<String>::new()
        );
        let receiver = Receiver::http();
        server.alter_system(LOOPBACK.0, LOOPBACK.1);
        let mut client = database.client();
        deliver_things_to(&mut client, &receiver.url("/"));
        insert_thing(&mut client, 1);
        client
            .batch_execute("select public.rpc_process_plugin_deliveries()")
            .expect("the processor");
        receiver.wait_for(1, SOON);
    }

    #[test]
    fn is_refused_to_everyone_else() {
        let database = shared_server().empty_database();
        database
            .client()
            .batch_execute(&format!(
                "do $$ begin create role owner_of_nothing login; exception when duplicate_object then null; end $$;
                 grant all on database \"{}\" to owner_of_nothing",
                database.name()
            ))
            .expect("a role");
        let mut client = database.client_as("owner_of_nothing");
        expect_sqlstate(client.batch_execute(CREATE), "42501");
    }

    #[test]
    fn is_refused_in_another_encoding_with_the_reason() {
        for encoding in ["LATIN1", "SQL_ASCII"] {
            let mut client = shared_server().connect("postgres");
            let name = format!("encoding_{}", encoding.to_lowercase());
            client
                .batch_execute(&format!(
                    "create database {name} encoding '{encoding}' locale 'C' template template0"
                ))
                .expect("a database");
            let mut inside = shared_server().connect(&name);
            let error = expect_sqlstate(inside.batch_execute(CREATE), "0A000");
            assert!(error.message().contains("UTF8"), "{}", error.message());
            assert!(error.message().contains(encoding), "{}", error.message());
            assert!(error.hint().is_some_and(|hint| hint.contains("ENCODING")));
            assert_eq!(
                count(
                    &mut inside,
                    "select count(*) from pg_namespace where nspname in ('int', 'audit', 'plugin_webhooks')"
                ),
                0
            );
        }
    }

    #[test]
    fn leaves_schemas_of_the_host_to_the_host() {
        let database = shared_server().database_with(|client| {
            client
                .batch_execute(
                    "create schema int; create schema audit;
                     comment on schema audit is 'the host''s own'",
                )
                .expect("schemas");
        });
        let mut client = database.client();
        let receiver = Receiver::http();
        deliver_things_to(&mut client, &receiver.url("/"));
        insert_thing(&mut client, 1);
        receiver.wait_for(1, SOON);
        assert_eq!(
            text(&mut client, "select obj_description('audit'::regnamespace)"),
            "the host's own"
        );
        client
            .batch_execute("drop extension plugin_webhooks cascade")
            .expect("drop");
        assert_eq!(
            lines(
                &mut client,
                "select nspname::text from pg_namespace
                 where nspname in ('int', 'audit', 'plugin_webhooks') order by 1"
            ),
            ["audit", "int"]
        );
    }

    #[test]
    fn leaves_the_session_as_it_was() {
        let server = shared_server();
        for level in ["debug1", "notice", "warning", "error"] {
            let database = server.empty_database();
            let show = "show client_min_messages; show search_path; show check_function_bodies;";
            let output = database.psql(&format!(
                "set client_min_messages = {level}; set search_path = a, public; begin; {CREATE}; {show} commit; {show}"
            ));
            assert!(output.success, "{}", output.stderr);
            let unchanged = format!("{level}\na, public\non\n");
            assert_eq!(output.stdout, unchanged.repeat(2), "{level}");
        }
    }

    #[test]
    fn does_not_depend_on_the_search_path_of_its_caller() {
        let database = shared_server().empty_database();
        let mut client = database.client();
        client
            .batch_execute(
                "create schema evil;
                 create function evil.length(text) returns int language sql as $$ select 1/0 $$;
                 create operator evil.~ (leftarg = text, rightarg = text, function = pg_catalog.textne);
                 set search_path = evil, pg_catalog;
                 create extension plugin_webhooks;
                 select public.rpc_register_plugin('demo', 'Demo')",
            )
            .expect("create extension");
        expect_sqlstate(
            client.batch_execute("insert into int.plugins (key, name) values ('Not A Key', 'x')"),
            "23514",
        );
    }
}

mod notice {
    use super::*;

    fn about_scheduling(output: &PsqlOutput) -> Vec<&str> {
        assert!(output.success, "{}", output.stderr);
        let notices = output.stderr.lines();
        notices.filter(|line| line.contains("schedule")).collect()
    }

    #[test]
    fn says_once_that_nothing_schedules_the_processor() {
        let database = shared_server().empty_database();
        let output = database.psql(CREATE);
        let said = about_scheduling(&output);
        assert_eq!(said.len(), 1, "{}", output.stderr);
        assert!(said[0].contains("NOTICE"), "{}", said[0]);
        assert!(
            said[0].contains("select public.rpc_process_plugin_deliveries(50)"),
            "{}",
            said[0]
        );
        assert!(!said[0].contains("schedule_processor"), "{}", said[0]);
        assert_eq!(
            output.stderr.trim().lines().count(),
            1,
            "nothing else is said: {}",
            output.stderr
        );
    }

    #[test]
    fn is_not_for_those_who_want_to_hear_of_errors_only() {
        let database = shared_server().empty_database();
        let output = database.psql(&format!("set client_min_messages = error; {CREATE}"));
        assert!(output.success, "{}", output.stderr);
        assert_eq!(output.stderr, "");
    }

    #[test]
    fn names_schedule_processor_where_pg_cron_is_and_is_silent_once_it_runs() {
        let server = super::pg_cron::server(&[]);
        let missing = server.psql("postgres", CREATE);
        let said = about_scheduling(&missing);
        assert_eq!(said.len(), 1, "{}", missing.stderr);
        assert!(
            said[0].contains("plugin_webhooks.schedule_processor()"),
            "{}",
            said[0]
        );
        let again = server.psql(
            "postgres",
            "select plugin_webhooks.schedule_processor();
             drop extension plugin_webhooks;
             create extension plugin_webhooks;",
        );
        assert_eq!(about_scheduling(&again), Vec::<&str>::new());
    }
}

mod grants {
    use super::*;

    const VIEWS: [&str; 6] = [
        "public.v_audit_entity_changes",
        "public.v_plugin_delivery_attempts",
        "public.v_plugin_delivery_queue_recent",
        "public.v_plugin_installations",
        "public.v_plugin_webhook_subscriptions",
        "public.v_plugins",
    ];
    /// What the views read with their caller's rights; row security decides which rows.
    const TABLES_BEHIND_VIEWS: [&str; 6] = [
        "audit.entity_changes",
        "\"int\".plugin_delivery_attempts",
        "\"int\".plugin_delivery_queue",
        "\"int\".plugin_installations",
        "\"int\".plugin_webhook_subscriptions",
        "\"int\".plugins",
    ];
    const IDENTITY: [&str; 2] = [
        "plugin_webhooks.admin_tenant_id()",
        "plugin_webhooks.current_user_id()",
    ];
    const INGEST: &str = "public.rpc_plugin_ingest_webhook(text,uuid,jsonb,text)";
    const TENANT_ADMINS: [&str; 5] = [
        "public.rpc_delete_plugin_webhook_subscription(uuid,uuid)",
        "public.rpc_install_plugin(uuid,text,text,jsonb)",
        "public.rpc_uninstall_plugin(uuid,uuid)",
        "public.rpc_update_plugin_installation(uuid,uuid,text,text,jsonb)",
        "public.rpc_upsert_plugin_webhook_subscription(uuid,uuid,text,text,text[],text[],boolean)",
    ];
    const BACKEND: [&str; 2] = [
        "public.rpc_process_plugin_deliveries(integer)",
        "public.rpc_register_plugin(text,text,text,boolean,boolean)",
    ];

    /// Every privilege of everyone but the owner.
    fn expected() -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut grant = |role: &str, privilege: &str, kind: &str, names: &[&str]| {
            for name in names {
                all.insert(format!("{role}: {privilege} on {kind} {name}"));
            }
        };
        for role in ["anon", "authenticated"] {
            grant(role, "SELECT", "view", &VIEWS);
            grant(role, "SELECT", "table", &TABLES_BEHIND_VIEWS);
            grant(role, "EXECUTE", "function", &IDENTITY);
            grant(role, "EXECUTE", "function", &[INGEST]);
        }
        grant("authenticated", "USAGE", "schema", &["audit", "\"int\""]);
        grant("authenticated", "EXECUTE", "function", &TENANT_ADMINS);
        grant("service_role", "USAGE", "schema", &["\"int\""]);
        grant(
            "service_role",
            "SELECT",
            "table",
            &[
                "\"int\".plugin_delivery_attempts",
                "\"int\".plugin_delivery_queue",
            ],
        );
        grant("service_role", "EXECUTE", "function", &BACKEND);
        grant("service_role", "EXECUTE", "function", &[INGEST]);
        all
    }

    /// Of every function, table, view, sequence, column and schema of the extension, what the
    /// catalog says.
    const PRIVILEGES: &str = "
        with extension_schema as (
            select oid, nspname, nspowner, nspacl from pg_namespace
            where nspname in ('int', 'audit', 'plugin_webhooks')
        ), member as (
            select d.classid, d.objid from pg_depend d join pg_extension e on e.oid = d.refobjid
            where d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass and e.extname = 'plugin_webhooks'
        ), object as (
            select 'function' as kind, p.oid::regprocedure::text as name, p.proowner as owner,
                   coalesce(p.proacl, acldefault('f', p.proowner)) as acl
            from pg_proc p
            where p.pronamespace in (select oid from extension_schema)
               or ('pg_proc'::regclass, p.oid) in (select classid, objid from member)
            union all
            select case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end,
                   c.oid::regclass::text, c.relowner,
                   coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::\"char\", c.relowner))
            from pg_class c
            where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
              and (c.relnamespace in (select oid from extension_schema)
                   or ('pg_class'::regclass, c.oid) in (select classid, objid from member))
            union all
            select 'column', a.attrelid::regclass::text || '.' || a.attname, c.relowner, a.attacl
            from pg_attribute a join pg_class c on c.oid = a.attrelid
            where a.attacl is not null
              and (c.relnamespace in (select oid from extension_schema)
                   or ('pg_class'::regclass, c.oid) in (select classid, objid from member))
            union all
            select 'schema', n.oid::regnamespace::text, n.nspowner,
                   coalesce(n.nspacl, acldefault('n', n.nspowner))
            from extension_schema n
        )
        select format('%s: %s%s on %s %s',
                      case x.grantee when 0 then 'PUBLIC' else x.grantee::regrole::text end,
                      x.privilege_type, case when x.is_grantable then ' WITH GRANT OPTION' end,
                      o.kind, o.name)
        from object o, aclexplode(o.acl) x
        where x.grantee <> o.owner";

    #[track_caller]
    fn granted(client: &mut Client) -> BTreeSet<String> {
        client
            .batch_execute("set search_path = pg_catalog")
            .expect("set search_path");
        let granted = lines(client, PRIVILEGES).into_iter().collect();
        client
            .batch_execute("reset search_path")
            .expect("reset search_path");
        granted
    }

    fn policies(client: &mut Client) -> Vec<String> {
        lines(
            client,
            "select format('%I.%I %s %s %s %s %s', schemaname, tablename, policyname, permissive, roles, cmd, qual)
             from pg_policies order by 1",
        )
    }

    #[track_caller]
    fn assert_exact(client: &mut Client) {
        let (granted, expected) = (granted(client), expected());
        let more: Vec<&String> = granted.difference(&expected).collect();
        let missing: Vec<&String> = expected.difference(&granted).collect();
        assert!(
            more.is_empty() && missing.is_empty(),
            "too much: {more:#?}\nmissing: {missing:#?}"
        );
    }

    /// Everything to everyone, also to roles and PUBLIC, in every schema.
    const GENEROUS: &str = "
        do $$ begin create role reporting; exception when duplicate_object then null; end $$;
        alter default privileges grant all on functions to anon, authenticated, service_role, reporting, public;
        alter default privileges grant all on tables to anon, authenticated, service_role, reporting, public;
        alter default privileges grant all on sequences to anon, authenticated, service_role, reporting, public;
        alter default privileges grant all on schemas to anon, authenticated, service_role, reporting, public;
        alter default privileges grant all on tables to service_role with grant option;";

    #[test]
    fn nobody_has_any_where_the_roles_do_not_exist() {
        let server = plain_server();
        let database = server.database();
        let mut client = database.client();
        assert_eq!(granted(&mut client), BTreeSet::new());
        assert_eq!(policies(&mut client), Vec::<String>::new());
    }

    #[test]
    fn are_as_documented_for_roles_that_were_there() {
        let database = shared_server().database_with(create_supabase_roles);
        assert_exact(&mut database.client());
    }

    #[test]
    fn are_as_documented_for_roles_that_came_later() {
        let server = plain_server();
        let database = server.database();
        let mut client = database.client();
        create_supabase_roles(&mut client);
        assert_eq!(
            granted(&mut client),
            BTreeSet::new(),
            "a new role has nothing"
        );
        for _ in 0..2 {
            assert_eq!(
                lines(
                    &mut client,
                    "select unnest(plugin_webhooks.grant_to_roles())"
                ),
                ["anon", "authenticated", "service_role"]
            );
        }
        assert_exact(&mut client);
        let before = server.database();
        assert_eq!(policies(&mut client), policies(&mut before.client()));
    }

    #[test]
    fn are_as_documented_when_only_some_roles_exist() {
        let server = plain_server();
        server
            .connect("postgres")
            .batch_execute("create role authenticated")
            .expect("a role");
        let only_authenticated: BTreeSet<String> = expected()
            .into_iter()
            .filter(|line| line.starts_with("authenticated:"))
            .collect();
        let database = server.database();
        let mut client = database.client();
        assert_eq!(granted(&mut client), only_authenticated);
    }

    #[test]
    fn are_as_documented_whatever_supabases_default_privileges_say() {
        let database = shared_server().database_with(|client| {
            let options = RoleOptions {
                default_privileges: true,
                ..RoleOptions::default()
            };
            create_supabase_roles_with(client, options);
        });
        assert_exact(&mut database.client());
    }

    #[test]
    fn are_as_documented_whatever_any_default_privileges_say() {
        let database = shared_server().database_with(|client| {
            create_supabase_roles(client);
            client.batch_execute(GENEROUS).expect("default privileges");
        });
        let mut client = database.client();
        assert_exact(&mut client);
        let untouched = "select count(*) from pg_default_acl, aclexplode(defaclacl) where grantee = 'anon'::regrole";
        assert!(
            count(&mut client, untouched) > 0,
            "the default privileges themselves stay"
        );
    }

    #[test]
    fn are_as_good_as_they_read() {
        let database = shared_server().database_with(create_supabase_roles);
        database
            .client()
            .batch_execute(
                "select public.rpc_register_plugin('shown', 'Shown');
                 select public.rpc_register_plugin('hidden', 'Hidden', p_is_active => false);
                 select public.rpc_install_plugin(gen_random_uuid(), 'shown')",
            )
            .expect("an installation");
        let mut session = database.authenticator();
        for role in ["anon", "authenticated"] {
            let plugins = as_user(&mut session, role, "{}", |tx| {
                Ok(tx
                    .query("select key from v_plugins", &[])?
                    .iter()
                    .map(|row| row.get(0))
                    .collect::<Vec<String>>())
            });
            assert_eq!(plugins.expect("v_plugins"), ["shown"], "{role}");
            for view in VIEWS.iter().filter(|view| !view.ends_with("v_plugins")) {
                let rows = as_user(&mut session, role, "{}", |tx| {
                    tx.query(&format!("select * from {view}"), &[])
                });
                assert!(rows.expect(view).is_empty(), "{role} {view}");
            }
        }
        let refused = [
            ("anon", "select * from int.plugins"),
            ("anon", "select plugin_webhooks.current_user_id()"),
            ("anon", "select public.rpc_process_plugin_deliveries()"),
            ("anon", "select public.rpc_register_plugin('a1', 'x')"),
            (
                "anon",
                "select public.rpc_install_plugin(gen_random_uuid(), 'shown')",
            ),
            (
                "authenticated",
                "select public.rpc_process_plugin_deliveries()",
            ),
            (
                "authenticated",
                "select public.rpc_register_plugin('a1', 'x')",
            ),
            (
                "authenticated",
                "insert into int.plugins (key, name) values ('a1', 'x')",
            ),
            ("authenticated", "update int.plugins set name = 'x'"),
            ("authenticated", "delete from audit.entity_changes"),
            ("authenticated", "truncate int.plugin_delivery_queue"),
            (
                "authenticated",
                "select nextval('audit.entity_changes_id_seq')",
            ),
            (
                "authenticated",
                "select plugin_webhooks.create_secret('a', 'b')",
            ),
            (
                "service_role",
                "select public.rpc_install_plugin(gen_random_uuid(), 'shown')",
            ),
            ("service_role", "select * from int.plugins"),
            (
                "service_role",
                "update int.plugin_delivery_queue set status = 'dead'",
            ),
            ("service_role", "select * from plugin_webhooks.secrets"),
            (
                "service_role",
                "select int.resolve_installation_signing_secret(gen_random_uuid())",
            ),
            (
                "service_role",
                "select int.plugin_webhook_apply_action(gen_random_uuid(), 'noop', '{}')",
            ),
            (
                "service_role",
                "select plugin_webhooks.register_action('a.b', 'now'::regproc::regprocedure)",
            ),
            ("service_role", "select plugin_webhooks.grant_to_roles()"),
        ];
        for (role, sql) in refused {
            let result = as_user(&mut session, role, "{}", |tx| tx.batch_execute(sql));
            let code = result.as_ref().err().and_then(|error| error.code());
            assert_eq!(code.map(|code| code.code()), Some("42501"), "{role}: {sql}");
        }
    }
}

mod pg_cron {
    use super::*;

    pub(super) fn server(settings: &[(&str, &str)]) -> Server {
        let server = Server::builder(Tree::shared())
            .setting("fsync", "off")
            .setting("shared_preload_libraries", "plugin_webhooks,pg_cron")
            .setting("cron.host", "127.0.0.1")
            .setting("plugin_webhooks.dispatch", "on_call")
            .setting(LOOPBACK.0, LOOPBACK.1)
            .settings(settings)
            .start();
        server
            .connect("postgres")
            .batch_execute("create extension pg_cron")
            .expect("create extension pg_cron");
        server
    }

    #[test]
    fn absent_is_said_so() {
        let database = shared_server().database();
        let result = database
            .client()
            .batch_execute("select plugin_webhooks.schedule_processor()");
        let error = expect_sqlstate(result, "0A000");
        assert!(error.message().contains("pg_cron"), "{}", error.message());
        assert!(error.hint().is_some_and(|hint| hint.contains("pg_cron")));
    }

    #[test]
    fn gets_one_job_however_often_it_is_scheduled() {
        let server = server(&[]);
        let mut client = server.connect("postgres");
        client.batch_execute(CREATE).expect("create extension");
        let first = count(&mut client, "select plugin_webhooks.schedule_processor()");
        let second = count(
            &mut client,
            "select plugin_webhooks.schedule_processor('*/5 * * * *')",
        );
        assert_eq!(first, second);
        assert_eq!(
            lines(
                &mut client,
                "select concat_ws(' | ', jobname, schedule, command, database, username, active) from cron.job"
            ),
            [
                "plugin_webhook_process | */5 * * * * | select public.rpc_process_plugin_deliveries(50) | postgres | postgres | t"
            ]
        );
    }

    #[test]
    fn refuses_a_schedule_it_does_not_understand() {
        let server = server(&[]);
        let mut client = server.connect("postgres");
        client.batch_execute(CREATE).expect("create extension");
        let result =
            client.batch_execute("select plugin_webhooks.schedule_processor('now and then')");
        assert!(result.is_err());
        assert_eq!(count(&mut client, "select count(*) from cron.job"), 0);
    }

    fn runs(client: &mut Client, status: &str) -> Vec<String> {
        lines(
            client,
            &format!(
                "select coalesce(return_message, '') from cron.job_run_details where status = {}",
                quote_literal(status)
            ),
        )
    }

    /// pg_cron's finest schedule is a minute here.
    #[test]
    fn delivers_each_minute() {
        let server = server(&[]);
        let mut client = server.connect("postgres");
        client.batch_execute(CREATE).expect("create extension");
        let receiver = Receiver::http();
        deliver_things_to(&mut client, &receiver.url("/"));
        insert_thing(&mut client, 1);
        insert_thing(&mut client, 2);
        assert_eq!(
            count(
                &mut client,
                "select count(*) from int.plugin_delivery_queue where status = 'pending'"
            ),
            2,
            "dispatch is on_call"
        );
        client
            .batch_execute("select plugin_webhooks.schedule_processor()")
            .expect("schedule");
        receiver.wait_for(2, Duration::from_secs(80));
        wait_until(SOON, "pg_cron's record of the run", || {
            runs(&mut client, "succeeded") == ["1 row"]
        });
        assert_eq!(receiver.count(), 2);
    }

    #[test]
    fn may_run_it_as_an_ordinary_role_once_that_is_granted() {
        let server = server(&[("cron.use_background_workers", "on")]);
        let mut client = server.connect("postgres");
        let receiver = Receiver::http();
        client.batch_execute(CREATE).expect("create extension");
        deliver_things_to(&mut client, &receiver.url("/"));
        insert_thing(&mut client, 1);
        client
            .batch_execute("create role scheduler login; grant usage on schema cron to scheduler")
            .expect("a role");
        server
            .connect_as("postgres", "scheduler")
            .batch_execute(
                "select cron.schedule('plugin_webhook_process', '@reboot',
                    'select public.rpc_process_plugin_deliveries(50)')",
            )
            .expect("schedule");

        server.restart();
        let mut client = server.connect("postgres");
        wait_until(SOON, "a run without the right to", || {
            runs(&mut client, "failed")
                .iter()
                .any(|message| message.contains("permission denied"))
        });
        assert_eq!(receiver.count(), 0);

        assert_eq!(
            lines(
                &mut client,
                "select unnest(plugin_webhooks.grant_to_roles())"
            ),
            ["scheduler"]
        );
        server.restart();
        receiver.wait_for(1, SOON);
        let mut scheduler = server.connect_as("postgres", "scheduler");
        scheduler
            .batch_execute("select public.rpc_process_plugin_deliveries()")
            .expect("the processor");
        let more = scheduler.batch_execute("select public.rpc_register_plugin('more', 'More')");
        expect_sqlstate(more, "42501");
    }
}

mod settings {
    use super::*;

    fn server() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| {
            Server::start(
                Tree::shared(),
                &[
                    ("fsync", "off"),
                    ("session_preload_libraries", "plugin_webhooks"),
                ],
            )
        })
    }

    #[test]
    fn have_a_description_and_a_default() {
        let mut client = server().connect("postgres");
        let documented = lines(
            &mut client,
            "select concat_ws(' ', substr(name, 17), vartype, coalesce(nullif(boot_val, ''), '-'), min_val,
                              max_val, unit, array_to_string(enumvals, ','), context)
             from pg_settings where name like 'plugin_webhooks.%' order by name",
        );
        assert_eq!(
            documented,
            [
                "allowed_networks string - sighup",
                "ca_file string - sighup",
                "connect_timeout integer 5000 100 30000 ms sighup",
                "dispatch enum on_commit on_commit,on_call sighup",
                "lease integer 300 150 3600 s sighup",
                "max_in_flight integer 64 1 1024 sighup",
                "max_in_flight_per_installation integer 16 1 1024 sighup",
                "max_probe_interval integer 60000 0 3600000 ms sighup",
                "max_slow_in_flight integer 256 0 4096 sighup",
                "poll_interval integer 1000 100 60000 ms sighup",
                "require_signature bool off sighup",
                "retain_attempts integer 604800 0 315360000 s sighup",
                "retain_dead integer 7776000 0 315360000 s sighup",
                "retain_delivered integer 2592000 0 315360000 s sighup",
                "retry_schedule string 2min, 4min, 8min, 16min, 32min, 64min, 64min sighup",
                "secret_key_file string plugin_webhooks.key sighup",
                "show_internal_bodies bool on sighup",
                "site string - sighup",
                "worker_idle_timeout integer 120 1 86400 s sighup",
            ]
        );
        let silent = "select name from pg_settings where name like 'plugin_webhooks.%'
                      and (coalesce(short_desc, '') = '' or short_desc !~ '[.]$')";
        assert_eq!(lines(&mut client, silent), Vec::<String>::new());
    }

    #[test]
    fn misspelt_are_refused() {
        let mut client = server().connect("postgres");
        for sql in [
            "alter system set plugin_webhooks.nonsense = '1'",
            "set plugin_webhooks.nonsense = '1'",
            "select set_config('plugin_webhooks.nonsense', '1', false)",
            "alter role postgres set plugin_webhooks.nonsense = '1'",
        ] {
            let error = client.batch_execute(sql).expect_err(sql);
            let code = error.code().expect("an SQLSTATE").code().to_owned();
            assert!(["42602", "42704"].contains(&code.as_str()), "{sql}: {code}");
        }
    }

    #[test]
    fn out_of_range_are_refused() {
        let mut client = server().connect("postgres");
        for value in [
            "max_in_flight = 0",
            "max_in_flight = 1025",
            "lease = '10s'",
            "dispatch = 'sometimes'",
            "require_signature = 'perhaps'",
            "connect_timeout = '1h'",
        ] {
            let sql = format!("alter system set plugin_webhooks.{value}");
            expect_sqlstate(client.batch_execute(&sql), "22023");
        }
    }

    #[test]
    fn cannot_be_set_by_a_session_or_a_role() {
        let mut client = server().connect("postgres");
        for sql in [
            "set plugin_webhooks.allowed_networks = '0.0.0.0/0'",
            "set plugin_webhooks.require_signature = off",
            "alter role postgres set plugin_webhooks.secret_key_file = '/tmp/k'",
            "alter database postgres set plugin_webhooks.dispatch = 'on_call'",
        ] {
            expect_sqlstate(client.batch_execute(sql), "55P02");
        }
    }

    #[test]
    fn about_networks_and_files_are_for_superusers_eyes() {
        server()
            .connect("postgres")
            .batch_execute("create role curious login")
            .expect("a role");
        let mut client = server().connect_as("postgres", "curious");
        let secret = ["allowed_networks", "ca_file", "secret_key_file"];
        for name in secret {
            expect_sqlstate(
                client.batch_execute(&format!("show plugin_webhooks.{name}")),
                "42501",
            );
            expect_sqlstate(
                client.batch_execute(&format!("select current_setting('plugin_webhooks.{name}')")),
                "42501",
            );
        }
        let seen = lines(
            &mut client,
            "select substr(name, 17) from pg_settings where name like 'plugin_webhooks.%'",
        );
        assert_eq!(seen.len(), 15);
        assert!(
            secret
                .iter()
                .all(|name| !seen.iter().any(|seen| seen == name))
        );
    }
}

mod drop_extension {
    use super::*;

    /// Every object of this database that is not PostgreSQL's own.
    fn objects(client: &mut Client) -> Vec<String> {
        let catalogs = [
            "pg_class",
            "pg_proc",
            "pg_type",
            "pg_namespace",
            "pg_policy",
            "pg_trigger",
            "pg_constraint",
            "pg_attrdef",
            "pg_rewrite",
            "pg_extension",
            "pg_default_acl",
            "pg_event_trigger",
            "pg_operator",
        ];
        let parts: Vec<String> = catalogs
            .iter()
            .map(|catalog| {
                format!("select '{catalog} ' || oid as object from {catalog} where oid >= 16384")
            })
            .collect();
        lines(
            client,
            &format!(
                "{} union all select 'pg_init_privs ' || objoid from pg_init_privs where objoid >= 16384
                 union all select 'pg_description ' || objoid from pg_description where objoid >= 16384
                 union all select 'pg_shdepend ' || d.objid from pg_shdepend d
                     where d.dbid = (select oid from pg_database where datname = current_database())
                 order by 1",
                parts.join(" union all ")
            ),
        )
    }

    #[test]
    fn leaves_nothing_behind_and_create_starts_afresh() {
        let database = shared_server().empty_database();
        let mut client = database.client();
        create_supabase_roles(&mut client);
        client
            .batch_execute("create table public.things (id int primary key, tenant_id uuid)")
            .expect("a table");
        let before = objects(&mut client);
        let receiver = Receiver::http();
        for round in 1..=2 {
            client.batch_execute(CREATE).expect("create extension");
            assert_eq!(
                count(&mut client, "select count(*) from int.plugins"),
                0,
                "round {round}"
            );
            deliver_things_to(&mut client, &receiver.url("/"));
            insert_thing(&mut client, round);
            receiver.wait_for(usize::try_from(round).expect("a count"), SOON);

            let refused = client.batch_execute("drop extension plugin_webhooks");
            expect_sqlstate(refused, "2BP01");
            client
                .batch_execute("drop extension plugin_webhooks cascade")
                .expect("drop");
            assert_eq!(objects(&mut client), before, "round {round}");
            wait_until(SOON, "the worker to leave the database", || {
                count(
                    &mut client,
                    "select count(*) from pg_stat_activity
                     where datname = current_database() and backend_type like 'plugin_webhooks%'",
                ) == 0
            });
        }
        assert_eq!(count(&mut client, "select count(*) from public.things"), 2);
    }

    #[test]
    fn does_not_wait_for_a_delivery_under_way() {
        let database = shared_server().database();
        let mut client = database.client();
        let receiver = Receiver::http();
        receiver.answer("/", plugin_webhooks_kit::Reply::Hang);
        deliver_things_to(&mut client, &receiver.url("/"));
        insert_thing(&mut client, 1);
        receiver.wait_for(1, SOON);
        let started = std::time::Instant::now();
        client
            .batch_execute("drop extension plugin_webhooks cascade")
            .expect("drop");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
