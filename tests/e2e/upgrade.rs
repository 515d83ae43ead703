//! From each released version to this one: the library first, the catalogs by ALTER EXTENSION UPDATE.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, Receiver, Reply, Server, Tenant, Tree, assert_same_lines, catalog,
    create_supabase_roles, create_tracked_table, execute, expect_sqlstate, former_system, sign,
    value, wait_until,
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
pub fn server() -> &'static Server {
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
pub fn database_of(version: &str, prepare: impl FnOnce(&mut Client)) -> Database {
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

/// The rows of plugin_webhooks.expected_shape as lines. Columns may have been added to a view at its end.
const EXPECTED_SHAPE: &str = r#"
    with shape as (
        select s.*, split_part(s.definition, ' ', 1) as type from plugin_webhooks.expected_shape s
    )
    select case
        when kind in ('column', 'added column')
            then format('column %s.%s %s', to_regclass(relation), name,
                        format_type(to_regtype(type), null)
                            || regexp_replace(substr(definition, length(type) + 1), ' DEFAULT NULL$', ''))
        when kind = 'function' then format('function %s.%s%s', relation, name, definition)
        when kind = 'view' then format('view %s %s', relation, definition)
        else format('%s %s.%s %s', kind, to_regclass(relation), name, definition)
    end
    from shape"#;

/// The same of what is there.
const ACTUAL_SHAPE: &str = r#"
    with shape as (
        select s.*, to_regclass(s.relation) as oid from plugin_webhooks.expected_shape s
    ), data as (
        select t.oid from pg_extension e, unnest(e.extconfig) as t (oid) where e.extname = 'plugin_webhooks'
    )
    select format('column %s.%s %s', a.attrelid::regclass, a.attname, concat_ws(' ',
               format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'NOT NULL' end,
               'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)))
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid in (select oid from shape where kind = 'column') and a.attnum > 0 and not a.attisdropped
    union all
    select format('constraint %s.%s %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
    from pg_constraint c where c.conrelid in (select oid from data) and c.contype in ('p', 'u', 'f', 'c', 'x')
    union all
    select format('index %s.%s %s', x.indrelid::regclass, i.relname, split_part(pg_get_indexdef(i.oid), ' USING ', 2))
    from pg_index x join pg_class i on i.oid = x.indexrelid
    where x.indrelid in (select oid from data) and not exists (select from pg_constraint c where c.conindid = i.oid)
    union all
    select format('trigger %s.%s ', t.tgrelid::regclass, t.tgname)
    from pg_trigger t where t.tgrelid in (select oid from data) and not t.tgisinternal
    union all
    select format('function %s.%s(%s) RETURNS %s', s.relation, s.name, (
               select string_agg(concat_ws(' ', p.proargnames[n], format_type(p.proargtypes[n - 1], null),
                                           case when n > p.pronargs - p.pronargdefaults then 'DEFAULT' end), ', ' order by n)
               from generate_series(1, p.pronargs) n), format_type(p.prorettype, null))
    from shape s join pg_proc p on p.pronamespace = s.relation::regnamespace and p.proname = s.name
    where s.kind = 'function'
    union all
    select format('view %s %s', s.relation, left(string_agg(
               a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum), length(s.definition)))
    from shape s join pg_attribute a on a.attrelid = s.oid and a.attnum > 0
    where s.kind = 'view' group by s.relation, s.definition"#;

#[test]
fn the_expected_shape_is_what_the_install_script_makes() {
    let database = server().database_with(create_supabase_roles);
    let mut client = database.client();
    let mut lines = |sql: &str| -> BTreeSet<String> {
        let rows = client.query(sql, &[]).expect(sql);
        rows.iter().map(|row| row.get(0)).collect()
    };
    let (expected, actual) = (lines(EXPECTED_SHAPE), lines(ACTUAL_SHAPE));
    assert!(expected.len() > 100, "{expected:#?}");
    assert_same_lines(("expected", &expected), ("made", &actual));
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

/// The older version knew no ids: such a call runs as it did.
#[test]
fn the_library_answers_partners_with_the_catalogs_of_each_released_version() {
    for (from, _) in RELEASED {
        let database = database_of(from, |_| {});
        let mut client = database.client();
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('of the partner', 'desk');
             select public.rpc_register_plugin('desk', 'Desk')",
        );
        let installation: String = value(
            &mut client,
            "select public.rpc_install_plugin('11111111-1111-1111-1111-111111111111', 'desk', 'desk')::text",
        );
        let payload = r#"{"id": "a", "action": "noop"}"#;
        let call = format!(
            "select public.rpc_plugin_ingest_webhook('desk', '{installation}', '{payload}', '{}')::text",
            sign("of the partner", payload.as_bytes())
        );
        for _ in 0..2 {
            assert_eq!(
                value::<String>(&mut client, &call),
                r#"{"ok": true, "action": "noop"}"#,
                "{from}"
            );
        }
        execute(&mut client, UPDATE);
        value::<String>(&mut client, &call);
        let kept: i64 = value(
            &mut client,
            "select count(*) from plugin_webhooks.inbound_ids",
        );
        assert_eq!(kept, 1);
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

        // Rows beyond what may be stored from now on stay, and serve.
        execute(
            &mut client,
            "update int.plugin_installations
             set config = config || jsonb_build_object('x', repeat('x', 70000)), updated_at = 'yesterday';
             update int.plugin_webhook_subscriptions
             set changed_fields_allowlist = array_fill('x'::text, array[1601]), updated_at = 'yesterday'",
        );
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
fn secrets_of_released_versions_are_read_and_bound_when_they_change() {
    for (from, _) in RELEASED {
        let database = database_of(from, |_| {});
        let mut client = database.client();
        let tenant = Tenant::install_with(&database, "{}", Some("kept"));
        let resolved = |client: &mut Client, name: &str| {
            execute(
                client,
                &format!("update int.plugin_installations set secret_ref = '{name}'"),
            );
            value::<Option<String>>(
                client,
                &format!(
                    "select int.resolve_installation_signing_secret('{}')",
                    tenant.installation
                ),
            )
        };
        // The library is the new one, the catalogs are not.
        execute(
            &mut client,
            "select plugin_webhooks.create_secret('old', 'kept'), plugin_webhooks.create_secret('old', 'to change');
             select plugin_webhooks.update_secret(id, 'changed') from plugin_webhooks.secret_names where name <> 'kept';
             select plugin_webhooks.update_secret(id, new_name => 'changed') from plugin_webhooks.secret_names
             where name <> 'kept'",
        );
        let expect = |client: &mut Client| {
            assert_eq!(
                resolved(client, "changed").as_deref(),
                Some("changed"),
                "{from}"
            );
            assert_eq!(resolved(client, "kept").as_deref(), Some("old"), "{from}");
        };
        expect(&mut client);
        execute(&mut client, UPDATE);
        expect(&mut client);
        let versions = |client: &mut Client| -> String {
            value(
                client,
                "select string_agg(aad_version::text, ' ' order by name) from plugin_webhooks.secrets",
            )
        };
        assert_eq!(versions(&mut client), "1 1", "{from}");
        execute(
            &mut client,
            "select plugin_webhooks.update_secret(id, new_name => 'renamed') from plugin_webhooks.secret_names
             where name = 'kept';
             select plugin_webhooks.update_secret(id, 'newer') from plugin_webhooks.secret_names
             where name = 'changed'",
        );
        assert_eq!(versions(&mut client), "2 2", "{from}");
        assert_eq!(
            resolved(&mut client, "renamed").as_deref(),
            Some("old"),
            "{from}"
        );
        assert_eq!(
            resolved(&mut client, "changed").as_deref(),
            Some("newer"),
            "{from}"
        );
    }
}

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
             grant execute on function plugin_webhooks.worker_pid() to upgrade_reader with grant option;
             grant execute on function plugin_webhooks.create_secret(text, text, text) to upgrade_reader;",
        );
        let granted = |client: &mut Client| {
            catalog(client)
                .into_iter()
                .filter(|line| line.contains("upgrade_reader"))
                // The tables have another owner, who is the grantor.
                .map(|line| line.replace("/plugin_webhooks_owner}", "/postgres}"))
                .collect::<Vec<_>>()
        };
        let before = granted(&mut client);
        assert!(before.len() >= 4, "{before:#?}");
        execute(&mut client, UPDATE);
        let kept: Vec<String> = granted(&mut client)
            .into_iter()
            // It takes more arguments now.
            .map(|line| line.replace("(text,text,text,uuid,text)", "(text,text,text)"))
            .collect();
        assert_eq!(
            kept, before,
            "and no dump takes them for the extension's own"
        );
    }
}

/// Grants that the view needed in 0.2.0 are all it needs: no schema of the tables, nothing that it reads.
#[test]
fn a_role_that_was_granted_the_list_of_what_dumps_leave_out_reads_it() {
    for upgraded in [false, true] {
        let database = if upgraded {
            database_of("0.2.0", |_| {})
        } else {
            server().database_with(create_supabase_roles)
        };
        let mut client = database.client();
        execute(
            &mut client,
            "do $$ begin create role backup_reader; exception when duplicate_object then null; end $$;
             grant usage on schema plugin_webhooks to backup_reader;
             grant select on plugin_webhooks.not_in_dumps to backup_reader;
             create index added_by_the_host on int.plugins (name);",
        );
        let mut listed = || -> String {
            execute(&mut client, "set role backup_reader");
            let statements = value(
                &mut client,
                "select string_agg(statement, E'\n') from plugin_webhooks.not_in_dumps",
            );
            execute(&mut client, "reset role");
            statements
        };
        let before = listed();
        assert!(before.contains("added_by_the_host"), "{before}");
        if upgraded {
            execute(&mut database.client(), UPDATE);
            assert_eq!(listed(), before);
        }
    }
}

#[test]
fn defaults_of_the_host_stay() {
    for (from, _) in RELEASED {
        let database = database_of(from, |_| {});
        let mut client = database.client();
        execute(
            &mut client,
            "alter table int.plugin_installations alter column tenant_id set default gen_random_uuid();
             alter table int.plugin_delivery_queue alter column event_type set default 'of the host';",
        );
        let defaults = "select string_agg(pg_get_expr(adbin, adrelid), ', ' order by adrelid, adnum) from pg_attrdef
                        where (adrelid, adnum) in (select attrelid, attnum from pg_attribute
                            where attrelid = 'int.plugin_installations'::regclass and attname = 'tenant_id'
                               or attrelid = 'int.plugin_delivery_queue'::regclass and attname = 'event_type')";
        let before: String = value(&mut client, defaults);
        assert_eq!(before.matches(", ").count(), 1, "{before}");
        execute(&mut client, UPDATE);
        assert_eq!(value::<String>(&mut client, defaults), before, "{from}");
    }
}

#[test]
fn stops_where_an_index_is_not_what_it_was() {
    let database = database_of("0.2.0", |_| {});
    let mut client = database.client();
    execute(
        &mut client,
        "create index plugin_delivery_queue_claimed_idx on int.plugins (name)",
    );
    let error = expect_sqlstate(client.batch_execute(UPDATE), "55000");
    assert!(
        error.message().contains(
            "index int.plugin_delivery_queue_claimed_idx is on \"int\".plugins, expected int.plugin_delivery_queue"
        ),
        "{}",
        error.message()
    );
    assert_eq!(version(&mut client), "0.2.0");
}

/// The former system after a take-over by an earlier version.
#[track_caller]
fn taken_over_by(version: &str) -> Database {
    let database = former_system(server(), "http://127.0.0.1:9");
    database.allow_log("is not trusted");
    database.allow_log("deliveries of database");
    // In the words of that version.
    database.allow_log("the address policy refuses the webhook_url of installations");
    database.allow_log("pg_dump does not carry everything that was on the tables");
    execute(
        &mut database.client(),
        &format!("create extension plugin_webhooks version '{version}'"),
    );
    database
}

/// Who owns what, and who may do what.
fn rights(database: &Database) -> BTreeSet<String> {
    let mut client = database.client();
    let owners = client
        .query(
            "select format('%s %s of %s', kind, object, owner::regrole) from plugin_webhooks.member_owners",
            &[],
        )
        .expect("owners");
    let mut lines: BTreeSet<String> = owners.iter().map(|row| row.get(0)).collect();
    let of_roles = |line: &String| line.starts_with("grant ");
    lines.extend(catalog(&mut client).into_iter().filter(of_roles));
    lines
}

#[test]
fn of_a_database_that_was_taken_over_leaves_the_former_owner_his_tables_and_his_calls() {
    let updated = taken_over_by("0.2.0");
    execute(&mut updated.client(), UPDATE);
    let fresh = former_system(server(), "http://127.0.0.1:9");
    execute(&mut fresh.client(), "create extension plugin_webhooks");
    assert_same_lines(
        ("updated", &rights(&updated)),
        ("taken over now", &rights(&fresh)),
    );
    let mut client = updated.client();
    execute(
        &mut client,
        "begin; select plugin_webhooks.hand_back(); drop extension plugin_webhooks; commit;",
    );
    let owner: String = value(
        &mut client,
        "select proowner::regrole::text from pg_proc where proname = 'rpc_install_plugin'",
    );
    assert_eq!(owner, "legacy_owner");
}

/// What becomes the dedicated role's brings nobody's code along.
#[test]
fn stops_at_code_of_the_former_owner_on_tables_that_he_loses() {
    for (made, named) in [
        (
            "create function public.spy() returns trigger language plpgsql as 'begin return new; end';
             create trigger spy before insert on plugin_webhooks.secrets for each row execute function public.spy()",
            "trigger spy on table plugin_webhooks.secrets uses function public.spy()",
        ),
        (
            "create rule rrr as on insert to plugin_webhooks.actions do also select 1",
            "plugin_webhooks.actions has the rule rrr",
        ),
        (
            "create table public.refers (id uuid constraint kkk references plugin_webhooks.secrets)",
            "kkk of public.refers refers to plugin_webhooks.secrets",
        ),
        (
            "create table int.kid () inherits (plugin_webhooks.actions)",
            "table \"int\".kid is not expected on a table that becomes that of plugin_webhooks_owner",
        ),
        // Built-in functions, which may run any statement, leave no dependency.
        (
            "alter table plugin_webhooks.rate_limits
                 add constraint ccc check (query_to_xml('select int.evil()', true, true, '') is not null)",
            "constraint ccc on table plugin_webhooks.rate_limits is not expected",
        ),
        (
            "alter table plugin_webhooks.secrets alter column description set default current_setting('x')",
            "default value for column description of table plugin_webhooks.secrets is not expected",
        ),
        (
            "alter table plugin_webhooks.rate_limits alter column hits type bigint",
            "column hits of table plugin_webhooks.rate_limits is not expected",
        ),
        (
            "reset role; grant create on schema plugin_webhooks to legacy_owner; set role legacy_owner;
             create index iii on plugin_webhooks.actions ((lower(action)))
                 where handler_name = ''",
            "index plugin_webhooks.iii is not expected",
        ),
        (
            "create trigger ttt before update on plugin_webhooks.secrets
                 for each row execute function suppress_redundant_updates_trigger()",
            "trigger ttt on table plugin_webhooks.secrets is not expected",
        ),
        (
            "create policy ppp on plugin_webhooks.actions using (true)",
            "policy ppp on table plugin_webhooks.actions is not expected",
        ),
        (
            "create statistics int.sss on lower(name), key_id from plugin_webhooks.secrets",
            "statistics object \"int\".sss is not expected",
        ),
    ] {
        let database = taken_over_by("0.2.0");
        let mut client = database.client();
        execute(
            &mut client,
            &format!("grant create on schema public to legacy_owner; set role legacy_owner; {made}; reset role"),
        );
        let error = expect_sqlstate(client.batch_execute(UPDATE), "55000");
        let detail = error.detail().unwrap_or_default();
        assert!(detail.contains(named), "{named}: {detail}");
        assert_eq!(version(&mut client), "0.2.0");
    }
}

/// He owned functions of the interface: one that he moved out of the way of the script, or that is his own by now,
/// does not become a superuser's.
#[test]
fn stops_at_members_that_the_former_owner_made_something_else() {
    const HELPER: &str =
        "create or replace function public.rpc_uninstall_plugin(p_tenant_id uuid, p_installation_id uuid) returns void
             language plpgsql security definer as $$ begin execute current_setting('my.sql'); end $$;
         alter function public.rpc_uninstall_plugin(uuid, uuid) rename to helper;
         alter function public.helper(uuid, uuid) set schema int;";
    for (made, named) in [
        (HELPER, "FUNCTION \"int\".helper(uuid,uuid)"),
        (
            "alter function plugin_webhooks.resume() set schema int",
            "FUNCTION \"int\".resume()",
        ),
        (
            "alter function public.rpc_uninstall_plugin(uuid, uuid) rename to rpc_helper",
            "FUNCTION public.rpc_helper(uuid,uuid)",
        ),
    ] {
        let database = taken_over_by("0.2.0");
        let mut client = database.client();
        execute(
            &mut client,
            &format!(
                "grant create on schema public to legacy_owner; set role legacy_owner; {made}; reset role"
            ),
        );
        let error = expect_sqlstate(client.batch_execute(UPDATE), "55000");
        let detail = error.detail().unwrap_or_default();
        let line = format!("{named} belongs to legacy_owner and is not what the extension made: ");
        assert!(detail.contains(&line), "{detail}");
        // As it says.
        execute(
            &mut client,
            &format!("alter extension plugin_webhooks drop {named}; {UPDATE}"),
        );
        let owners: String = value(
            &mut client,
            "select string_agg(distinct p.proowner::regrole::text, ' ') from pg_proc p
             where p.proname in ('helper', 'rpc_helper') or p.oid = to_regprocedure('int.resume()')",
        );
        assert_eq!(owners, "legacy_owner", "it stays his");
    }
}

/// He could grant what has been an operator's since.
#[test]
fn gives_grants_of_the_former_owner_on_functions_of_operators_not_back() {
    let database = taken_over_by("0.2.0");
    let mut client = database.client();
    execute(
        &mut client,
        "do $$ begin create role friend; exception when duplicate_object or unique_violation then null; end $$;
         set role legacy_owner;
         grant execute on function plugin_webhooks.resume(), plugin_webhooks.register_action(text, regprocedure),
             public.rpc_process_plugin_deliveries(integer) to friend;
         grant insert on plugin_webhooks.actions to friend;
         grant create on schema audit to friend, public;
         reset role",
    );
    execute(&mut client, UPDATE);
    let kept: Vec<String> = catalog(&mut client)
        .into_iter()
        .filter(|line| line.contains("friend"))
        .collect();
    assert!(
        kept.len() == 1 && kept[0].contains("rpc_process_plugin_deliveries"),
        "{kept:#?}"
    );
    let creates: bool = value(
        &mut client,
        "select has_schema_privilege('friend', 'audit', 'CREATE')",
    );
    assert!(!creates);
    execute(&mut client, "select plugin_webhooks.hand_back()");
    let creates: bool = value(
        &mut client,
        "select has_schema_privilege('friend', 'audit', 'CREATE')",
    );
    assert!(creates, "the way back gives it back");
}

#[test]
fn stops_at_functions_that_a_call_could_take_for_the_extensions() {
    let database = taken_over_by("0.2.0");
    let mut client = database.client();
    execute(
        &mut client,
        "set role legacy_owner;
         create function audit.untrack(text) returns void language sql as '';
         reset role",
    );
    let error = expect_sqlstate(client.batch_execute(UPDATE), "55000");
    assert!(
        error
            .message()
            .contains("function audit.untrack(text) belongs to legacy_owner"),
        "{}",
        error.message()
    );
    assert_eq!(version(&mut client), "0.2.0");
}

/// As docs/dump-and-restore.md says it.
#[test]
fn a_dump_of_a_database_that_0_2_0_took_over_is_restored_in_two_steps() {
    let original = taken_over_by("0.2.0");
    let rows = "select concat_ws(' ', (select count(*) from int.plugin_delivery_queue),
                    (select count(*) from audit.entity_changes), (select count(*) from int.plugins))";
    let before: String = value(&mut original.client(), rows);
    let directory = std::env::temp_dir().join(format!("dump-of-0.2-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let path = |name: &str| directory.join(name);
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let output = server().program(program).args(arguments).output();
        output.expect("start")
    };
    let dump = path("app.dump");
    let made = run(
        "pg_dump",
        &[
            "-Fc".as_ref(),
            "-f".as_ref(),
            dump.as_ref(),
            original.name().as_ref(),
        ],
    );
    assert!(made.status.success(), "{made:?}");
    let restore = |target: &Database, list: Option<&std::path::Path>| {
        let mut arguments: Vec<&std::ffi::OsStr> = vec![
            "--exit-on-error".as_ref(),
            "-d".as_ref(),
            target.name().as_ref(),
        ];
        if let Some(list) = list {
            arguments.extend(["-L".as_ref(), list.as_os_str()]);
        }
        arguments.push(dump.as_ref());
        run("pg_restore", &arguments)
    };

    let stopped = server().empty_database();
    let said = restore(&stopped, None);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("belongs to legacy_owner: ALTER SCHEMA"),
        "{said}"
    );

    let listed = run("pg_restore", &["-l".as_ref(), dump.as_ref()]);
    let list = String::from_utf8(listed.stdout).expect("UTF-8");
    let (schemas, rest): (Vec<_>, Vec<_>) =
        list.lines().partition(|line| line.contains(" SCHEMA - "));
    fs::write(path("schemas.list"), schemas.join("\n")).expect("a list");
    fs::write(path("rest.list"), rest.join("\n")).expect("a list");
    let target = server().empty_database();
    target.allow_log("deliveries of database");
    let first = restore(&target, Some(&path("schemas.list")));
    assert!(first.status.success(), "{first:?}");
    let mut client = target.client();
    execute(
        &mut client,
        "alter schema int owner to postgres; alter schema audit owner to postgres",
    );
    let second = restore(&target, Some(&path("rest.list")));
    assert!(second.status.success(), "{second:?}");
    assert_eq!(version(&mut client), env!("CARGO_PKG_VERSION"));
    assert_eq!(value::<String>(&mut client, rows), before);
    fs::remove_dir_all(directory).expect("delete the dump");
}
