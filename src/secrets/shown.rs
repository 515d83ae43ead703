//! What the views of operators show: secrets without their values, and who refers to which. Reads nothing that is
//! encrypted.

use pgrx::prelude::*;
use pgrx::{Uuid, name};

use crate::tables;

type Text = Option<String>;
type Time = Option<TimestampWithTimeZone>;

/// The rows of plugin_webhooks.secret_names.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn stored_secrets() -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(name, Text),
        name!(description, Text),
        name!(key_id, Text),
        name!(created_at, Time),
        name!(updated_at, Time),
        name!(tenant_id, Option<Uuid>),
        name!(plugin_key, Text),
    ),
> {
    TableIterator::new(tables::SECRETS.rows(
        "SELECT s.id, s.name, s.description, s.key_id, s.created_at, s.updated_at, s.tenant_id, s.plugin_key
         FROM plugin_webhooks.secrets AS s",
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(8)?,
            ))
        },
    ))
}

/// Installations that refer to a secret, for plugin_webhooks.refused_secret_refs.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn secret_refs() -> TableIterator<
    'static,
    (
        name!(tenant_id, Option<Uuid>),
        name!(installation_id, Option<Uuid>),
        name!(plugin_key, Text),
        name!(status, Text),
        name!(secret_ref, Text),
    ),
> {
    // Plugins and installations have one owner.
    TableIterator::new(tables::INSTALLATIONS.rows(
        "SELECT i.tenant_id, i.id, p.key, i.status, i.secret_ref FROM int.plugin_installations AS i
         JOIN int.plugins AS p ON p.id = i.plugin_id WHERE i.secret_ref IS NOT NULL",
        |row| {
            Ok((
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
            ))
        },
    ))
}
