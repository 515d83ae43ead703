//! Callers of another kind: the libraries that browsers and backends use, running as programs of their own.
//! What they do is in `tests/clients`, each promise there a test of its own.

mod examples;
mod node_postgres;
mod psycopg;
mod supabase_js;

use std::fmt::Write as _;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Pgbouncer, Receiver, create_tracked_table, execute, former_system, project,
    run_client, run_example, shared_server, text,
};

const SECRET: &str = "the secret of desk ä€";
/// Where the installations of the programs deliver to.
const PATH: &str = "/hook";
const SECRET_NAME: &str = "client_secret";

/// A database with two tenants, and a receiver. The programs get all of it in the variable `SITE`.
struct Site {
    database: Database,
    receiver: Receiver,
    description: String,
}

impl Site {
    /// The extension alone: whoever has a token is a user.
    #[track_caller]
    fn plain() -> Site {
        let database = project(shared_server());
        let mut dba = database.client();
        execute(
            &mut dba,
            &format!("select plugin_webhooks.create_secret('{SECRET}', '{SECRET_NAME}')"),
        );
        let id = |_: &str| "gen_random_uuid()".to_owned();
        let member = |_: &str, _: &str| "gen_random_uuid()".to_owned();
        Site::of(database, Receiver::http(), id, member)
    }

    /// A host whose own system was taken over, with its rows.
    #[track_caller]
    fn taken_over() -> Site {
        let receiver = Receiver::http();
        let database = former_system(shared_server(), receiver.url("").trim_end_matches('/'));
        let mut dba = database.client();
        execute(&mut dba, "create extension plugin_webhooks");
        execute(
            &mut dba,
            &format!(
                "insert into vault.secrets (name, secret) values ('{SECRET_NAME}', '{SECRET}')"
            ),
        );
        let tenant = |name: &str| format!("app.create_tenant('{name}')");
        let member = |tenant: &str, permission: &str| {
            format!("app.create_member('{tenant}', variadic array[{permission}]::text[])")
        };
        Site::of(database, receiver, tenant, member)
    }

    #[track_caller]
    fn of(
        database: Database,
        receiver: Receiver,
        tenant: impl Fn(&str) -> String,
        member: impl Fn(&str, &str) -> String,
    ) -> Site {
        let mut dba = database.client();
        create_tracked_table(&mut dba, "items");
        execute(&mut dba, "grant select, insert on items to authenticated");
        let mut id = |expression: String| text(&mut dba, &format!("select {expression}::text"));
        let (one, two) = (id(tenant("One")), id(tenant("Two")));
        let mut facts = vec![
            ("admin", id(member(&one, "'tenant.admin'"))),
            ("member", id(member(&one, ""))),
            ("other_admin", id(member(&two, "'tenant.admin'"))),
            ("tenant", one),
            ("other_tenant", two),
            ("receiver", receiver.url(PATH)),
            ("secret", SECRET.to_owned()),
            ("secret_name", SECRET_NAME.to_owned()),
        ];
        let mut description = String::from("{");
        for (name, value) in facts.drain(..) {
            write!(description, "\"{name}\": \"{value}\", ").expect("write to a string");
        }
        let interface = interface(&mut dba);
        // A host knows its users; the tests in Rust make them.
        let known = text(
            &mut dba,
            "select (to_regclass('auth.users') is not null)::text",
        );
        write!(description, "\"users_are_known\": {known}, {interface}}}").expect("write");
        Site {
            database,
            receiver,
            description,
        }
    }

    #[track_caller]
    fn run(&self, script: &str) {
        run_client(&self.database, script, &[("SITE", &self.description)]);
    }

    /// The same through pgbouncer.
    #[track_caller]
    fn run_pooled(&self, script: &str) {
        let bouncer = Pgbouncer::in_front_of(&self.database);
        let port = bouncer.port().to_string();
        run_client(
            &self.database,
            script,
            &[("SITE", &self.description), ("PGPORT", &port)],
        );
    }

    #[track_caller]
    fn assert_delivered_once(&self) {
        let requests = self.receiver.requests();
        let ours = requests.iter().filter(|request| request.path() == PATH);
        assert_eq!(ours.count(), 1, "{requests:?}");
    }
}

/// The functions and views of the extension that clients see, with the columns of each view.
fn interface(dba: &mut Client) -> String {
    text(
        dba,
        r#"with member as (
               select d.classid, d.objid from pg_depend d join pg_extension e on e.oid = d.refobjid
               where e.extname = 'plugin_webhooks' and d.deptype = 'e'
           )
           select format('"functions": %s, "views": %s',
               (select json_agg(p.proname order by p.proname) from pg_proc p
                where p.pronamespace = 'public'::regnamespace
                  and ('pg_proc'::regclass, p.oid) in (select classid, objid from member)),
               (select json_object_agg(c.relname, (select json_agg(a.attname order by a.attnum) from pg_attribute a
                                                   where a.attrelid = c.oid and a.attnum > 0)) from pg_class c
                where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
                  and ('pg_class'::regclass, c.oid) in (select classid, objid from member)))"#,
    )
}
