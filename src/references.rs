//! What foreign keys do, as triggers. To the host's tenants and users: a dump carries triggers on the
//! host's own tables, but no constraint of an extension's table. Among the extension's tables: for
//! the time between a restore, which may load them in any order, and `resume`.

use std::ffi::{CStr, CString};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::spi::quote_qualified_identifier;
use pgrx::{PgTrigger, Uuid};

use crate::error::{self, Error};
use crate::{host, instance, pg};

/// The C symbol of the trigger function that checks references.
pub const CHECK_SYMBOL: &CStr = c"check_references_wrapper";

type Row<'a> = PgHeapTuple<'a, AllocatedByPostgres>;
type Fired<'a> = error::Result<Option<Row<'a>>>;

fn protocol(function: &'static str) -> Error {
    Error::TriggerProtocol {
        function,
        wanted: "as its comment says",
    }
}

fn uuid(row: &Row<'_>, column: &str) -> Option<Uuid> {
    row.get_by_name::<Uuid>(column).ok().flatten()
}

/// Whether a row says that it was not made by this transaction.
fn is_old(row: &Row<'_>) -> bool {
    let stamp = |column| {
        row.get_by_name::<TimestampWithTimeZone>(column)
            .ok()
            .flatten()
            .map(pg_sys::TimestampTz::from)
    };
    let transaction = pg::transaction_so_far();
    stamp("created_at")
        .or_else(|| stamp("installed_at"))
        .is_some_and(|stamp| !transaction.contains(&stamp))
}

fn quoted(schema: &str, table: &str) -> String {
    quote_qualified_identifier(schema, table)
}

fn as_owner_of<R>(schema: &str, table: &str, body: impl FnOnce() -> R) -> Option<R> {
    let (schema, table) = (CString::new(schema).ok()?, CString::new(table).ok()?);
    let table = pg::TableName::new(&schema, &table);
    pg::relation(table)?;
    Some(pg::as_owner_of(table, body))
}

/// A key as a parameter and as text; `None` when it is null.
fn key(row: &Row<'_>, column: &str) -> Option<(DatumWithOid<'static>, String)> {
    if let Some(id) = uuid(row, column) {
        return Some((id.into(), id.to_string()));
    }
    let id = row.get_by_name::<i64>(column).ok().flatten()?;
    Some((id.into(), id.to_string()))
}

/// Whether foreign keys of the trigger's table are not checked.
fn keys_are_off(trigger: &PgTrigger<'_>) -> bool {
    pg::triggers_beside(trigger)
        .iter()
        .any(|trigger| trigger.tgisinternal && trigger.tgenabled as u8 == pg_sys::TRIGGER_DISABLED)
}

fn check(trigger: &PgTrigger<'_>) -> error::Result<()> {
    const FUNCTION: &str = "plugin_webhooks.check_references()";
    let arguments = trigger.extra_args().map_err(|_| protocol(FUNCTION))?;
    let Some(row) = trigger.new() else {
        return Ok(());
    };
    // A restore may load the referenced row later.
    if trigger.event().fired_by_insert() && is_old(&row) && !instance::was_active() {
        return Ok(());
    }
    let keys_are_on = !keys_are_off(trigger);
    for reference in arguments.chunks(3) {
        let [column, schema, table] = reference else {
            return Err(protocol(FUNCTION).into());
        };
        if keys_are_on && matches!(schema.as_str(), "int" | "audit") {
            continue;
        }
        let Some((id, shown)) = key(&row, column) else {
            continue;
        };
        let sql = format!(
            "SELECT true FROM {} WHERE id = $1 FOR KEY SHARE",
            quoted(schema, table)
        );
        let find = || pg::write_returning::<bool>(&sql, &[id]);
        let found = if matches!(schema.as_str(), "int" | "audit") {
            as_owner_of(schema, table, find)
        } else {
            host::table(schema, table).map(|table| table.as_owner(find))
        };
        // No table at all, or none that is trusted: there is no such host.
        if found == Some(None) {
            return Err(Error::NoReferencedRow {
                column: column.clone(),
                value: shown,
                table: format!("{schema}.{table}"),
            }
            .into());
        }
    }
    Ok(())
}

#[pg_trigger(sql = false)]
fn check_references<'a>(trigger: &'a PgTrigger<'a>) -> Fired<'a> {
    // pgrx would panic over an Err and lose its SQLSTATE.
    check(trigger).unwrap_or_report();
    Ok(None)
}

fn follow(trigger: &PgTrigger<'_>) -> error::Result<()> {
    const FUNCTION: &str = "plugin_webhooks.follow_host()";
    let arguments = trigger.extra_args().map_err(|_| protocol(FUNCTION))?;
    let [schema, table, column, host_column, action] = arguments.as_slice() else {
        return Err(protocol(FUNCTION).into());
    };
    let target = quoted(schema, table);
    let key = pgrx::spi::quote_identifier(column);
    let refuse_if_referenced = |condition: &str, args: &[DatumWithOid<'_>]| {
        let sql = format!("SELECT true FROM {target} WHERE {key} {condition} LIMIT 1");
        let found = as_owner_of(schema, table, || pg::write_returning::<bool>(&sql, args));
        if found.flatten() == Some(true) {
            return Err(Error::StillReferenced {
                host: trigger.table_name().unwrap_or_default(),
                table: format!("{schema}.{table}"),
                column: column.clone(),
            }
            .into());
        }
        Ok(())
    };
    let event = trigger.event();
    if event.fired_by_truncate() {
        return refuse_if_referenced("IS NOT NULL", &[]);
    }
    let Some(old) = trigger.old().and_then(|row| uuid(&row, host_column)) else {
        return Ok(());
    };
    if event.fired_by_update() {
        let new = trigger.new().and_then(|row| uuid(&row, host_column));
        return if new == Some(old) {
            Ok(())
        } else {
            refuse_if_referenced("= $1", &[old.into()])
        };
    }
    let sql = match action.as_str() {
        "CASCADE" => format!("DELETE FROM {target} WHERE {key} = $1"),
        "SET NULL" => format!("UPDATE {target} SET {key} = NULL WHERE {key} = $1"),
        _ => return refuse_if_referenced("= $1", &[old.into()]),
    };
    as_owner_of(schema, table, || pg::write(&sql, &[old.into()]));
    Ok(())
}

#[pg_trigger(sql = false)]
fn follow_host<'a>(trigger: &'a PgTrigger<'a>) -> Fired<'a> {
    follow(trigger).unwrap_or_report();
    Ok(None)
}
