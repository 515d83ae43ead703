//! What the owner of the tables attaches to them runs as this owner: in the worker, in a superuser's write to a
//! tracked table, in a superuser's call, at the statement and at the commit.

use std::time::Duration;

use plugin_webhooks_kit::{Receiver, wait_until};

use super::*;

const SOON: Duration = Duration::from_secs(20);
const OWNER: &str = "legacy_owner";
const TENANT: &str = "00000000-0000-0000-0000-000000000001";

/// Code of the owner. Each trigger tries what would outlive its statement, and what would change the session.
const CODE: &str = "
    create schema hostile;
    grant usage on schema hostile to public;
    create function hostile.yes(what text) returns boolean language plpgsql as $$
        begin perform watch.tell(what); return true; end $$;
    create function hostile.same(value text) returns text language plpgsql immutable as $$
        begin perform watch.tell('immutable'); return value; end $$;
    create function hostile.always() returns boolean language plpgsql immutable as $$
        begin perform watch.tell('constant'); return true; end $$;
    create function hostile.on_row() returns trigger language plpgsql as $$
        begin
            perform watch.tell(tg_when || ' ' || tg_level || ' trigger');
            begin
                execute 'declare held_' || (random() * 1000000000)::bigint || ' cursor with hold for
                         select hostile.yes(''cursor with hold'')';
            exception when others then null; end;
            begin
                perform pg_catalog.set_config('search_path', 'hostile', false);
            exception when others then null; end;
            begin
                reset session authorization;
                perform watch.tell('reset session authorization');
            exception when others then null; end;
            if tg_op = 'DELETE' then return old; end if;
            return new;
        end $$;
    create function hostile.deferred() returns trigger language plpgsql as $$
        begin perform watch.tell('deferred trigger'); return null; end $$;
    create function hostile.equal(a text, b text) returns boolean language plpgsql as $$
        begin perform watch.tell('operator'); return a = b; end $$;
    create operator hostile.=== (leftarg = text, rightarg = text, function = hostile.equal);
    create domain hostile.checked as text check (hostile.yes('domain'));";

/// What can hang on a table; `{table}` has a column `id`.
const ATTACHED: [(&str, &str); 16] = [
    (
        "before trigger",
        "create trigger aaa before insert or update or delete on {table} for each row execute function hostile.on_row()",
    ),
    (
        "after trigger",
        "create trigger zzz after insert or update or delete on {table} for each row execute function hostile.on_row()",
    ),
    (
        "statement trigger",
        "create trigger sss after insert or update or delete on {table} execute function hostile.on_row()",
    ),
    (
        "deferred trigger",
        "create constraint trigger ddd after insert or update or delete on {table} deferrable initially deferred for each row execute function hostile.deferred()",
    ),
    (
        "rule",
        "create rule rrr as on insert to {table} do also select hostile.yes('rule')",
    ),
    (
        "check",
        "alter table {table} add constraint ccc check (hostile.yes('check')) not valid",
    ),
    (
        "operator",
        "alter table {table} add constraint ooo check (id::text operator(hostile.===) id::text) not valid",
    ),
    // PostgreSQL's own functions do harm, too.
    (
        "builtin check",
        "alter table {table} add constraint bbb check (set_config('search_path', 'hostile, pg_catalog', false) is not null) not valid",
    ),
    (
        "builtin default",
        "alter table {table} add column extra text; alter table {table} alter column extra set default set_config('request.jwt.claims', '{}', true)",
    ),
    (
        "query in a builtin check",
        "alter table {table} add constraint qqq check (query_to_xml('select \"hostile\".yes(''query'')', true, true, '') is not null) not valid",
    ),
    (
        "default",
        "alter table {table} add column extra boolean; alter table {table} alter column extra set default hostile.yes('default')",
    ),
    (
        "folded default",
        "alter table {table} add column extra boolean; alter table {table} alter column extra set default hostile.always()",
    ),
    (
        "domain",
        "alter table {table} add column extra hostile.checked",
    ),
    (
        "generated column",
        "alter table {table} add column extra text generated always as (hostile.same(id::text)) stored",
    ),
    (
        "index",
        "create index iii on {table} (hostile.same(id::text)) where hostile.always()",
    ),
    (
        "policy",
        "create policy ppp on {table} using (hostile.yes('policy')) with check (hostile.yes('policy')); alter table {table} force row level security",
    ),
];

/// What the worker says of a deferred trigger on the queue.
const REFUSED: &str = "cannot fire deferred trigger within security-restricted operation";

/// Attaches each in a database of its own, runs the statement in a superuser's session, and sees who ran.
fn attack(table: &str, sql: &str) {
    attack_of(OWNER, table, sql);
}

fn attack_of(owner: &str, table: &str, sql: &str) {
    for (what, attach) in ATTACHED {
        let mut watched = Watched::taken_over("http://127.0.0.1:9");
        watched.database.allow_log(REFUSED);
        watched.run_as(OWNER, CODE);
        if !watched.tries_as(owner, &attach.replace("{table}", table)) {
            continue;
        }
        watched.run("delete from watch.told");
        let settings = "select concat_ws('; ', current_setting('search_path'), nullif(current_setting('request.jwt.claims', true), ''))";
        let before: String = value(&mut watched.client, settings);
        watched.run("begin");
        // A deferred trigger may stop it; it may not run as somebody else.
        let settings = match watched.client.batch_execute(sql) {
            Ok(()) => value(&mut watched.client, settings),
            Err(_) => before.clone(),
        };
        assert_eq!(settings, before, "{what}");
        watched.run("commit");
        println!("{what}: {:?}", watched.told());
        watched.assert_ran_only_as(&[owner]);
    }
}

#[test]
fn run_as_their_owner_when_a_superuser_writes_to_a_tracked_table() {
    attack(
        "audit.entity_changes",
        &format!(
            "insert into app.assets (tenant_id, name) select '{TENANT}', 'New ' || n from generate_series(1, 3) n"
        ),
    );
}

#[test]
fn run_as_their_owner_when_a_superusers_write_enqueues() {
    attack(
        "int.plugin_delivery_queue",
        &format!("insert into app.assets (tenant_id, name) values ('{TENANT}', 'New')"),
    );
}

#[test]
fn run_as_their_owner_when_a_superuser_registers_a_plugin() {
    attack(
        "int.plugins",
        "select public.rpc_register_plugin('crm', 'CRM')",
    );
}

#[test]
fn run_as_their_owner_when_a_superuser_installs_a_plugin() {
    attack(
        "int.plugin_installations",
        &format!("select public.rpc_install_plugin('{TENANT}', 'plugin_9')"),
    );
}

#[test]
fn run_as_their_owner_when_a_superuser_resumes() {
    attack(
        "int.plugin_delivery_queue",
        "update plugin_webhooks.instance set site = 'elsewhere';
         select plugin_webhooks.resume();",
    );
}

#[test]
fn run_as_their_owner_when_a_superuser_stores_a_secret_or_an_action() {
    let owner = "plugin_webhooks_owner";
    attack_of(
        owner,
        "plugin_webhooks.secrets",
        "select plugin_webhooks.create_secret('s', 'a secret')",
    );
    attack_of(
        owner,
        "plugin_webhooks.actions",
        "create function public.handle(tenant uuid, data jsonb) returns jsonb language sql as 'select data';
         select plugin_webhooks.register_action('a.b', 'public.handle(uuid,jsonb)')",
    );
}

/// The worker goes on, but for a trigger that it could only fire at its commit.
#[test]
fn run_as_their_owner_in_the_worker() {
    for (what, attach) in ATTACHED {
        let receiver = Receiver::http();
        let mut watched = Watched::taken_over(receiver.url("").trim_end_matches('/'));
        watched.database.allow_log(REFUSED);
        let waiting = "select count(*) from int.plugin_delivery_queue
                       where status = 'sending' or status = 'pending' and next_attempt_at <= now()";
        // Planning a query evaluates what it can of an index, with the rights of whoever asks.
        let is_done = |client: &mut Client| {
            execute(client, &format!("set role {OWNER}"));
            let done = value::<i64>(client, waiting) == 0;
            execute(client, "reset role");
            done
        };
        wait_until(SOON, "the worker to have nothing to do", || {
            is_done(&mut watched.client)
        });
        watched.run(
            "update plugin_webhooks.instance set site = 'elsewhere';
             update int.plugin_delivery_queue set status = 'pending', next_attempt_at = now() - interval '1 minute'
             where id = (select id from int.plugin_delivery_queue where status = 'delivered' limit 1);",
        );
        watched.run_as(OWNER, CODE);
        watched.run_as(
            OWNER,
            &attach.replace("{table}", "int.plugin_delivery_queue"),
        );
        watched.run("delete from watch.told; update plugin_webhooks.instance set site = ''");
        assert!(!is_done(&mut watched.client), "{what}");
        let server = watched.database.server().clone();
        let said = server.log().matches(REFUSED).count();
        let _ = watched
            .client
            .batch_execute("select public.rpc_process_plugin_deliveries(50)");
        wait_until(SOON, "the worker to have tried", || {
            if what == "deferred trigger" {
                server.log().matches(REFUSED).count() > said + 1
            } else {
                is_done(&mut watched.client)
            }
        });
        println!("{what}: {:?}", watched.told());
        watched.assert_ran_only_as(&[OWNER]);
    }
}
