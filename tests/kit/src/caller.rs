//! The callers of a Supabase-like project: its roles, and sessions that behave like PostgREST's.

use std::fmt::Write as _;

use postgres::{Client, Transaction};

use crate::sql::{describe, quote_ident};

pub(crate) const AUTHENTICATOR: &str = "authenticator";

/// What of Supabase's set-up [`create_supabase_roles_with`] copies beyond the roles.
///
/// Roles belong to the whole server: give a test that sets `service_role_bypassrls` its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoleOptions {
    /// `service_role` passes row security, as on Supabase.
    pub service_role_bypassrls: bool,
    /// New objects in schema `public` are granted to all three roles, as on Supabase.
    pub default_privileges: bool,
}

/// Creates `anon`, `authenticated`, `service_role` and the `authenticator` that may become them.
#[track_caller]
pub fn create_supabase_roles(client: &mut Client) {
    create_supabase_roles_with(client, RoleOptions::default());
}

/// The same with Supabase's other habits; roles that exist stay.
#[track_caller]
pub fn create_supabase_roles_with(client: &mut Client, options: RoleOptions) {
    let mut sql = String::new();
    for role in [
        "anon nologin",
        "authenticated nologin",
        "service_role nologin",
        "authenticator login noinherit",
    ] {
        writeln!(
            sql,
            "do $$ begin create role {role}; \
             exception when duplicate_object or unique_violation then null; end $$;"
        )
        .expect("write to a string");
    }
    // Two tests that grant at once would update one catalog row: an existing membership is left alone.
    sql.push_str(
        "do $$ begin
             if not exists (select from pg_catalog.pg_auth_members m
                            where m.member = 'authenticator'::regrole and m.roleid = 'service_role'::regrole) then
                 grant anon, authenticated, service_role to authenticator;
             end if;
         exception when unique_violation or internal_error then null; end $$;
         grant usage on schema public to anon, authenticated, service_role;",
    );
    if options.service_role_bypassrls {
        sql.push_str("alter role service_role bypassrls;");
    }
    if options.default_privileges {
        for kind in ["functions", "tables", "sequences"] {
            writeln!(
                sql,
                "alter default privileges in schema public grant all on {kind} to anon, authenticated, service_role;"
            )
            .expect("write to a string");
        }
    }
    client
        .batch_execute(&sql)
        .unwrap_or_else(|error| panic!("create roles: {}", describe(&error)));
}

/// Runs `call` as PostgREST runs a request: one transaction of `role` with the claims of a verified
/// JWT, committed unless `call` fails. `client` is a session of `authenticator`.
pub fn as_user<T>(
    client: &mut Client,
    role: &str,
    claims: &str,
    call: impl FnOnce(&mut Transaction<'_>) -> Result<T, postgres::Error>,
) -> Result<T, postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(&format!("set local role {}", quote_ident(role)))?;
    transaction.execute(
        "select set_config('request.jwt.claims', $1, true)",
        &[&claims],
    )?;
    let result = call(&mut transaction)?;
    transaction.commit()?;
    Ok(result)
}
