//! Subscriptions: what tenants do with rows of `int.plugin_webhook_subscriptions`. What foreign keys do to them
//! is in `references`.

use pgrx::Uuid;
use pgrx::prelude::*;

use super::ownership::check_owned;
use super::room;
use crate::caller::{self, rate_limit};
use crate::change::Operation;
use crate::error::{Error, Result, quoted, required};
use crate::limits::{self, Names, ShortText};
use crate::tables;
use crate::text_enum::TextEnum;

/// The operations in their canonical order, each once.
fn checked_operations(operations: Option<Names>) -> Result<Vec<String>> {
    let given = required("p_operations", operations)?
        .0
        .ok_or_else(|| Error::TooLarge {
            name: "p_operations",
            most: format!("each of {} once", words(Operation::ALL).join(", ")),
        })?;
    if given.is_empty() {
        return Err(Error::Required("p_operations").into());
    }
    let mut wanted = Vec::with_capacity(given.len());
    for operation in &given {
        let name = operation.as_deref().unwrap_or("null").trim().to_uppercase();
        let Some(known) = Operation::parse(&name) else {
            return Err(Error::Invalid {
                name: "p_operations",
                message: quoted(operation.as_deref().unwrap_or("null")),
                hint: format!("Use one or more of {}.", words(Operation::ALL).join(", ")),
            }
            .into());
        };
        wanted.push(known);
    }
    let mut ordered = Operation::ALL.to_vec();
    ordered.retain(|operation| wanted.contains(operation));
    Ok(words(&ordered))
}

fn words(operations: &[Operation]) -> Vec<String> {
    operations
        .iter()
        .map(|operation| operation.as_str().to_owned())
        .collect()
}

/// Waits for other subscriptions of the installation, and raises when there is no room for one more.
fn check_room(installation: Uuid, schema: &str, table: &str) -> Result<()> {
    room::check(
        room::Of::Installation(installation),
        "SELECT NOT EXISTS (SELECT FROM int.plugin_webhook_subscriptions
                            WHERE plugin_installation_id = $1 AND table_schema = $2 AND table_name = $3)
            AND (SELECT pg_catalog.count(*) FROM int.plugin_webhook_subscriptions
                 WHERE plugin_installation_id = $1) >= $4",
        vec![installation.into(), schema.into(), table.into()],
    )
}

#[pg_extern(sql = false)]
fn rpc_upsert_plugin_webhook_subscription(
    p_tenant_id: Option<Uuid>,
    p_installation_id: Option<Uuid>,
    p_table_schema: Option<ShortText>,
    p_table_name: Option<ShortText>,
    p_operations: Option<Names>,
    p_changed_fields_allowlist: Option<Names>,
    p_include_payload: Option<bool>,
) -> Result<Option<Uuid>> {
    let caller = caller::authorize(p_tenant_id)?;
    rate_limit::SUBSCRIBE.count(&caller)?;
    let installation = required("p_installation_id", p_installation_id)?;
    let schema = limits::name("p_table_schema", p_table_schema)?;
    let table = limits::name("p_table_name", p_table_name)?;
    let operations = checked_operations(p_operations)?;
    let allowlist = limits::columns("p_changed_fields_allowlist", p_changed_fields_allowlist)?;
    check_owned(&caller, installation)?;
    check_room(installation, &schema, &table)?;
    Ok(tables::SUBSCRIPTIONS.write_returning::<Uuid>(
        "INSERT INTO int.plugin_webhook_subscriptions AS s
             (plugin_installation_id, table_schema, table_name, operations, changed_fields_allowlist, include_payload)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (plugin_installation_id, table_schema, table_name) DO UPDATE SET
             operations = excluded.operations,
             changed_fields_allowlist = excluded.changed_fields_allowlist,
             include_payload = excluded.include_payload,
             updated_at = pg_catalog.now()
         RETURNING id",
        &[
            installation.into(),
            schema.into(),
            table.into(),
            operations.into(),
            allowlist.into(),
            p_include_payload.unwrap_or(false).into(),
        ],
    ))
}

#[pg_extern(sql = false)]
fn rpc_delete_plugin_webhook_subscription(
    p_tenant_id: Option<Uuid>,
    p_subscription_id: Option<Uuid>,
) -> Result<()> {
    let caller = caller::authorize(p_tenant_id)?;
    rate_limit::UNSUBSCRIBE.count(&caller)?;
    let subscription = required("p_subscription_id", p_subscription_id)?;
    let installation = tables::SUBSCRIPTIONS
        .one::<Uuid>(
            "SELECT plugin_installation_id FROM int.plugin_webhook_subscriptions WHERE id = $1",
            &[subscription.into()],
        )
        .ok_or(Error::Unknown("subscription"))?;
    check_owned(&caller, installation)?;
    tables::SUBSCRIPTIONS.write(
        "DELETE FROM int.plugin_webhook_subscriptions WHERE id = $1",
        &[subscription.into()],
    );
    Ok(())
}
