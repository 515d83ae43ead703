//! Inside a host: its users, tenants, rights, limits, secrets and work orders are used instead of
//! the extension's own.

use std::time::Duration;

use plugin_webhooks_kit::postgres::{Client, Error, Transaction};
use plugin_webhooks_kit::{
    Database, HOST_SCHEMA, Receiver, as_user, count, create_supabase_roles, execute,
    expect_sqlstate, shared_server, sign, text, verify_signature, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const ADMIN: &str = "tenant.admin";

/// A host with two tenants; of the first, an admin and a member without permissions.
struct Host {
    database: Database,
    tenant: String,
    other_tenant: String,
    admin: String,
    member: String,
    other_admin: String,
}

impl Host {
    #[track_caller]
    fn new() -> Host {
        let database = shared_server().database_with(|client| {
            create_supabase_roles(client);
            execute(client, HOST_SCHEMA);
        });
        let mut client = database.client();
        let mut tenant = |name: &str| {
            text(
                &mut client,
                &format!("select app.create_tenant('{name}')::text"),
            )
        };
        let (one, two) = (tenant("One"), tenant("Two"));
        let mut member = |tenant: &str, permission: &str| {
            text(
                &mut client,
                &format!(
                    "select app.create_member('{tenant}', variadic array[{permission}]::text[])::text"
                ),
            )
        };
        let quoted = format!("'{ADMIN}'");
        Host {
            admin: member(&one, &quoted),
            member: member(&one, ""),
            other_admin: member(&two, &quoted),
            tenant: one,
            other_tenant: two,
            database,
        }
    }

    fn dba(&self) -> Client {
        self.database.client()
    }

    /// The plugin `desk` with an installation of the first tenant, whose secret is in Vault.
    #[track_caller]
    fn install(&self, url: &str) -> String {
        let mut dba = self.dba();
        execute(
            &mut dba,
            "insert into vault.secrets (name, secret) values ('desk_secret', 'from the vault')
                 on conflict do nothing;
             select public.rpc_register_plugin('desk', 'Desk');",
        );
        let (tenant, config) = (&self.tenant, format!(r#"{{"webhook_url": "{url}"}}"#));
        self.as_(&self.admin, &self.tenant, |tx| {
            let row = tx.query_one(
                "select public.rpc_install_plugin(p_tenant_id => $1::text::uuid, p_plugin_key => 'desk',
                     p_secret_ref => 'desk_secret', p_config => $2::text::jsonb)::text",
                &[tenant, &config],
            )?;
            Ok(row.get(0))
        })
        .expect("install")
    }

    #[track_caller]
    fn subscribe(&self, installation: &str, table: &str) {
        self.as_(&self.admin, &self.tenant, |tx| {
            tx.batch_execute(&format!(
                "select public.rpc_upsert_plugin_webhook_subscription('{}', '{installation}', 'app', '{table}',
                     '{{INSERT,UPDATE,DELETE}}')",
                self.tenant
            ))
        })
        .expect("subscribe");
    }

    /// A request of a user whose JWT names the tenant.
    fn as_<T>(
        &self,
        user: &str,
        tenant: &str,
        call: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let claims = format!(r#"{{"role":"authenticated","sub":"{user}","tenant_id":"{tenant}"}}"#);
        as_user(
            &mut self.database.authenticator(),
            "authenticated",
            &claims,
            call,
        )
    }

    fn rows_as(&self, user: &str, tenant: &str, sql: &str) -> usize {
        let rows = self.as_(user, tenant, |tx| tx.query(sql, &[]));
        rows.expect(sql).len()
    }

    /// A signed inbound call.
    fn ingest(&self, installation: &str, payload: &str) -> Result<String, Error> {
        let mut session = self.database.authenticator();
        as_user(&mut session, "anon", r#"{"role":"anon"}"#, |tx| {
            let printed: String = tx
                .query_one("select $1::text::jsonb::text", &[&payload])?
                .get(0);
            let row = tx.query_one(
                "select public.rpc_plugin_ingest_webhook('desk', $1::text::uuid, $2::text::jsonb, $3)::text",
                &[
                    &installation,
                    &payload,
                    &sign("from the vault", printed.as_bytes()),
                ],
            )?;
            Ok(row.get(0))
        })
    }
}

mod rights {
    use super::*;

    /// One call of each function of tenant admins; none gets past the rights.
    fn calls(tenant: &str) -> [String; 5] {
        let any = "gen_random_uuid()";
        [
            format!("select rpc_install_plugin('{tenant}', 'desk')"),
            format!("select rpc_update_plugin_installation('{tenant}', {any}, 'disabled')"),
            format!("select rpc_uninstall_plugin('{tenant}', {any})"),
            format!(
                "select rpc_upsert_plugin_webhook_subscription('{tenant}', {any}, 'app', 'assets', '{{INSERT}}')"
            ),
            format!("select rpc_delete_plugin_webhook_subscription('{tenant}', {any})"),
        ]
    }

    #[test]
    fn are_the_hosts_to_refuse() {
        let host = Host::new();
        for sql in calls(&host.tenant) {
            let mut session = host.database.authenticator();
            let nobody = as_user(
                &mut session,
                "authenticated",
                r#"{"role":"authenticated"}"#,
                |tx| tx.batch_execute(&sql),
            );
            let error = expect_sqlstate(nobody, "28000");
            assert_eq!(error.message(), "host: not authenticated", "{sql}");

            let foreign = host.as_(&host.other_admin, &host.tenant, |tx| tx.batch_execute(&sql));
            let error = expect_sqlstate(foreign, "42501");
            assert_eq!(
                error.message(),
                "host: not a member of this tenant",
                "{sql}"
            );

            let member = host.as_(&host.member, &host.tenant, |tx| tx.batch_execute(&sql));
            let error = expect_sqlstate(member, "42501");
            assert_eq!(
                error.message(),
                "host: permission tenant.admin is missing",
                "{sql}"
            );
        }
    }

    #[test]
    fn come_from_the_membership_whatever_the_claims_say() {
        let host = Host::new();
        execute(
            &mut host.dba(),
            "select public.rpc_register_plugin('desk', 'Desk')",
        );
        let claims = format!(
            r#"{{"role":"authenticated","sub":"{}","tenant_id":"{}","permissions":["{ADMIN}"],
                "app_metadata":{{"permissions":["{ADMIN}"]}}}}"#,
            host.member, host.tenant
        );
        let mut session = host.database.authenticator();
        let sql = format!("select rpc_install_plugin('{}', 'desk')", host.tenant);
        let refused = as_user(&mut session, "authenticated", &claims, |tx| {
            tx.batch_execute(&sql)
        });
        expect_sqlstate(refused, "42501");
        let rows = as_user(&mut session, "authenticated", &claims, |tx| {
            tx.query("select * from v_audit_entity_changes", &[])
        });
        assert!(rows.expect("the view").is_empty());
        host.as_(&host.admin, &host.tenant, |tx| tx.batch_execute(&sql))
            .expect("the admin");
    }

    #[test]
    fn of_an_admin_end_at_the_tenants_installations() {
        let host = Host::new();
        let installation = host.install("https://example.com/");
        let tenant = &host.other_tenant;
        for sql in [
            format!(
                "select rpc_update_plugin_installation('{tenant}', '{installation}', 'disabled')"
            ),
            format!("select rpc_uninstall_plugin('{tenant}', '{installation}')"),
            format!(
                "select rpc_upsert_plugin_webhook_subscription('{tenant}', '{installation}', 'app', 'assets', '{{INSERT}}')"
            ),
        ] {
            let refused = host.as_(&host.other_admin, tenant, |tx| tx.batch_execute(&sql));
            expect_sqlstate(refused, "42501");
        }
    }

    #[test]
    fn let_the_hosts_context_follow_the_call() {
        let host = Host::new();
        execute(
            &mut host.dba(),
            "select public.rpc_register_plugin('desk', 'Desk')",
        );
        // The JWT names no tenant: authz.rpc_setup sets the context for the rest of the transaction.
        let claims = format!(r#"{{"role":"authenticated","sub":"{}"}}"#, host.admin);
        let mut session = host.database.authenticator();
        let seen = as_user(&mut session, "authenticated", &claims, |tx| {
            let before = tx.query("select * from v_plugin_installations", &[])?.len();
            tx.batch_execute(&format!(
                "select rpc_install_plugin('{}', 'desk')",
                host.tenant
            ))?;
            let after = tx.query("select * from v_plugin_installations", &[])?.len();
            Ok((before, after))
        });
        assert_eq!(seen.expect("install"), (0, 1));
    }

    #[test]
    fn use_the_hosts_limits() {
        let host = Host::new();
        execute(
            &mut host.dba(),
            "select public.rpc_register_plugin('desk', 'Desk');
             create or replace function util.check_rate_limit(
                 p_operation text, p_key text, p_max integer, p_minutes integer, p_user_id uuid, p_tenant_id uuid
             ) returns boolean language plpgsql as $$
             begin
                 raise exception 'host: % % % %', p_operation, p_max, p_minutes, (p_user_id, p_tenant_id)
                     using errcode = '54000';
             end $$",
        );
        let refused = host.as_(&host.admin, &host.tenant, |tx| {
            tx.batch_execute(&format!(
                "select rpc_install_plugin('{}', 'desk')",
                host.tenant
            ))
        });
        let error = expect_sqlstate(refused, "54000");
        assert_eq!(
            error.message(),
            format!(
                "host: rpc_install_plugin 10 1 ({},{})",
                host.admin, host.tenant
            )
        );
        assert_eq!(
            count(
                &mut host.dba(),
                "select count(*) from plugin_webhooks.rate_limits"
            ),
            0
        );
    }
}

mod views {
    use super::*;

    const VIEWS: [&str; 4] = [
        "v_plugin_installations",
        "v_plugin_webhook_subscriptions",
        "v_plugin_delivery_queue_recent",
        "v_audit_entity_changes",
    ];

    #[test]
    fn show_the_tenant_to_its_admins_only() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        host.subscribe(&installation, "assets");
        let mut dba = host.dba();
        execute(
            &mut dba,
            &format!(
                "select audit.track('app.assets');
                 insert into app.assets (tenant_id, name) values ('{}', 'Pump'), ('{}', 'Not mine')",
                host.tenant, host.other_tenant
            ),
        );
        for view in VIEWS {
            let sql = format!("select * from {view}");
            assert!(host.rows_as(&host.admin, &host.tenant, &sql) > 0, "{view}");
            let foreign = format!("select * from {view} where tenant_id <> '{}'", host.tenant);
            assert_eq!(
                host.rows_as(&host.admin, &host.tenant, &foreign),
                0,
                "{view}"
            );
            assert_eq!(host.rows_as(&host.member, &host.tenant, &sql), 0, "{view}");
            assert_eq!(
                host.rows_as(&host.other_admin, &host.tenant, &sql),
                0,
                "{view}"
            );
            assert_eq!(
                host.rows_as(&host.admin, &host.other_tenant, &sql),
                0,
                "{view}"
            );
        }
        let theirs = "select * from v_audit_entity_changes where new_data ->> 'name' = 'Not mine'";
        assert_eq!(
            host.rows_as(&host.other_admin, &host.other_tenant, theirs),
            1
        );
        assert_eq!(
            host.rows_as(&host.member, &host.tenant, "select * from v_plugins"),
            1
        );
    }

    #[test]
    fn do_not_widen_by_going_around_them() {
        let host = Host::new();
        host.install("https://receiver.invalid/");
        for table in ["int.plugin_installations", "audit.entity_changes"] {
            let sql = format!("select * from {table}");
            assert!(host.rows_as(&host.admin, &host.tenant, &sql) > 0, "{table}");
            assert_eq!(host.rows_as(&host.member, &host.tenant, &sql), 0, "{table}");
            assert_eq!(
                host.rows_as(&host.other_admin, &host.other_tenant, &sql),
                0,
                "{table}"
            );
        }
    }
}

mod work_orders {
    use super::*;

    struct Things {
        location: String,
        asset: String,
        project: String,
        pm_schedule: String,
    }

    fn things(host: &Host, tenant: &str) -> Things {
        let mut dba = host.dba();
        let mut add = |table: &str| {
            text(
                &mut dba,
                &format!(
                    "insert into app.{table} (tenant_id) values ('{tenant}') returning id::text"
                ),
            )
        };
        Things {
            location: add("locations"),
            asset: add("assets"),
            project: add("projects"),
            pm_schedule: add("pm_schedules"),
        }
    }

    fn payload(data: &str) -> String {
        format!(r#"{{"action": "work_order.create", "data": {data}}}"#)
    }

    #[test]
    fn are_created_with_everything() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        let own = things(&host, &host.tenant);
        let data = format!(
            r#"{{"title": " It's leaking ", "description": "a \"lot\"", "priority": "critical",
                "maintenance_type": "corrective", "assigned_to": "{}", "location_id": "{}", "asset_id": "{}",
                "due_date": "2031-02-03T04:05:06Z", "pm_schedule_id": "{}", "project_id": "{}",
                "status": "closed", "tenant_id": "{}", "id": "ignored"}}"#,
            host.member, own.location, own.asset, own.pm_schedule, own.project, host.other_tenant
        );
        let answer = host
            .ingest(&installation, &payload(&data))
            .expect("a work order");
        let mut dba = host.dba();
        let id = text(&mut dba, "select id::text from app.work_orders");
        assert_eq!(
            answer,
            format!(r#"{{"ok": true, "action": "work_order.create", "work_order_id": "{id}"}}"#)
        );
        let stored = text(
            &mut dba,
            "select concat_ws(' | ', tenant_id, title, description, priority, maintenance_type, assigned_to, location_id,
                              asset_id, due_date at time zone 'UTC', pm_schedule_id, project_id, status)
             from app.work_orders",
        );
        assert_eq!(
            stored,
            [
                host.tenant.as_str(),
                "It's leaking",
                "a \"lot\"",
                "critical",
                "corrective",
                &host.member,
                &own.location,
                &own.asset,
                "2031-02-03 04:05:06",
                &own.pm_schedule,
                &own.project,
                "assigned"
            ]
            .join(" | ")
        );
    }

    #[test]
    fn need_no_more_than_a_title() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        let fields = [
            "description",
            "priority",
            "maintenance_type",
            "assigned_to",
            "location_id",
            "asset_id",
            "due_date",
            "pm_schedule_id",
            "project_id",
        ];
        let blank = |value: &str| -> String {
            let parts = fields.map(|field| format!(r#", "{field}": {value}"#));
            format!(r#"{{"title": "x"{}}}"#, parts.concat())
        };
        for data in [
            r#"{"title": "x"}"#.to_owned(),
            blank(r#""""#),
            blank(r#""  ""#),
            blank("null"),
        ] {
            host.ingest(&installation, &payload(&data)).expect(&data);
        }
        assert_eq!(
            text(
                &mut host.dba(),
                "select string_agg(distinct to_jsonb(w) - '{id,tenant_id,created_at,updated_at}'::text[] #>> '{}', ',')
                 from app.work_orders w"
            ),
            r#"{"title": "x", "status": "open", "asset_id": null, "due_date": null, "priority": "medium", "project_id": null, "assigned_to": null, "description": null, "location_id": null, "pm_schedule_id": null, "maintenance_type": null}"#
        );
    }

    #[test]
    fn with_a_mistake_are_refused_and_leave_nothing() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        let theirs = things(&host, &host.other_tenant);
        let own = things(&host, &host.tenant);
        execute(
            &mut host.dba(),
            &format!(
                "update app.pm_schedules set is_active = false where id = '{}'",
                own.pm_schedule
            ),
        );
        let random = "99999999-9999-9999-9999-999999999999";
        let with = |field: &str, value: &str| format!(r#"{{"title": "x", "{field}": "{value}"}}"#);
        let mistakes = [
            ("23514", "{}".to_owned()),
            ("23514", r#"{"title": ""}"#.to_owned()),
            ("23514", r#"{"title": "   "}"#.to_owned()),
            ("23514", r#"{"title": null}"#.to_owned()),
            ("23514", "[]".to_owned()),
            ("23514", r#""title""#.to_owned()),
            ("23503", with("priority", "urgent")),
            ("23503", with("priority", "' or true --")),
            ("23503", with("maintenance_type", "magic")),
            ("23503", with("location_id", random)),
            ("23503", with("location_id", "not a uuid")),
            ("23503", with("location_id", &theirs.location)),
            ("23503", with("asset_id", random)),
            ("23503", with("asset_id", &theirs.asset)),
            ("23503", with("assigned_to", random)),
            ("23503", with("assigned_to", &host.other_admin)),
            ("42501", with("pm_schedule_id", &theirs.pm_schedule)),
            ("42501", with("pm_schedule_id", &own.pm_schedule)),
            ("42501", with("project_id", &theirs.project)),
        ];
        for (sqlstate, data) in mistakes {
            let code = host
                .ingest(&installation, &payload(&data))
                .err()
                .and_then(|error| error.code().map(|code| code.code().to_owned()));
            assert_eq!(code.as_deref(), Some(sqlstate), "{data}");
        }
        let bad_date = host.ingest(&installation, &payload(&with("due_date", "someday")));
        expect_sqlstate(bad_date, "22007");
        assert_eq!(
            count(&mut host.dba(), "select count(*) from app.work_orders"),
            0
        );
    }

    #[test]
    fn have_a_title_of_more_than_white_space() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        for blank in [r"\t", r" \n ", r"\r\n"] {
            let data = format!(r#"{{"title": "{blank}"}}"#);
            expect_sqlstate(host.ingest(&installation, &payload(&data)), "23514");
        }
    }

    #[test]
    fn are_audited_and_delivered_like_any_other_change() {
        let host = Host::new();
        let receiver = Receiver::http();
        let installation = host.install(&receiver.url("/"));
        host.subscribe(&installation, "work_orders");
        execute(&mut host.dba(), "select audit.track('app.work_orders')");
        host.ingest(&installation, &payload(r#"{"title": "x"}"#))
            .expect("a work order");
        let request = &receiver.wait_for(1, SOON)[0];
        assert_eq!(
            request.header("X-Plugin-Event-Type"),
            Some("entity_change.work_orders.insert")
        );
    }
}

mod vault {
    use super::*;

    #[test]
    fn signs_deliveries_with_its_current_secret() {
        let host = Host::new();
        let receiver = Receiver::http();
        let installation = host.install(&receiver.url("/"));
        host.subscribe(&installation, "assets");
        let mut dba = host.dba();
        let insert = format!(
            "insert into app.assets (tenant_id) values ('{}')",
            host.tenant
        );
        execute(&mut dba, "select audit.track('app.assets')");
        for (arrived, secret) in [(1, "from the vault"), (2, "rotated in the vault")] {
            dba.execute("update vault.secrets set secret = $1", &[&secret])
                .expect("rotate");
            execute(&mut dba, &insert);
            let request = &receiver.wait_for(arrived, SOON)[arrived - 1];
            let signature = request.header("X-Plugin-Signature").expect("a signature");
            assert!(
                verify_signature(secret, &request.body, signature),
                "{secret}"
            );
        }
    }

    #[test]
    fn is_asked_before_the_embedded_store() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        let mut dba = host.dba();
        execute(
            &mut dba,
            "select plugin_webhooks.create_secret('embedded', 'desk_secret')",
        );
        let resolve = format!("select int.resolve_installation_signing_secret('{installation}')");
        assert_eq!(text(&mut dba, &resolve), "from the vault");
        execute(&mut dba, "delete from vault.secrets");
        let none: Option<String> = dba.query_one(&resolve, &[]).expect("resolve").get(0);
        assert_eq!(none, None, "two stores would be one too many");
    }

    #[test]
    fn is_closed_to_the_roles_of_the_interface() {
        let host = Host::new();
        let refused = host.as_(&host.admin, &host.tenant, |tx| {
            tx.query("select * from vault.decrypted_secrets", &[])
        });
        expect_sqlstate(refused, "42501");
    }
}

mod foreign_keys {
    use super::*;

    #[test]
    fn a_deleted_tenant_takes_its_installations_and_deliveries_along() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        host.subscribe(&installation, "assets");
        let mut dba = host.dba();
        execute(
            &mut dba,
            &format!(
                "select audit.track('app.assets'), public.rpc_install_plugin('{}', 'desk');
                 insert into app.assets (tenant_id) values ('{}');",
                host.other_tenant, host.tenant
            ),
        );
        assert_eq!(
            count(&mut dba, "select count(*) from int.plugin_delivery_queue"),
            1
        );
        execute(
            &mut dba,
            &format!("delete from app.tenants where id = '{}'", host.tenant),
        );
        for table in [
            "int.plugin_delivery_queue",
            "int.plugin_webhook_subscriptions",
        ] {
            assert_eq!(
                count(&mut dba, &format!("select count(*) from {table}")),
                0,
                "{table}"
            );
        }
        assert_eq!(
            text(
                &mut dba,
                "select string_agg(tenant_id::text, ',') from int.plugin_installations"
            ),
            host.other_tenant
        );
    }

    #[test]
    fn a_tenant_that_does_not_exist_has_no_installation() {
        let host = Host::new();
        let result = host.dba().batch_execute(
            "select public.rpc_register_plugin('desk', 'Desk');
             select public.rpc_install_plugin(gen_random_uuid(), 'desk')",
        );
        expect_sqlstate(result, "23503");
    }

    #[test]
    fn a_deleted_user_leaves_the_installation_and_the_log() {
        let host = Host::new();
        host.install("https://receiver.invalid/");
        let mut dba = host.dba();
        assert_eq!(
            text(
                &mut dba,
                "select installed_by::text from int.plugin_installations"
            ),
            host.admin
        );
        execute(
            &mut dba,
            &format!("delete from auth.users where id = '{}'", host.admin),
        );
        assert_eq!(
            count(
                &mut dba,
                "select count(*) from int.plugin_installations where installed_by is null"
            ),
            1
        );
        assert!(
            count(
                &mut dba,
                "select count(*) from audit.entity_changes where table_name = 'plugin_installations'"
            ) > 0
        );
    }
}

mod audit {
    use super::*;

    #[test]
    fn counts_a_tenant_as_its_own_tenant() {
        let host = Host::new();
        let receiver = Receiver::http();
        let installation = host.install(&receiver.url("/"));
        host.subscribe(&installation, "tenants");
        let mut dba = host.dba();
        execute(
            &mut dba,
            "select audit.track('app.tenants');
                 update app.tenants set name = name || '!';
                 insert into app.tenants (name) values ('Three');",
        );
        let requests = receiver.wait_for(1, SOON);
        assert!(
            requests[0]
                .text()
                .contains(&format!(r#""record_id": "{}""#, host.tenant)),
            "{}",
            requests[0].text()
        );
        assert_eq!(
            count(
                &mut dba,
                "select count(*) from audit.entity_changes
                 where table_schema = 'app' and table_name = 'tenants' and tenant_id::text = record_id"
            ),
            3
        );
        assert_eq!(
            count(&mut dba, "select count(*) from int.plugin_delivery_queue"),
            1
        );
    }

    #[test]
    fn survives_the_end_of_a_tenant() {
        let host = Host::new();
        let installation = host.install("https://receiver.invalid/");
        host.subscribe(&installation, "tenants");
        host.subscribe(&installation, "assets");
        let mut dba = host.dba();
        execute(
            &mut dba,
            &format!(
                "select audit.track('app.tenants'), audit.track('app.assets');
                 insert into app.assets (tenant_id) values ('{0}');
                 delete from app.tenants where id = '{0}'",
                host.tenant
            ),
        );
        assert_eq!(
            text(
                &mut dba,
                "select string_agg(table_name || ' ' || operation, ', ' order by table_name, id)
                 from audit.entity_changes where table_schema = 'app'"
            ),
            "assets INSERT, assets DELETE, tenants DELETE"
        );
        assert_eq!(
            count(&mut dba, "select count(*) from int.plugin_delivery_queue"),
            0
        );
    }

    /// Row security, a function with an empty search_path, no right to see the log.
    #[test]
    fn records_who_wrote_and_enqueues_for_ordinary_users() {
        let host = Host::new();
        let receiver = Receiver::http();
        let installation = host.install(&receiver.url("/"));
        host.subscribe(&installation, "assets");
        let mut dba = host.dba();
        execute(
            &mut dba,
            "select audit.track('app.assets');
             grant select, insert, update, delete on app.assets to authenticated;
             alter table app.assets enable row level security;
             create policy assets_of_members on app.assets to authenticated
                 using (authz.is_tenant_member(auth.uid(), tenant_id))
                 with check (authz.is_tenant_member(auth.uid(), tenant_id));
             create function app.rename_asset(p_old text, p_new text) returns void
                 language sql security invoker set search_path = ''
                 as $$ update app.assets set name = p_new where name = p_old $$;
             grant execute on function app.rename_asset(text, text) to authenticated;",
        );
        host.as_(&host.member, &host.tenant, |tx| {
            tx.batch_execute(&format!(
                "insert into app.assets (tenant_id, name) values ('{}', 'Pump')",
                host.tenant
            ))
        })
        .expect("insert");
        host.as_(&host.admin, &host.tenant, |tx| {
            tx.batch_execute("set local search_path = ''; select app.rename_asset('Pump', 'Valve')")
        })
        .expect("update");
        host.as_(&host.member, &host.tenant, |tx| {
            tx.batch_execute("delete from app.assets where name = 'Valve'")
        })
        .expect("delete");
        let foreign = host.as_(&host.other_admin, &host.other_tenant, |tx| {
            tx.batch_execute(&format!(
                "insert into app.assets (tenant_id, name) values ('{}', 'Bomb')",
                host.tenant
            ))
        });
        expect_sqlstate(foreign, "42501");

        assert_eq!(
            text(
                &mut dba,
                "select string_agg(concat_ws(' ', operation, user_id, tenant_id), E'\\n' order by id)
                 from audit.entity_changes where table_name = 'assets'"
            ),
            format!(
                "INSERT {m} {t}\nUPDATE {a} {t}\nDELETE {m} {t}",
                m = host.member,
                a = host.admin,
                t = host.tenant
            )
        );
        let requests = receiver.wait_for(3, SOON);
        let mut types: Vec<&str> = requests
            .iter()
            .filter_map(|request| request.header("X-Plugin-Event-Type"))
            .collect();
        types.sort_unstable();
        assert_eq!(
            types,
            [
                "entity_change.assets.delete",
                "entity_change.assets.insert",
                "entity_change.assets.update"
            ]
        );
    }

    #[test]
    fn records_each_user_of_a_pooled_session() {
        let host = Host::new();
        execute(
            &mut host.dba(),
            "select audit.track('app.assets'); grant insert on app.assets to authenticated",
        );
        let mut session = host.database.authenticator();
        let mut insert = |user: &str| {
            let claims = format!(r#"{{"sub":"{user}","tenant_id":"{}"}}"#, host.tenant);
            as_user(&mut session, "authenticated", &claims, |tx| {
                tx.batch_execute(&format!(
                    "insert into app.assets (tenant_id) values ('{}')",
                    host.tenant
                ))
            })
            .expect("insert");
        };
        insert(&host.admin);
        insert(&host.member);
        insert(&host.admin);
        assert_eq!(
            text(
                &mut host.dba(),
                "select string_agg(user_id::text, ' ' order by id) from audit.entity_changes where table_name = 'assets'"
            ),
            format!("{0} {1} {0}", host.admin, host.member)
        );
    }

    #[test]
    fn of_installations_names_the_admin_who_made_them() {
        let host = Host::new();
        host.install("https://receiver.invalid/");
        let mut dba = host.dba();
        wait_until(SOON, "the audit row", || {
            count(
                &mut dba,
                "select count(*) from audit.entity_changes where table_name = 'plugin_installations'",
            ) == 1
        });
        assert_eq!(
            text(
                &mut dba,
                "select concat_ws(' ', operation, user_id, tenant_id) from audit.entity_changes
                 where table_name = 'plugin_installations'"
            ),
            format!("INSERT {} {}", host.admin, host.tenant)
        );
    }
}
