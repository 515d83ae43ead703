//! Statements of the superuser, and errors with everything that the server said.

use std::fmt::Write as _;

use postgres::Client;
use postgres::error::DbError;

/// Runs statements as the superuser, each with everything the server says when it fails.
#[track_caller]
pub fn execute(client: &mut Client, sql: &str) {
    client
        .batch_execute(sql)
        .unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
}

/// The first column of the only row of a query, as the superuser.
#[track_caller]
pub fn value<T: for<'a> postgres::types::FromSql<'a>>(client: &mut Client, sql: &str) -> T {
    let row = client
        .query_one(sql, &[])
        .unwrap_or_else(|error| panic!("{sql}: {}", describe(&error)));
    row.get(0)
}

/// The same as text.
#[track_caller]
pub fn text(client: &mut Client, sql: &str) -> String {
    value(client, sql)
}

/// The same as a number of rows.
#[track_caller]
pub fn count(client: &mut Client, sql: &str) -> i64 {
    value(client, sql)
}

/// The error of a call that had to fail with `sqlstate` and a message.
#[track_caller]
pub fn expect_sqlstate<T>(result: Result<T, postgres::Error>, sqlstate: &str) -> DbError {
    let error = match result {
        Ok(_) => panic!("expected SQLSTATE {sqlstate}, but the call succeeded"),
        Err(error) => error,
    };
    let Some(answer) = error.as_db_error() else {
        panic!("expected SQLSTATE {sqlstate}, but the session failed: {error}")
    };
    assert_eq!(answer.code().code(), sqlstate, "{}", describe(&error));
    assert!(
        !answer.message().trim().is_empty(),
        "the error {sqlstate} has no message"
    );
    answer.clone()
}

/// An SQL identifier in quotes.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An error with everything that the server said about it.
pub fn describe(error: &postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else {
        return error.to_string();
    };
    let mut text = format!("{} {}", answer.code().code(), answer.message());
    for (label, part) in [
        ("DETAIL", answer.detail()),
        ("HINT", answer.hint()),
        ("CONTEXT", answer.where_()),
    ] {
        if let Some(part) = part {
            write!(text, "\n  {label}: {part}").expect("write to a string");
        }
    }
    text
}
