//! Foreign keys and AFTER ROW triggers of the host on the log and the queue get each row with its type, and so hold
//! a reference to that. What is not released piles up, and PostgreSQL warns of it at the end of the transaction: no
//! test passes with such a warning in its server's log.

use plugin_webhooks_kit::Server;

use super::*;
use crate::private_server::builder;

/// What the host adds.
const HOST: &str = "
    create table public.tenants (id uuid primary key);
    insert into public.tenants
        select tenant_id from audit.entity_changes where tenant_id is not null
        union select tenant_id from int.plugin_installations;
    alter table audit.entity_changes add foreign key (tenant_id) references public.tenants (id);
    alter table int.plugin_delivery_queue add foreign key (tenant_id) references public.tenants (id);
    create function public.see() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger see after insert on audit.entity_changes for each row execute function public.see();
    create trigger see after insert on int.plugin_delivery_queue for each row execute function public.see();
    alter table audit.entity_changes add check (new_data ->> 'title' <> 'refused');
    set statement_timeout = 0;";

/// The resource owners of a session keep their lists here.
const LISTS: &str =
    "select used_bytes from pg_backend_memory_contexts where name = 'TopMemoryContext'";

struct Host {
    session: Client,
    tenant: String,
    _database: Database,
    _server: Server,
}

impl Host {
    fn new() -> Host {
        // Nothing is sent meanwhile.
        let server = builder()
            .setting("plugin_webhooks.dispatch", "on_call")
            .start();
        let database = project(&server);
        let mut session = database.client();
        create_tracked_table(&mut session, "items");
        let tenant = Tenant::with_items_to(&database, "https://receiver.invalid/").id;
        execute(&mut session, HOST);
        Host {
            session,
            tenant,
            _database: database,
            _server: server,
        }
    }

    /// Audited by a row trigger, as the first version did: every row is a call, and writes by itself.
    fn by_row() -> Host {
        let mut host = Host::new();
        host.run(
            "select audit.untrack('items');
             create trigger audit after insert or update or delete on items
                 for each row execute function audit.log_entity_change()",
        );
        host
    }

    fn filled(&self, sql: &str) -> String {
        sql.replace("{tenant}", &format!("'{}'::uuid", self.tenant))
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        let sql = self.filled(sql);
        execute(&mut self.session, &sql);
    }

    #[track_caller]
    fn fails(&mut self, sql: &str, sqlstate: &str) {
        let sql = self.filled(sql);
        expect_sqlstate(self.session.batch_execute(&sql), sqlstate);
    }
}

#[test]
fn that_foreign_keys_and_row_triggers_get_are_released_on_every_path() {
    const BULK: &str =
        "insert into items (tenant_id, title) select {tenant}, 't' from generate_series(1, 1200)";
    const REFUSED: &str = "insert into items (tenant_id, title)
        select {tenant}, case n when 1100 then 'refused' else 't' end from generate_series(1, 1200) n";
    const STRANGER: &str = "insert into items (tenant_id, title)
        select case n when 1100 then gen_random_uuid() else {tenant} end, 't' from generate_series(1, 1200) n";
    for mut host in [Host::new(), Host::by_row()] {
        for _ in 0..5 {
            host.run("insert into items (tenant_id, title) values ({tenant}, 'single')");
        }
        host.run("update items set title = 'changed' where id = 1");
        host.run("delete from items where id = 2");
        host.run(BULK);
        host.run("update items set note = 'x'");
        host.run("delete from items where id % 2 = 0");
        let mut copy = host
            .session
            .copy_in("copy items (tenant_id, title) from stdin")
            .expect("copy");
        for _ in 0..1200 {
            writeln!(copy, "{}\tcopied", host.tenant).expect("a row");
        }
        assert_eq!(copy.finish().expect("the end of copy"), 1200);
        host.run(&format!(
            "begin; savepoint s; {BULK}; rollback to s; {BULK}; release s; {BULK}; commit"
        ));
        for (statement, sqlstate) in [(REFUSED, "23514"), (STRANGER, "23503")] {
            host.fails(statement, sqlstate);
            // The transaction that goes on after it commits.
            host.run(&format!(
                "do $$
             begin
                 for turn in 1 .. 20 loop
                     begin {statement}; exception when sqlstate '{sqlstate}' then null; end;
                     insert into items (tenant_id, title) values ({{tenant}}, 'after it');
                 end loop;
             end $$"
            ));
        }
        let queued = count(&mut host.session, "int.plugin_delivery_queue");
        assert!(queued > 6000, "{queued}");
    }
}

#[test]
fn do_not_pile_up_in_a_statement_over_160_000_rows() {
    let mut host = Host::by_row();
    // Fires after the rows' trigger, in the same statement.
    host.run(&format!(
        "create table measured (bytes bigint);
         create function measure() returns trigger language plpgsql as $$
             begin insert into public.measured {LISTS}; return null; end $$;
         create trigger zz_measure after insert on items for each statement execute function measure();"
    ));
    let mut measured = Vec::new();
    for rows in [10_000, 10_000, 160_000] {
        host.run(&format!(
            "truncate measured;
             insert into items (tenant_id, title) select {{tenant}}, 't' from generate_series(1, {rows})"
        ));
        let bytes: i64 = value(&mut host.session, "select bytes from measured");
        measured.push(bytes);
    }
    assert_eq!(
        count(&mut host.session, "int.plugin_delivery_queue"),
        180_000
    );
    // A reference is 8 bytes, and each row would leave two.
    let grown = measured[2] - measured[1];
    assert!(grown < 200_000, "{grown} bytes: {measured:?}");
}

#[test]
fn do_not_pile_up_in_a_session_whose_statements_fail() {
    let mut host = Host::new();
    let mut measured = Vec::new();
    for _ in 0..3 {
        for _ in 0..50 {
            host.fails(
                "insert into items (tenant_id, title)
                 select {tenant}, case n when 600 then 'refused' else 't' end from generate_series(1, 600) n",
                "23514",
            );
        }
        measured.push(value::<i64>(&mut host.session, LISTS));
    }
    let grown = measured[2] - measured[1];
    assert!(grown < 100_000, "{grown} bytes: {measured:?}");
}
