//! An object runs with the rights of its own owner and no others: nothing that a role without superuser rights
//! can define ever runs as a superuser, or as another owner. Hostile code records who it ran as, here.

mod casts;
mod dedicated_role;
mod former_owner;
mod host_objects;
mod keys;
mod log_owner;
mod owners;
mod search_path;
mod tables;
mod take_over;
mod views;
mod way_back;

use std::collections::BTreeSet;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{Database, execute, former_system, shared_server, value};

/// A role with CREATE on the database and nothing else.
pub const MALLORY: &str = "mallory";

/// Everybody may tell; what a superuser tells survives a rollback, too.
const WATCH: &str = "
    create schema watch;
    create table watch.told (what text, who text, session text, super boolean);
    create sequence watch.superusers;
    grant usage on schema watch to public;
    grant insert on watch.told to public;
    grant usage on sequence watch.superusers to public;
    create function watch.tell(what text) returns boolean language plpgsql as $$
    begin
        if (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user) then
            perform pg_catalog.nextval('watch.superusers');
        end if;
        insert into watch.told
        select what, current_user, session_user, r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user;
        return true;
    exception when others then
        return true;
    end $$;
    do $$ begin create role mallory; exception when duplicate_object or unique_violation then null; end $$;
    do $$ begin execute format('grant create on database %I to mallory', current_database()); end $$;";

/// A database whose hostile code is watched.
pub struct Watched {
    pub database: Database,
    /// A session of the superuser.
    pub client: Client,
}

impl Watched {
    /// Hostile code calls `watch.tell(text)`, which returns true.
    pub fn of(database: Database) -> Self {
        let mut client = database.client();
        execute(&mut client, WATCH);
        Self { database, client }
    }

    /// A database without the extension.
    pub fn empty() -> Self {
        Self::of(shared_server().empty_database())
    }

    /// The former system after the take-over; `legacy_owner` owns the tables.
    pub fn taken_over(receiver: &str) -> Self {
        let mut watched = Self::of(former_system(shared_server(), receiver));
        watched.run("create extension plugin_webhooks");
        watched
    }

    /// As the superuser.
    #[track_caller]
    pub fn run(&mut self, sql: &str) {
        execute(&mut self.client, sql);
    }

    /// As a role, in a session of the superuser.
    #[track_caller]
    pub fn run_as(&mut self, role: &str, sql: &str) {
        execute(&mut self.client, &format!("set role {role}"));
        execute(&mut self.client, sql);
        execute(&mut self.client, "reset role");
    }

    /// As a role, which may not have the rights: whether it worked.
    #[track_caller]
    pub fn tries_as(&mut self, role: &str, sql: &str) -> bool {
        execute(&mut self.client, &format!("set role {role}"));
        let worked = self.client.batch_execute(sql).is_ok();
        execute(&mut self.client, "reset role");
        worked
    }

    /// What told, as `what: who`.
    #[track_caller]
    pub fn told(&mut self) -> BTreeSet<String> {
        let rows = self
            .client
            .query("select what || ': ' || who from watch.told", &[])
            .expect("what told");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Nothing has run as a superuser or as anybody but these roles.
    #[track_caller]
    pub fn assert_ran_only_as(&mut self, roles: &[&str]) {
        let superusers: i64 = value(
            &mut self.client,
            "select case when is_called then last_value else 0 end from watch.superusers",
        );
        let others: Vec<String> = self
            .told()
            .into_iter()
            .filter(|line| {
                !roles
                    .iter()
                    .any(|role| line.ends_with(&format!(": {role}")))
            })
            .collect();
        assert!(
            superusers == 0 && others.is_empty(),
            "ran as a superuser {superusers} times; {others:#?}"
        );
    }
}
