//! A log of another owner than the queue, after an ALTER TABLE by hand: what hangs on the log, and the casts that its
//! types bring along, run as the owner of the log.

use plugin_webhooks_kit::{count, create_supabase_roles, expect_sqlstate};

use super::*;

const TENANT: &str = "00000000-0000-0000-0000-000000000001";

const CODE: &str = "
    create schema logs;
    grant usage on schema logs to public;
    create type logs.word as (value text);
    create function logs.to_word(text) returns logs.word language plpgsql as $$
        begin perform watch.tell('cast to a word'); return row($1)::logs.word; end $$;
    create function logs.to_text(logs.word) returns text language plpgsql as $$
        begin perform watch.tell('cast to text'); return ($1).value; end $$;
    create cast (text as logs.word) with function logs.to_word(text) as assignment;
    create cast (logs.word as text) with function logs.to_text(logs.word) as implicit;
    create function logs.on_row() returns trigger language plpgsql as $$
        begin perform watch.tell('trigger'); return new; end $$;
    create trigger aaa before insert on audit.entity_changes for each row execute function logs.on_row();";

fn watched() -> Watched {
    let mut watched = Watched::of(shared_server().database_with(create_supabase_roles));
    watched.run(&format!(
        "do $$ begin create role log_owner; exception when duplicate_object or unique_violation then null; end $$;
         do $$ begin execute format('grant create on database %I to log_owner', current_database()); end $$;
         grant usage, create on schema audit to log_owner;
         alter table audit.entity_changes owner to log_owner;
         create table public.items (id bigint primary key, tenant_id uuid);
         select audit.track('public.items');
         select public.rpc_register_plugin('crm', 'CRM');
         select public.rpc_upsert_plugin_webhook_subscription('{TENANT}',
             public.rpc_install_plugin('{TENANT}', 'crm', null, '{{\"webhook_url\": \"https://receiver.invalid/\"}}'),
             'public', 'items', '{{INSERT}}');"
    ));
    watched.run_as("log_owner", CODE);
    watched
}

#[test]
fn runs_its_code_as_its_owner_when_a_superuser_writes_to_a_tracked_table() {
    let mut watched = watched();
    watched.run_as(
        "log_owner",
        "alter table audit.entity_changes alter column user_agent type logs.word using null",
    );
    watched.run(&format!(
        "select set_config('request.headers', '{{\"user-agent\": \"curl\"}}', false);
         insert into public.items select n, '{TENANT}' from generate_series(1, 3) n;"
    ));
    assert_eq!(
        count(
            &mut watched.client,
            "select count(*) from int.plugin_delivery_queue"
        ),
        3
    );
    assert!(
        watched.told().contains("cast to a word: log_owner"),
        "{:?}",
        watched.told()
    );
    watched.assert_ran_only_as(&["log_owner"]);
}

#[test]
fn reads_its_rows_as_its_owner_when_somebody_else_writes_them() {
    let mut watched = watched();
    watched.run(
        "alter extension plugin_webhooks drop view public.v_audit_entity_changes;
         drop view public.v_audit_entity_changes",
    );
    watched.run_as(
        "log_owner",
        "alter table audit.entity_changes alter column record_id type logs.word using logs.to_word(record_id);",
    );
    watched.run_as(
        "log_owner",
        &format!(
            "insert into audit.entity_changes (table_schema, table_name, record_id, operation, tenant_id)
             values ('public', 'items', row('1')::logs.word, 'INSERT', '{TENANT}')"
        ),
    );
    assert_eq!(
        count(
            &mut watched.client,
            "select count(*) from int.plugin_delivery_queue"
        ),
        1
    );
    assert!(
        watched.told().contains("cast to text: log_owner"),
        "{:?}",
        watched.told()
    );
    watched.assert_ran_only_as(&["log_owner"]);
}

/// An index's constant expression runs when a query over the table is planned.
#[test]
fn plans_no_query_as_the_owner_of_the_queue_when_foreign_keys_are_checked() {
    let mut watched = watched();
    watched.run(
        "grant select on audit.entity_changes to plugin_webhooks_owner;
         grant select on int.plugin_delivery_queue to log_owner;
         grant usage on schema int to log_owner;",
    );
    watched.run_as(
        "log_owner",
        "create function logs.always() returns boolean language plpgsql immutable as $$
             begin perform watch.tell('index'); return true; end $$;
         create index on audit.entity_changes ((logs.always()));
         create index on audit.entity_changes (id) where logs.always();",
    );
    watched.run(&format!(
        "insert into public.items values (1, '{TENANT}');
         select plugin_webhooks.check_foreign_keys(false);
         delete from watch.told;
         select plugin_webhooks.check_foreign_keys(true);"
    ));
    assert!(
        watched.told().contains("index: log_owner"),
        "{:?}",
        watched.told()
    );
    watched.assert_ran_only_as(&["log_owner"]);
    // It still finds what is missing.
    watched.run(
        "select plugin_webhooks.check_foreign_keys(false);
         alter table audit.entity_changes disable trigger all;
         delete from audit.entity_changes;
         alter table audit.entity_changes enable trigger all;",
    );
    expect_sqlstate(
        watched
            .client
            .batch_execute("select plugin_webhooks.check_foreign_keys(true)"),
        "23503",
    );
}

/// The table of installations is not open while a statement enqueues: its owner can change it between two rows.
#[test]
fn gets_an_error_when_it_changes_the_key_of_installations_in_mid_statement() {
    let mut watched = Watched::taken_over("http://127.0.0.1:9");
    let owner = "legacy_owner";
    watched.run(&format!(
        "create table public.orders2 (id uuid primary key default gen_random_uuid(), tenant_id uuid);
         select audit.track('public.orders2');
         select public.rpc_upsert_plugin_webhook_subscription('{TENANT}', i.id, 'public', t, '{{INSERT}}')
         from unnest(array['orders2', 'zzz']) t,
              lateral (select id from int.plugin_installations where tenant_id = '{TENANT}' and status = 'installed'
                       order by id offset case t when 'zzz' then 1 else 0 end limit 1) i;"
    ));
    watched.run_as(
        owner,
        "alter table int.plugin_installations drop constraint plugin_installations_pkey cascade;
         create sequence int.n;
         create function int.swap() returns trigger language plpgsql as $$
         declare
             n bigint := pg_catalog.nextval('int.n');
         begin
             if n = 1 then
                 new.table_name := 'zzz';
             elsif n = 3 then
                 new.table_name := 'zzz';
                 alter table int.plugin_installations rename column id to id_old;
                 alter table int.plugin_installations add column id bigint default 1094795585;
             end if;
             return new;
         end $$;
         create trigger aaa before insert on audit.entity_changes for each row execute function int.swap()",
    );
    // The session has read the subscriptions of both tables when the key changes.
    watched.run(&format!(
        "insert into public.orders2 (tenant_id) values ('{TENANT}')"
    ));
    let written = watched.client.batch_execute(&format!(
        "insert into public.orders2 (tenant_id) select '{TENANT}' from generate_series(1, 2)"
    ));
    // Whatever looks at the key first: the lock on the installation, or a statement.
    let error = written.expect_err("the key has another type");
    let code = error.as_db_error().map(|error| error.code().code());
    assert!(
        matches!(code, Some("55000" | "42883")),
        "the session goes on: {error}"
    );
    watched.run("select 1");
}
