//! How large the values may be that tenants choose, how many rows they may have, and that the tables say so too.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{Caller, Tenant, operator, text, uuid};
    use pgrx::prelude::*;

    /// A configuration of this many bytes as PostgreSQL prints it.
    fn config_of(bytes: usize) -> String {
        format!("{{\"x\": \"{}\"}}", "a".repeat(bytes - 9))
    }

    fn url_of(characters: usize) -> String {
        let url = format!("https://a.example/{}", "a".repeat(characters - 18));
        format!("{{\"webhook_url\": \"{url}\"}}")
    }

    fn list(name: &str, count: usize) -> String {
        format!("array_fill({}::text, array[{count}])", text(name))
    }

    /// Both ways to store a secret_ref and a configuration, each as a user who has not called before.
    fn ways(tenant: &Tenant, secret_ref: &str, config: &str) -> [(Caller, String); 2] {
        [
            format!(
                "public.rpc_install_plugin('{}', '{}', {secret_ref}, {config})",
                tenant.id, tenant.plugin_key
            ),
            format!(
                "public.rpc_update_plugin_installation('{}', '{}', null, {secret_ref}, {config})",
                tenant.id, tenant.installation
            ),
        ]
        .map(|call| (Caller::admin(&tenant.id), call))
    }

    fn subscribe(tenant: &Tenant, rest: &str) -> (Caller, String) {
        let call = format!(
            "public.rpc_upsert_plugin_webhook_subscription('{}', '{}', {rest})",
            tenant.id, tenant.installation
        );
        (Caller::admin(&tenant.id), call)
    }

    /// 23514, and the message says how much is allowed.
    fn too_large((caller, call): &(Caller, String), most: &str) {
        let failure = caller.refused(call, "23514");
        assert!(failure.message.contains(most), "{failure:?}");
        assert!(failure.message.len() < 200, "{failure:?}");
    }

    #[pg_extern]
    fn a_secret_ref_has_at_most_200_characters() {
        let tenant = Tenant::with_plugin("crm");
        let name = |length| text(&"ä".repeat(length));
        for (admin, call) in ways(&tenant, &name(200), "null") {
            admin.run(&format!("select {call}"));
        }
        for way in &ways(&tenant, &name(201), "null") {
            too_large(way, "200 characters");
        }
    }

    #[pg_extern]
    fn a_configuration_has_at_most_65536_bytes_and_a_url_2048() {
        let tenant = Tenant::with_plugin("crm");
        for fits in [config_of(65_536), url_of(2_048)] {
            for (admin, call) in ways(&tenant, "null", &text(&fits)) {
                admin.run(&format!("select {call}"));
            }
        }
        for way in &ways(&tenant, "null", &text(&config_of(65_537))) {
            too_large(way, "65536 bytes");
        }
        for way in &ways(&tenant, "null", &text(&url_of(2_049))) {
            too_large(way, "2048 characters");
        }
    }

    #[pg_extern]
    fn the_name_of_a_schema_or_table_has_at_most_63_bytes() {
        let tenant = Tenant::with_plugin("crm");
        let long = "x".repeat(61);
        let (fits, exceeds) = (format!("'{long}ä'"), format!("'ä{long}x'"));
        for rest in [
            format!("{fits}, 't', '{{INSERT}}'"),
            format!("'s', {fits}, '{{INSERT}}'"),
        ] {
            let (admin, call) = subscribe(&tenant, &rest);
            admin.run(&format!("select {call}"));
        }
        for rest in [
            format!("{exceeds}, 't', '{{INSERT}}'"),
            format!("'s', {exceeds}, '{{INSERT}}'"),
        ] {
            too_large(&subscribe(&tenant, &rest), "63 bytes");
        }
    }

    #[pg_extern]
    fn an_allowlist_has_at_most_1600_names_of_63_bytes() {
        let tenant = Tenant::with_plugin("crm");
        let with = |names: &str| subscribe(&tenant, &format!("'s', 't', '{{UPDATE}}', {names}"));
        let (admin, call) = with(&list(&"x".repeat(63), 1_600));
        admin.run(&format!("select {call}"));
        for exceeds in [
            list("x", 1_601),
            list(&"x".repeat(64), 1),
            list("x", 3_000_000),
        ] {
            too_large(&with(&exceeds), "1600 names of 63 bytes");
        }
        let many = subscribe(&tenant, &format!("'s', 't', {}", list("INSERT", 1_000_000)));
        too_large(&many, "INSERT, UPDATE, DELETE");
    }

    #[pg_extern]
    fn a_compressed_value_counts_by_what_it_holds() {
        let tenant = Tenant::with_plugin("crm");
        operator().run(
            "create table stored as select repeat('x', 10000000) as t,
                 jsonb_build_object('x', repeat('x', 10000000)) as j,
                 array_fill('x'::text, array[1000000]) as l",
        );
        operator().run("grant select on stored to authenticated");
        let stored = |column: &str| format!("(select {column} from stored)");
        for way in &ways(&tenant, &stored("t"), "null") {
            too_large(way, "200 characters");
        }
        for way in &ways(&tenant, "null", &stored("j")) {
            too_large(way, "65536 bytes");
        }
        let rest = format!("'s', 't', '{{UPDATE}}', {}", stored("l"));
        too_large(&subscribe(&tenant, &rest), "1600 names");
    }

    /// Columns of a table with a value that fits and one that does not.
    fn limited() -> Vec<(&'static str, &'static str, String, String)> {
        const INSTALLATIONS: &str = "int.plugin_installations";
        const SUBSCRIPTIONS: &str = "int.plugin_webhook_subscriptions";
        let name = |length: usize| text(&"x".repeat(length));
        vec![
            (
                INSTALLATIONS,
                "secret_ref",
                text(&"ä".repeat(200)),
                text(&"ä".repeat(201)),
            ),
            (
                INSTALLATIONS,
                "secret_ref",
                name(200),
                "repeat('x', 10000000)".to_owned(),
            ),
            (
                INSTALLATIONS,
                "config",
                text(&config_of(65_536)),
                text(&config_of(65_537)),
            ),
            (
                INSTALLATIONS,
                "config",
                text(&url_of(2_048)),
                text(&url_of(2_049)),
            ),
            (SUBSCRIPTIONS, "table_schema", name(63), name(64)),
            (SUBSCRIPTIONS, "table_name", name(63), name(64)),
            (
                SUBSCRIPTIONS,
                "changed_fields_allowlist",
                list("x", 1_600),
                list("x", 1_601),
            ),
            (
                SUBSCRIPTIONS,
                "changed_fields_allowlist",
                format!("array[{}, null]", name(63)),
                format!("array[{}, null]", name(64)),
            ),
        ]
    }

    #[pg_extern]
    fn the_tables_hold_the_sizes_as_well() {
        let tenant = Tenant::with_plugin("crm");
        tenant.subscribe("s", "t");
        for (table, column, fits, exceeds) in limited() {
            // As if it had been stored a while ago.
            operator().run(&format!("update {table} set updated_at = 'yesterday'"));
            operator().run(&format!("update {table} set {column} = {fits}"));
            let update = format!("update {table} set {column} = {exceeds}");
            operator().refused_statement(&update, "23514");
        }
        let (plugin, table) = ("select id from int.plugins", "int.plugin_installations");
        operator().refused_statement(
            &format!(
                "insert into {table} (tenant_id, plugin_id, secret_ref) \
                 values ('{}', ({plugin}), repeat('x', 201))",
                uuid()
            ),
            "23514",
        );
    }

    #[pg_extern]
    fn a_row_from_before_the_limits_stays_and_changes_elsewhere() {
        let (tenant, other) = (
            Tenant::with_plugin("crm"),
            Tenant::with_installation_of("crm"),
        );
        tenant.subscribe("s", "t");
        for (table, column, fits, exceeds) in limited() {
            let (owner, elsewhere) = match table {
                "int.plugin_installations" => ("tenant_id", "installed_by = null"),
                _ => ("plugin_installation_id", "include_payload = true"),
            };
            let owner_id = match table {
                "int.plugin_installations" => uuid(),
                _ => other.installation.clone(),
            };
            for statement in [
                format!("create table copy as select * from {table} limit 1"),
                format!(
                    "update copy set id = gen_random_uuid(), {owner} = '{owner_id}', {column} = {exceeds},
                         updated_at = 'yesterday'"
                ),
                // As pg_restore does.
                format!("insert into {table} select * from copy"),
                format!("update {table} set {elsewhere} where id = (select id from copy)"),
                format!("update {table} set {column} = {fits} where id = (select id from copy)"),
                format!("delete from {table} where id = (select id from copy)"),
                "drop table copy".to_owned(),
            ] {
                operator().run(&statement);
            }
        }
    }

    #[pg_extern]
    fn what_is_too_large_since_before_keeps_nothing_from_changing() {
        let tenant = Tenant::with_plugin("crm");
        let admin = || Caller::admin(&tenant.id);
        // Former systems set updated_at themselves.
        operator().run(
            "create function touch() returns trigger language plpgsql as
                 'begin new.updated_at := pg_catalog.now(); return new; end'",
        );
        operator().run(
            "create trigger set_updated_at before update on int.plugin_installations
             for each row execute function touch()",
        );
        let update = |arguments: &str| {
            format!(
                "public.rpc_update_plugin_installation('{}', '{}', {arguments})",
                tenant.id, tenant.installation
            )
        };
        let config = config_of(100);
        for (stored, untouched, touched) in [
            (
                "secret_ref = repeat('x', 201)".to_owned(),
                format!("null, null, '{config}'"),
                format!("null, '{}'", "x".repeat(201)),
            ),
            (
                format!("config = '{}'", config_of(65_537)),
                "null, 'name'".to_owned(),
                format!("null, null, '{}'", config_of(65_537)),
            ),
            (
                format!("config = '{}'", url_of(2_049)),
                "null, 'name'".to_owned(),
                format!("null, null, '{}'", url_of(2_050)),
            ),
        ] {
            operator().run("set session_replication_role = replica");
            operator().run(&format!(
                "update int.plugin_installations set {stored}, updated_at = 'yesterday'
                 where id = '{}'",
                tenant.installation
            ));
            operator().run("reset session_replication_role");
            for arguments in ["'disabled'", "'installed'", &untouched] {
                admin().run(&format!("select {}", update(arguments)));
            }
            admin().refused(&update(&touched), "23514");
            admin().run(&format!(
                "select {}",
                update(&format!("null, 'name', '{config}'"))
            ));
        }
    }

    #[pg_extern]
    fn a_tenant_has_at_most_1000_installations() {
        let tenant = Tenant::with_plugin("crm");
        operator().run(
            "insert into int.plugins (key, name) select 'p' || n, 'p' from generate_series(1, 1000) as n",
        );
        operator().run(&format!(
            "insert into int.plugin_installations (tenant_id, plugin_id, status)
             select '{}', id, 'disabled' from int.plugins where key ~ '^p' and key <> 'p1000'",
            tenant.id
        ));
        let install = |key: &str| format!("public.rpc_install_plugin('{}', '{key}')", tenant.id);
        let full = (tenant.admin.clone(), install("p1000"));
        too_large(&full, "1000");
        tenant
            .admin
            .refused_with_hint(&full.1, "23514", "plugin_webhooks.max_installations");
        for call in [
            install("p7"),
            format!(
                "public.rpc_update_plugin_installation('{}', '{}', 'disabled')",
                tenant.id, tenant.installation
            ),
        ] {
            tenant.admin.run(&format!("select {call}"));
        }
        Tenant::with_installation_of("p1000");
        tenant.admin.run(&format!(
            "select public.rpc_uninstall_plugin('{}', '{}')",
            tenant.id, tenant.installation
        ));
        tenant.admin.run(&format!("select {}", install("p1000")));
    }

    #[pg_extern]
    fn an_installation_has_at_most_1000_subscriptions() {
        let tenant = Tenant::with_plugin("crm");
        operator().run(&format!(
            "insert into int.plugin_webhook_subscriptions
                 (plugin_installation_id, table_schema, table_name, operations)
             select '{}', 's', 't' || n, '{{INSERT}}' from generate_series(1, 1000) as n",
            tenant.installation
        ));
        let full = subscribe(&tenant, "'s', 'one_more', '{INSERT}'");
        too_large(&full, "1000");
        full.0
            .refused_with_hint(&full.1, "23514", "plugin_webhooks.max_subscriptions");
        let (admin, known) = subscribe(&tenant, "'s', 't7', '{DELETE}'");
        admin.run(&format!("select {known}"));
        Tenant::with_installation_of("crm").subscribe("s", "one_more");
    }
}
