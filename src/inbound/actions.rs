//! The allowlist of actions: two built in, all others registered by the extension's owner.
//! A handler runs with the rights of its own owner, never with those of the extension.

use std::ffi::CString;

use pgrx::prelude::*;
use pgrx::{Uuid, name};

use super::work_order;
use crate::error::{Error, Result, quoted, required, required_text};
use crate::pg::{self, Jsonb};
use crate::tables;

const NOOP: &str = "noop";
/// sql/install/28_actions.sql lists the same for plugin_webhooks.inbound_actions; the in-database test
/// `the_allowlist_starts_with_the_two_built_in_actions` holds that list.
const BUILT_IN: [&str; 2] = [NOOP, work_order::ACTION];

/// A handler's arguments.
const ARGUMENTS: [pg_sys::Oid; 2] = [pg_sys::UUIDOID, pg_sys::JSONBOID];

/// Runs an action for a tenant and returns what the partner gets as answer.
pub fn run(tenant: Uuid, action: &str, data: Jsonb) -> Result<Jsonb> {
    if action == NOOP {
        return Ok(Jsonb(r#"{"ok": true, "action": "noop"}"#.into()));
    }
    // Who acts as somebody else can put nothing off until the commit.
    pg::set_constraints_immediate();
    match action {
        work_order::ACTION => work_order::create(tenant, &data),
        other => run_registered(tenant, other, data),
    }
}

fn run_registered(tenant: Uuid, action: &str, data: Jsonb) -> Result<Jsonb> {
    let unknown = || Error::UnknownAction(action.into());
    let (schema, name) = tables::ACTIONS
        .one_row(
            "SELECT handler_schema, handler_name FROM plugin_webhooks.actions WHERE action = $1",
            &[action.into()],
            |row| row.get_two::<String, String>(),
        )
        .and_then(|(schema, name)| Some((schema?, name?)))
        .ok_or_else(unknown)?;
    // By the catalogs: nobody but its owner needs rights on its schema.
    let handler = CString::new(schema.as_str())
        .ok()
        .zip(CString::new(name.as_str()).ok())
        .and_then(|(schema, name)| pg::lock_function(&schema, &name, &ARGUMENTS))
        .filter(|handler| handler.returns == Some(pg_sys::JSONBOID))
        .ok_or_else(|| Error::HandlerShape(format!("{schema}.{name}")))?;
    let answer = pg::foreign_code(|| {
        pg::as_role(handler.owner, || {
            pg::call::<Jsonb>(handler.oid, &[tenant.into(), data.into()])
        })
    });
    match answer {
        Some(answer) => Ok(answer),
        None => Ok(pg::one::<Jsonb>(
            "SELECT pg_catalog.jsonb_build_object('ok', true, 'action', $1::pg_catalog.text)",
            &[action.into()],
        )
        .ok_or_else(unknown)?),
    }
}

fn check_name(action: Option<&str>) -> Result<&str> {
    let action = required_text("action", action)?.trim();
    if BUILT_IN.contains(&action) {
        return Err(Error::BuiltInAction(action.into()).into());
    }
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if action.len() > 100 || !action.split('.').all(part) {
        return Err(Error::Invalid {
            name: "action",
            message: quoted(action),
            hint:
                "Use words of a-z, 0-9 and _, joined by dots, at most 100 characters: ticket.create"
                    .into(),
        }
        .into());
    }
    Ok(action)
}

/// A function's oid, as the type regprocedure passes it.
#[pg_extern(sql = false)]
fn register_action(action: Option<&str>, handler: Option<pg_sys::Oid>) -> Result<()> {
    let action = check_name(action)?;
    let handler = required("handler", handler)?;
    let shape = pg::one_row(
        "SELECT n.nspname::pg_catalog.text, p.proname::pg_catalog.text,
                p.prokind = 'f' AND NOT p.proretset AND p.prorettype = 'pg_catalog.jsonb'::pg_catalog.regtype
                AND p.proargtypes::pg_catalog.text = pg_catalog.format('%s %s',
                    'pg_catalog.uuid'::pg_catalog.regtype::pg_catalog.oid,
                    'pg_catalog.jsonb'::pg_catalog.regtype::pg_catalog.oid)
         FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
         WHERE p.oid = $1",
        &[handler.into()],
        |row| row.get_three::<String, String, bool>(),
    );
    let Some((Some(schema), Some(name), Some(true))) = shape else {
        let shown = pg::one::<String>(
            "SELECT $1::pg_catalog.regprocedure::pg_catalog.text",
            &[handler.into()],
        );
        return Err(Error::HandlerShape(shown.unwrap_or_default()).into());
    };
    tables::ACTIONS.write(
        "INSERT INTO plugin_webhooks.actions AS a (action, handler_schema, handler_name)
         VALUES ($1, $2, $3)
         ON CONFLICT (action) DO UPDATE SET
             handler_schema = excluded.handler_schema, handler_name = excluded.handler_name",
        &[action.into(), schema.into(), name.into()],
    );
    Ok(())
}

#[pg_extern(sql = false)]
fn unregister_action(action: Option<&str>) -> Result<()> {
    let action = check_name(action)?;
    let removed = tables::ACTIONS.write(
        "DELETE FROM plugin_webhooks.actions WHERE action = $1",
        &[action.into()],
    );
    if removed == 0 {
        return Err(Error::Unknown("action").into());
    }
    Ok(())
}

/// What the view plugin_webhooks.inbound_actions shows of the table.
#[pg_extern(sql = false)]
fn registered_actions() -> TableIterator<
    'static,
    (
        name!(action, Option<String>),
        name!(handler_schema, Option<String>),
        name!(handler_name, Option<String>),
    ),
> {
    TableIterator::new(tables::ACTIONS.rows(
        "SELECT a.action, a.handler_schema, a.handler_name FROM plugin_webhooks.actions AS a",
        |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?)),
    ))
}
