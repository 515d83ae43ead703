//! What a database of a test starts with: a project with the extension, a host's own schema, the system
//! that the extension takes over; and the server that tests share.

use std::sync::OnceLock;

use postgres::Client;

use crate::caller::create_supabase_roles;
use crate::database::Database;
use crate::server::Server;
use crate::sql::{execute, quote_literal};
use crate::tree::Tree;

/// The server that the tests of one test binary share: preloaded, with loopback receivers allowed and quoted.
///
/// Take a fresh [`Database`] from it with [`Server::database`]. A test that stops its server, kills
/// a process of it or changes a setting starts its own with [`Server::preloaded`].
pub fn shared_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        Server::preloaded(
            Tree::shared(),
            &[
                ("plugin_webhooks.allowed_networks", "127.0.0.0/8, ::1/128"),
                ("plugin_webhooks.show_internal_bodies", "on"),
            ],
        )
    })
}

/// A fresh database with the roles of a Supabase-like project and the extension.
#[track_caller]
pub fn project(server: &Server) -> Database {
    server.database_with(create_supabase_roles)
}

/// The same with a tracked table `items`.
#[track_caller]
pub fn project_with_items(server: &Server) -> Database {
    let database = project(server);
    create_tracked_table(&mut database.client(), "items");
    database
}

/// Creates a tracked table with the columns id, tenant_id, title, note and data; `name` is quoted SQL.
#[track_caller]
pub fn create_tracked_table(client: &mut Client, name: &str) {
    execute(
        client,
        &format!(
            "create table {name} (
                 id bigint generated always as identity primary key,
                 tenant_id uuid, title text, note text, data jsonb);
             select audit.track({}::regclass);",
            quote_literal(name)
        ),
    );
}

/// A small host: every object of a host database that the extension uses when it is there.
/// Load it with `batch_execute` before `CREATE EXTENSION`.
pub const HOST_SCHEMA: &str = include_str!("../../fixtures/host_schema.sql");

/// The former system in PL/pgSQL over pg_net, with a year's data: see [`former_system`].
const FORMER: &str = include_str!("../../fixtures/former.sql");

/// A fresh database of a host that runs the former system in PL/pgSQL over pg_net, without the extension. Two of
/// its installations deliver to `receiver`, a URL without path.
#[track_caller]
pub fn former_system(server: &Server, receiver: &str) -> Database {
    let database = server.empty_database();
    load_former_system(&mut database.client(), receiver);
    for warning in TAKE_OVER_WARNINGS {
        database.allow_log(warning);
    }
    database
}

/// What `CREATE EXTENSION` warns of where [`former_system`] is.
pub const TAKE_OVER_WARNINGS: [&str; 2] = [
    "nothing can be sent to some of the installations that were taken over",
    "pg_dump no longer carries what was added to the tables",
];

/// The same in the database of `client`.
#[track_caller]
pub fn load_former_system(client: &mut Client, receiver: &str) {
    create_supabase_roles(client);
    execute(client, HOST_SCHEMA);
    execute(client, &FORMER.replace("{receiver}", receiver));
}
