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

/// What the owner of the tables needs beside them.
fn of_the_owner() -> BTreeSet<String> {
    ["audit", "\"int\"", "plugin_webhooks"]
        .map(|schema| format!("plugin_webhooks_owner: USAGE on schema {schema}"))
        .into()
}

/// Every privilege of everyone but the owner.
fn expected() -> BTreeSet<String> {
    let mut all = of_the_owner();
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
    assert_eq!(granted(&mut client), of_the_owner());
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
        of_the_owner(),
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
        .filter(|line| {
            line.starts_with("authenticated:") || line.starts_with("plugin_webhooks_owner:")
        })
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
