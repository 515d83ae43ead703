//! What the audit log holds of a change, and which tables can be tracked.

#[pgrx::pg_schema]
mod tests {
    use crate::pgrx_tests::support::{
        Caller, Tenant, operator, plain_role, text, tracked_things, uuid,
    };
    use pgrx::prelude::*;

    /// These columns of the changes of `public.things`, oldest first.
    fn logged(columns: &str) -> Vec<String> {
        operator().rows(&format!(
            "select {columns} from audit.entity_changes
             where table_schema = 'public' and table_name = 'things' order by id"
        ))
    }

    fn triggers(table: &str) -> Vec<String> {
        operator().rows(&format!(
            "select t.tgname from pg_trigger t
             where t.tgrelid = '{table}'::regclass and not t.tgisinternal order by 1"
        ))
    }

    #[pg_extern]
    fn each_operation_is_logged_with_the_rows_before_and_after() {
        let tenant = uuid();
        tracked_things("id int primary key, tenant_id uuid, title text, price numeric");
        operator().run(&format!(
            "insert into things values (1, '{tenant}', 'one', 1.10)"
        ));
        operator().run("update things set title = 'two'");
        operator().run("delete from things");
        let row = |title: &str| {
            format!(
                r#"{{""id"": 1, ""price"": 1.10, ""title"": ""{title}"", ""tenant_id"": ""{tenant}""}}"#
            )
        };
        assert_eq!(
            logged(
                "table_schema, table_name, record_id, operation, old_data, new_data, changed_fields, tenant_id, \
                created_at = now() as at"
            ),
            [
                format!("(public,things,1,INSERT,,\"{}\",,{tenant},t)", row("one")),
                format!(
                    "(public,things,1,UPDATE,\"{}\",\"{}\",{{title}},{tenant},t)",
                    row("one"),
                    row("two")
                ),
                format!("(public,things,1,DELETE,\"{}\",,,{tenant},t)", row("two")),
            ]
        );
    }

    #[pg_extern]
    fn changed_fields_are_the_columns_that_changed_in_table_order() {
        tracked_things(
            "id int primary key, zeta text, alpha text, \"Due Date\" date, amount numeric, data jsonb, tags text[], \
            doc json",
        );
        operator().run(
            r#"insert into things values (1, 'z', null, '2026-01-01', 1.0, '{"a": 1, "b": 2}', '{x}', '{"a": 1}')"#,
        );
        let updates = [
            ("zeta = 'y', alpha = 'a', amount = 2", "{zeta,alpha,amount}"),
            ("alpha = null", "{alpha}"),
            ("alpha = null, zeta = zeta", "{}"),
            ("\"Due Date\" = null", "{\"Due Date\"}"),
            ("\"Due Date\" = '2026-01-02', id = 2", "{id,\"Due Date\"}"),
            ("amount = 2.00", "{}"),
            ("amount = 2.01", "{amount}"),
            (r#"data = '{"b": 2, "a": 1.0}', doc = '{"a":  1}'"#, "{}"),
            (r#"data = '{"b": 2, "a": "1"}'"#, "{data}"),
            ("data = 'null'", "{data}"),
            // to_jsonb makes the same of both.
            ("data = null", "{}"),
            ("tags = '{x}'", "{}"),
            ("tags = '{x,y}'", "{tags}"),
        ];
        for (set, expected) in updates {
            operator().run(&format!("update things set {set}"));
            let changed = operator().value(
                "select changed_fields from audit.entity_changes where table_name = 'things' order by id desc limit 1",
            );
            assert_eq!(changed, expected, "{set}");
        }
        assert_eq!(
            logged("id").len(),
            1 + updates.len(),
            "an update that changes nothing is logged too"
        );
    }

    #[pg_extern]
    fn a_large_value_counts_as_changed_only_when_it_is() {
        tracked_things("id int primary key, body text, note text");
        operator().run(
            "insert into things select 1, string_agg(md5(n::text), ''), null from generate_series(1, 2000) n",
        );
        operator().run("update things set note = 'x'");
        operator().run("update things set body = body || '!'");
        operator().run("update things set body = substr(body, 1, 64000) || '!'");
        assert_eq!(
            logged(
                "changed_fields, length(old_data ->> 'body') as before, length(new_data ->> 'body') as after"
            )[1..],
            [
                "({note},64000,64000)",
                "({body},64000,64001)",
                "({},64001,64001)"
            ]
        );
    }

    #[pg_extern]
    fn the_id_may_be_of_any_type() {
        for (column, value, shown) in [
            ("smallint", "-7", "-7"),
            ("bigint", "9223372036854775807", "9223372036854775807"),
            (
                "uuid",
                "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ),
            ("text", "'ä, \"b\" {c}'", "ä, \"b\" {c}"),
            ("varchar(10)", "''", ""),
            ("numeric", "1.10", "1.10"),
            ("date", "'2026-02-01'", "2026-02-01"),
            ("boolean", "true", "t"),
            ("int[]", "'{1,2}'", "{1,2}"),
            ("jsonb", "'{\"b\":1}'", "{\"b\": 1}"),
        ] {
            tracked_things(&format!("id {column}, note text"));
            operator().run(&format!("insert into things values ({value})"));
            operator().run("update things set note = 'x'");
            operator().run("delete from things");
            assert_eq!(
                operator().rows(
                    "select record_id from audit.entity_changes where table_name = 'things' order by id desc limit 3"
                ),
                operator().rows(&format!(
                    "select {}::text from generate_series(1, 3)",
                    text(shown)
                )),
                "{column}"
            );
            operator().run("drop table things");
        }
    }

    #[pg_extern]
    fn a_row_without_an_id_has_an_empty_record_id() {
        tracked_things("id int, note text");
        operator().run("insert into things values (null, 'x')");
        operator().run("update things set id = 5");
        assert_eq!(
            logged("operation, record_id"),
            ["(INSERT,\"\")", "(UPDATE,5)"]
        );
    }

    #[pg_extern]
    fn the_tenant_is_the_rows_tenant_id_as_uuid_or_text() {
        let tenant = uuid();
        let good = text(&tenant);
        let upper = text(&tenant.to_uppercase());
        for (column, value, expected) in [
            ("uuid", good.as_str(), Some(&tenant)),
            ("text", &good, Some(&tenant)),
            ("text", &upper, Some(&tenant)),
            ("varchar(36)", &good, Some(&tenant)),
            ("char(40)", &good, Some(&tenant)),
            ("uuid", "null", None),
            ("text", "null", None),
            ("text", "''", None),
            ("text", "'not a uuid'", None),
            ("int", "7", None),
            ("jsonb", "'{}'", None),
        ] {
            tracked_things(&format!("id int, tenant_id {column}"));
            operator().run(&format!("insert into things values (1, {value})"));
            assert_eq!(
                operator().optional(
                    "select tenant_id from audit.entity_changes where table_name = 'things' order by id desc limit 1"
                ).as_ref(),
                expected,
                "{column} {value}"
            );
            operator().run("drop table things");
        }
    }

    #[pg_extern]
    fn a_table_without_tenant_id_has_changes_of_no_tenant() {
        tracked_things("id int, tenant uuid");
        operator().run(&format!("insert into things values (1, '{}')", uuid()));
        assert_eq!(logged("tenant_id"), ["()"]);
    }

    #[pg_extern]
    fn a_row_that_moves_to_another_tenant_is_a_change_of_the_new_one() {
        let (one, two) = (uuid(), uuid());
        tracked_things("id int, tenant_id uuid");
        operator().run(&format!("insert into things values (1, '{one}')"));
        operator().run(&format!("update things set tenant_id = '{two}'"));
        operator().run("delete from things");
        assert_eq!(
            logged("operation, tenant_id"),
            [
                format!("(INSERT,{one})"),
                format!("(UPDATE,{two})"),
                format!("(DELETE,{two})")
            ]
        );
    }

    #[pg_extern]
    fn a_row_of_app_tenants_alone_is_its_own_tenant() {
        let (tenant, parent) = (uuid(), uuid());
        operator().run("create schema app");
        for table in ["app.tenants", "public.tenants"] {
            operator().run(&format!("create table {table} (id uuid, tenant_id uuid)"));
            operator().run(&format!("select audit.track('{table}')"));
            operator().run(&format!(
                "insert into {table} values ('{tenant}', '{parent}')"
            ));
        }
        assert_eq!(
            operator().rows(
                "select table_schema, tenant_id from audit.entity_changes where table_name = 'tenants' order by id"
            ),
            [format!("(app,{tenant})"), format!("(public,{parent})")]
        );
    }

    #[pg_extern]
    fn the_user_is_the_claimed_one_or_nobody() {
        let user = uuid();
        tracked_things("id int");
        operator().run("grant insert on things to public");
        let claims = format!(r#"{{"sub": "{user}"}}"#);
        for (caller, expected) in [
            (operator(), "()".to_owned()),
            (Caller::superuser_with(&claims), format!("({user})")),
            (Caller::role_with("anon", &claims), format!("({user})")),
            (Caller::role_with("authenticated", "{}"), "()".to_owned()),
            (
                Caller::role_with("authenticated", "not json"),
                "()".to_owned(),
            ),
            (
                Caller::role_with("authenticated", r#"{"sub": "service"}"#),
                "()".to_owned(),
            ),
            (Caller::role("service_role"), "()".to_owned()),
        ] {
            caller.run("insert into things values (1)");
            assert_eq!(logged("user_id").pop(), Some(expected), "{caller:?}");
        }
    }

    #[pg_extern]
    fn address_and_user_agent_come_from_the_headers_of_the_request() {
        tracked_things("id int");
        let own = operator()
            .optional("host(inet_client_addr())")
            .unwrap_or_default();
        let long = format!(r#"{{"user-agent": "{}"}}"#, "a".repeat(5000));
        let cut = format!("({own},{})", "a".repeat(1000));
        for (headers, expected) in [
            (
                r#"{"x-forwarded-for": "203.0.113.9, 10.0.0.1", "user-agent": "curl/8"}"#,
                "(203.0.113.9,curl/8)".to_owned(),
            ),
            (
                r#"{"x-forwarded-for": " 2001:db8::1 "}"#,
                "(2001:db8::1,)".to_owned(),
            ),
            (
                r#"{"x-forwarded-for": "unknown", "user-agent": 5}"#,
                format!("({own},)"),
            ),
            ("not json", format!("({own},)")),
            ("[]", format!("({own},)")),
            ("", format!("({own},)")),
            (&long, cut),
        ] {
            operator().run(&format!(
                "select set_config('request.headers', {}, true)",
                text(headers)
            ));
            // Each request has a transaction of its own; here at least a user of its own.
            Caller::superuser_with(&format!(r#"{{"sub": "{}"}}"#, uuid()))
                .run("insert into things values (1)");
            assert_eq!(
                logged("host(ip_address) as ip, user_agent").pop(),
                Some(expected),
                "{headers}"
            );
        }
    }

    #[pg_extern]
    fn a_row_is_logged_as_to_jsonb_prints_it() {
        operator().run("create type mood as enum ('good', 'bad')");
        operator().run("create type pair as (a int, b text)");
        operator().run("create domain short as varchar(9)");
        tracked_things(
            "id int, gone text, n numeric, f float8, i interval, b bytea, t timestamptz, d date, m mood, p pair,
             s short, a text[], r int4range, j json, \"Odd \"\"name\"\"\" text, \"ключ\" text,
             twice int generated always as (id * 2) stored",
        );
        operator().run("alter table things drop column gone");
        operator().run(
            r#"insert into things values (1, 'NaN', 'Infinity', '1 day 2 hours', '\x00ff', 'infinity', '-infinity', 'good',
                (1, 'x'), 'short', '{a,NULL}', '[1,5)', '{"z":1.10,"a":1e400}', 'odd', 'да')"#,
        );
        operator().run("insert into things (id) values (2)");
        assert_eq!(
            operator().rows(
                "select c.new_data = to_jsonb(things) as same, c.new_data::text = to_jsonb(things)::text as printed
                 from things join audit.entity_changes c on c.record_id = things.id::text and c.table_name = 'things'"
            ),
            ["(t,t)", "(t,t)"]
        );
    }

    #[pg_extern]
    fn the_code_of_a_columns_type_runs_with_the_writers_rights() {
        operator().run("create type mood as enum ('good')");
        operator().run(
            "create function mood_to_json(mood) returns json language sql
             as $$ select json_build_object('by', current_user) $$",
        );
        operator().run("create cast (mood as json) with function mood_to_json(mood)");
        tracked_things("id int, feeling mood");
        let writer = plain_role("plain_mood");
        operator().run("grant insert on things to plain_mood");
        writer.run("insert into things values (1, 'good')");
        assert_eq!(logged("new_data #>> '{feeling,by}'"), ["(plain_mood)"]);
    }

    #[pg_extern]
    fn upserts_and_merges_are_logged_as_what_they_did() {
        tracked_things("id int primary key, note text");
        operator().run("insert into things values (1, 'a')");
        operator().run(
            "insert into things values (1, 'b'), (2, 'c') on conflict (id) do update \
             set note = excluded.note",
        );
        operator().run("insert into things values (1, 'd') on conflict do nothing");
        operator().run(
            "merge into things t using (values (1), (2), (3)) as s (id) on s.id = t.id
             when matched and t.id = 1 then delete
             when matched then update set note = 'm'
             when not matched then insert values (s.id, 'n')",
        );
        let mut changes = logged("operation, record_id, new_data ->> 'note' as note");
        changes[3..].sort();
        assert_eq!(
            changes,
            [
                "(INSERT,1,a)",
                "(UPDATE,1,b)",
                "(INSERT,2,c)",
                "(DELETE,1,)",
                "(INSERT,3,n)",
                "(UPDATE,2,m)",
            ]
        );
    }

    #[pg_extern]
    fn truncate_and_replica_writes_are_not_logged() {
        tracked_things("id int");
        operator().run("set local session_replication_role = replica");
        operator().run("insert into things values (1)");
        operator().run("set local session_replication_role = origin");
        operator().run("truncate things");
        assert_eq!(logged("operation"), [""; 0]);
    }

    #[pg_extern]
    fn changes_to_plugins_and_installations_are_audited() {
        let tenant = Tenant::with_plugin("crm");
        let user = uuid();
        let admin = Caller::user(&user, &tenant.id, &["tenant.admin"]);
        operator().run("select public.rpc_register_plugin('crm', 'CRM', 'text')");
        admin.run(&format!(
            "select public.rpc_update_plugin_installation('{}', '{}', 'disabled', 'the_secret')",
            tenant.id, tenant.installation
        ));
        admin.run(&format!(
            "select public.rpc_uninstall_plugin('{}', '{}')",
            tenant.id, tenant.installation
        ));
        let plugin = operator().value("select id from int.plugins");
        let id = &tenant.id;
        let installation = &tenant.installation;
        assert_eq!(
            operator().rows(
                "select table_schema, table_name, operation, record_id, tenant_id, user_id,
                        array_remove(changed_fields, 'updated_at') as changed
                 from audit.entity_changes order by id"
            ),
            [
                format!("(int,plugins,INSERT,{plugin},,,)"),
                format!("(int,plugin_installations,INSERT,{installation},{id},,)"),
                format!("(int,plugins,UPDATE,{plugin},,,\"{{name,description}}\")"),
                format!(
                    "(int,plugin_installations,UPDATE,{installation},{id},{user},\"{{status,secret_ref}}\")"
                ),
                format!("(int,plugin_installations,DELETE,{installation},{id},{user},)"),
            ]
        );
    }

    #[pg_extern]
    fn tracking_twice_is_tracking_once() {
        tracked_things("id int");
        operator().run("select audit.track('public.things')");
        operator().run("select audit.track(p_table => 'things')");
        operator().run("insert into things values (1)");
        assert_eq!(logged("operation"), ["(INSERT)"]);
        for _ in 0..2 {
            operator().run("select audit.untrack(p_table => 'things')");
            operator().run("insert into things values (2)");
        }
        assert_eq!(logged("record_id"), ["(1)"]);
        operator().run("select audit.track('things')");
        operator().run("insert into things values (3)");
        assert_eq!(logged("record_id"), ["(1)", "(3)"]);
    }

    #[pg_extern]
    fn a_table_with_a_trigger_of_its_own_name_counts_as_tracked() {
        operator().run("create table things (id int)");
        operator().run(
            "create trigger things_audit_changes after insert or update or delete on things
             for each row execute function audit.log_entity_change()",
        );
        operator().run(
            "create trigger unrelated before insert on things for each row
             execute function suppress_redundant_updates_trigger()",
        );
        operator().run("drop trigger unrelated on things");
        operator().run("select audit.track('things')");
        assert_eq!(triggers("things"), ["(things_audit_changes)"]);
        operator().run("select audit.untrack('things')");
        assert_eq!(triggers("things"), [""; 0]);
    }

    #[pg_extern]
    fn untrack_leaves_other_triggers_alone() {
        tracked_things("id int");
        operator().run(
            "create trigger other before update on things for each row
             execute function suppress_redundant_updates_trigger()",
        );
        operator().run("select audit.untrack('things')");
        assert_eq!(triggers("things"), ["(other)"]);
    }

    #[pg_extern]
    fn a_partition_is_logged_by_its_own_name_however_late_it_comes() {
        operator().run("create table parted (id int, tenant_id uuid) partition by range (id)");
        operator().run("create table parted_1 partition of parted for values from (1) to (10)");
        operator().run("select audit.track('parted')");
        operator().run("select audit.track('parted')");
        operator().run("create table parted_2 partition of parted for values from (10) to (20)");
        operator().run("insert into parted values (1), (10)");
        operator().run("insert into parted_2 values (11)");
        let changes = || {
            operator().rows(
                "select table_name, record_id from audit.entity_changes where table_name like 'parted%' order by id",
            )
        };
        assert_eq!(
            changes(),
            ["(parted_1,1)", "(parted_2,10)", "(parted_2,11)"]
        );
        operator().run("select audit.untrack('parted')");
        operator().run("insert into parted values (2), (12)");
        assert_eq!(changes().len(), 3);
    }

    #[pg_extern]
    fn a_partition_of_a_tracked_table_counts_as_tracked() {
        operator().run("create table parted (id int) partition by range (id)");
        operator().run("create table parted_1 partition of parted for values from (1) to (10)");
        operator().run("select audit.track('parted')");
        operator().run("select audit.track('parted_1')");
        operator().run("insert into parted values (1)");
        assert_eq!(
            operator().count("audit.entity_changes where table_name = 'parted_1'"),
            1
        );
    }

    #[pg_extern]
    fn what_cannot_be_tracked_is_refused_with_the_reason() {
        for statement in [
            "create table things (id int)",
            "create table keyless (key int)",
            "create view things_view as select id from things",
            "create materialized view things_copy as select id from things",
            "create sequence things_seq",
            "create index things_idx on things (id)",
            "create type things_row as (id int)",
            "create foreign data wrapper nowhere",
            "create server nowhere foreign data wrapper nowhere",
            "create foreign table things_afar (id int) server nowhere",
        ] {
            operator().run(statement);
        }
        for (table, sqlstate, reason) in [
            ("'keyless'", "42703", "id"),
            ("'things_view'", "42809", "view"),
            ("'things_copy'", "42809", "view"),
            ("'things_seq'", "42809", "not a table"),
            ("'things_idx'", "42809", "not a table"),
            ("'things_row'", "42809", "not a table"),
            ("'things_afar'", "42809", "foreign table"),
            ("'pg_catalog.pg_class'", "42809", "system table"),
            ("'information_schema.sql_features'", "42809", "system table"),
            ("'audit.entity_changes'", "42809", "system table"),
            ("'int.plugin_delivery_queue'", "42809", "system table"),
            ("'plugin_webhooks.secrets'", "42809", "system table"),
            ("null", "23514", "p_table"),
            ("4294967295::oid::regclass", "P0001", "not found"),
        ] {
            let failure = operator().refused(&format!("audit.track({table})"), sqlstate);
            assert!(failure.message.contains(reason), "{table}: {failure:?}");
        }
        operator().refused("audit.track('no_such_table')", "42P01");
        operator().refused("audit.untrack(null)", "23514");
        operator().refused("audit.untrack(4294967295::oid::regclass)", "P0001");
        operator().run("select audit.untrack('keyless')");
        operator().run("select audit.untrack('things_view')");
    }

    #[pg_extern]
    fn track_and_untrack_run_with_the_rights_of_the_caller() {
        operator().run("create table things (id int)");
        let (owner, stranger) = (plain_role("plain_owner"), plain_role("plain_stranger"));
        operator().run("alter table things owner to plain_owner");
        operator().run("grant usage on schema audit to plain_owner, plain_stranger");
        for call in [
            "audit.track('public.things')",
            "audit.untrack('public.things')",
        ] {
            operator().run(&format!(
                "grant execute on function {} to plain_owner, plain_stranger",
                call.replace("track('public.things')", "track")
            ));
            if call.starts_with("audit.untrack") {
                stranger.refused(call, "42501");
            } else {
                // CREATE TRIGGER asks for EXECUTE on the trigger function too.
                owner.refused(call, "42501");
                operator().run(
                    "grant execute on function audit.log_entity_change() to plain_owner, plain_stranger",
                );
                stranger.refused(call, "42501");
            }
            owner.run(&format!("select {call}"));
        }
        assert_eq!(triggers("public.things"), [""; 0]);
    }

    #[pg_extern]
    fn the_audit_function_fired_in_another_way_is_39p01() {
        for timing in [
            "before insert on things for each row",
            "after insert on things for each statement",
            "before insert on things for each statement",
        ] {
            operator().run("create table things (id int)");
            operator().run(&format!(
                "create trigger odd {timing} execute function audit.log_entity_change()"
            ));
            operator().refused_statement("insert into things values (1)", "39P01");
            operator().run("drop table things");
        }
        operator().run("create table things (id int)");
        operator().run("create trigger odd after truncate on things execute function audit.log_entity_change()");
        operator().refused_statement("truncate things", "39P01");
        operator().run("create view things_view as select id from things");
        operator().run(
            "create trigger odd instead of insert on things_view for each row execute function \
            audit.log_entity_change()",
        );
        operator().refused_statement("insert into things_view values (1)", "39P01");
    }

    #[pg_extern]
    fn a_change_of_a_table_without_id_is_42703() {
        operator().run("create table things (key int)");
        operator().run(
            "create trigger audit after insert on things for each row execute function audit.log_entity_change()",
        );
        let failure = operator().refused_statement("insert into things values (1)", "42703");
        assert!(failure.message.contains("public.things"), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
    }

    #[pg_extern]
    fn trigger_functions_refuse_to_be_called() {
        for function in [
            "audit.log_entity_change()",
            "int.enqueue_plugin_events_from_audit()",
        ] {
            let failure = operator()
                .try_run(&format!("select {function}"))
                .unwrap_err();
            assert!(!failure.message.is_empty(), "{function}: {failure:?}");
        }
    }
}
