//! Callers of the extension, what they get, and small fixtures. Knows no rule of the product.

use pgrx::pg_sys::panic::{CaughtError, ErrorReportable};
use pgrx::prelude::*;

/// What the server said when it refused.
#[derive(Debug)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    fn new(error: &CaughtError) -> Self {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic {
            ereport: report, ..
        }) = error;
        // The five characters of a SQLSTATE are packed into six bits each.
        let code = report.sql_error_code() as i32;
        let sqlstate = (0..5)
            .map(|position| char::from(b'0' + ((code >> (6 * position)) & 0x3f) as u8))
            .collect();
        Self {
            sqlstate,
            message: report.message().to_owned(),
            hint: report.hint().map(str::to_owned),
        }
    }
}

/// Runs `body` in a subtransaction, which an error rolls back.
fn attempt<R>(body: impl FnOnce() -> R) -> Result<R, Failure> {
    crate::pg::caught_error(body).map_err(|error| Failure::new(&error))
}

fn execute(sql: &str) {
    Spi::connect_mut(|client| {
        client.update(sql, None, &[]).unwrap_or_report();
    });
}

fn select(sql: &str) -> Vec<Option<String>> {
    Spi::connect_mut(|client| {
        let table = client.update(sql, None, &[]).unwrap_or_report();
        table
            .into_iter()
            .map(|row| row.get::<String>(1).unwrap_or_report())
            .collect()
    })
}

/// Somebody who calls: a role with the claims of a verified JWT.
#[derive(Clone, Debug)]
pub struct Caller {
    role: Option<String>,
    claims: String,
}

/// One of each kind: of ASCII, and of Unicode.
pub const WHITE_SPACE: [&str; 8] = [
    " ", "\t", "\n", "\r", "\u{b}", "\u{c}", "\u{a0}", "\u{2003}",
];

impl Caller {
    /// A superuser without claims.
    pub fn operator() -> Self {
        Self {
            role: None,
            claims: String::new(),
        }
    }

    /// A superuser session whose requests carry these claims.
    pub fn superuser_with(claims: &str) -> Self {
        Self {
            role: None,
            claims: claims.to_owned(),
        }
    }

    /// A role without claims.
    pub fn role(role: &str) -> Self {
        Self::role_with(role, "")
    }

    /// A role with these claims.
    pub fn role_with(role: &str, claims: &str) -> Self {
        Self {
            role: Some(role.to_owned()),
            claims: claims.to_owned(),
        }
    }

    /// The role `authenticated` with the claims of this user in this tenant.
    pub fn user(user: &str, tenant: &str, permissions: &[&str]) -> Self {
        let claims = serde_json::json!({
            "sub": user, "tenant_id": tenant, "role": "authenticated", "permissions": permissions,
        });
        Self::role_with("authenticated", &claims.to_string())
    }

    /// A new user with `tenant.admin` in the tenant.
    pub fn admin(tenant: &str) -> Self {
        Self::user(&uuid(), tenant, &["tenant.admin"])
    }

    /// A new user of the tenant with other permissions.
    pub fn member(tenant: &str) -> Self {
        Self::user(&uuid(), tenant, &["work_orders.read"])
    }

    /// The same session as another role.
    pub fn as_role(&self, role: &str) -> Self {
        Self::role_with(role, &self.claims)
    }

    fn act<R>(&self, body: impl FnOnce() -> R) -> Result<R, Failure> {
        attempt(|| {
            execute(&format!(
                "select set_config('request.jwt.claims', {}, true)",
                text(&self.claims)
            ));
            if let Some(role) = &self.role {
                execute(&format!("set local role {role}"));
            }
            let result = body();
            execute("reset role");
            execute("select set_config('request.jwt.claims', '', true)");
            result
        })
    }

    /// Runs a statement, which may be refused.
    pub fn try_run(&self, statement: &str) -> Result<(), Failure> {
        self.act(|| execute(statement))
    }

    /// Runs a statement.
    #[track_caller]
    pub fn run(&self, statement: &str) {
        if let Err(failure) = self.try_run(statement) {
            panic!("{self:?} could not run {statement}: {failure:?}");
        }
    }

    /// The value of an expression or scalar query, as text.
    #[track_caller]
    pub fn optional(&self, expression: &str) -> Option<String> {
        let sql = format!("select ({expression})::pg_catalog.text");
        match self.act(|| select(&sql)) {
            Ok(mut rows) => rows.pop().flatten(),
            Err(failure) => panic!("{self:?} could not ask {expression}: {failure:?}"),
        }
    }

    /// The same for a value that is not null.
    #[track_caller]
    pub fn value(&self, expression: &str) -> String {
        match self.optional(expression) {
            Some(value) => value,
            None => panic!("{expression} is null"),
        }
    }

    /// The same for a count.
    #[track_caller]
    pub fn count(&self, from: &str) -> i64 {
        self.value(&format!("select count(*) from {from}"))
            .parse()
            .unwrap()
    }

    /// The rows of a query, each as the text of its record, in the query's order.
    #[track_caller]
    pub fn rows(&self, query: &str) -> Vec<String> {
        let sql = format!("select r::pg_catalog.text from ({query}) as r");
        match self.act(|| select(&sql)) {
            Ok(rows) => rows.into_iter().map(Option::unwrap_or_default).collect(),
            Err(failure) => panic!("{self:?} could not ask {query}: {failure:?}"),
        }
    }

    /// The error of a statement that has to fail with this SQLSTATE.
    #[track_caller]
    pub fn refused_statement(&self, statement: &str, sqlstate: &str) -> Failure {
        let shown: String = statement.chars().take(300).collect();
        match self.try_run(statement) {
            Ok(()) => panic!("expected {sqlstate}, but {self:?} could run {shown}"),
            Err(failure) => {
                assert_eq!(
                    failure.sqlstate, sqlstate,
                    "{self:?} ran {shown}: {failure:?}"
                );
                assert!(!failure.message.trim().is_empty(), "{shown}: no message");
                failure
            }
        }
    }

    /// The error of an expression that has to fail with this SQLSTATE.
    #[track_caller]
    pub fn refused(&self, expression: &str, sqlstate: &str) -> Failure {
        self.refused_statement(&format!("select {expression}"), sqlstate)
    }

    /// The same; the hint has to contain `part`.
    #[track_caller]
    pub fn refused_with_hint(&self, expression: &str, sqlstate: &str, part: &str) {
        let failure = self.refused(expression, sqlstate);
        let hint = failure.hint.unwrap_or_default();
        assert!(
            hint.contains(part),
            "the hint of {expression} does not say \"{part}\": {hint:?} ({})",
            failure.message
        );
    }
}

/// Shorthand for [`Caller::operator`].
pub fn operator() -> Caller {
    Caller::operator()
}

/// An SQL text literal.
pub fn text(value: &str) -> String {
    pgrx::spi::quote_literal(value)
}

/// A new uuid.
pub fn uuid() -> String {
    operator().value("gen_random_uuid()")
}

/// A role of this transaction that holds nothing but what PUBLIC has.
pub fn plain_role(name: &str) -> Caller {
    operator().run(&format!("create role {name} nologin"));
    Caller::role(name)
}

/// A registered plugin; returns its id.
pub fn plugin(key: &str) -> String {
    operator().value(&format!(
        "public.rpc_register_plugin({0}, 'Plugin ' || {0})",
        text(key)
    ))
}

/// A new tenant with an admin and one installation of a new plugin.
pub struct Tenant {
    pub id: String,
    pub admin: Caller,
    pub plugin_key: String,
    pub installation: String,
}

impl Tenant {
    /// With an installation of a new plugin of this key, without secret and configuration.
    pub fn with_plugin(key: &str) -> Self {
        plugin(key);
        Self::with_installation_of(key)
    }

    /// With an installation of a plugin that exists.
    pub fn with_installation_of(key: &str) -> Self {
        let id = uuid();
        let installation =
            operator().value(&format!("public.rpc_install_plugin('{id}', {})", text(key)));
        Self {
            admin: Caller::admin(&id),
            id,
            plugin_key: key.to_owned(),
            installation,
        }
    }

    /// Subscribes the installation to all operations of a table; returns the subscription's id.
    pub fn subscribe(&self, schema: &str, table: &str) -> String {
        self.subscribe_to(schema, table, "'{INSERT,UPDATE,DELETE}'")
    }

    /// Subscribes the installation with these SQL arguments from `p_operations` on.
    pub fn subscribe_to(&self, schema: &str, table: &str, rest: &str) -> String {
        operator().value(&format!(
            "public.rpc_upsert_plugin_webhook_subscription('{}', '{}', {}, {}, {rest})",
            self.id,
            self.installation,
            text(schema),
            text(table)
        ))
    }
}

/// Sleeps over the end of a minute when it is near: the extension counts calls by the clock's minute.
pub fn early_in_the_minute() {
    operator().run(
        "select pg_sleep(case when extract(second from clock_timestamp()) > 50
                              then 60.5 - extract(second from clock_timestamp()) else 0 end)",
    );
}

/// A tracked table `public.things` with these columns.
pub fn tracked_things(columns: &str) {
    operator().run(&format!("create table public.things ({columns})"));
    operator().run("select audit.track('public.things')");
}

/// Writes `count` inserts into a table of the tenant straight to the audit log.
pub fn log_inserts(tenant: &str, schema: &str, table: &str, count: u32) {
    operator().run(&format!(
        "insert into audit.entity_changes (tenant_id, table_schema, table_name, record_id, operation, new_data)
         select '{tenant}', {}, {}, n, 'INSERT', jsonb_build_object('id', n) from generate_series(1, {count}) as n",
        text(schema),
        text(table)
    ));
}
