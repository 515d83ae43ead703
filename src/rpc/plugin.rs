//! Plugins that can be installed: `int.plugins` is written here and nowhere else.

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::error::{Error, Result, quoted, required_text};
use crate::tables;

fn check_key(key: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !(2..=80).contains(&key.len()) || !key.chars().all(allowed) {
        return Err(Error::Invalid {
            name: "p_key",
            message: quoted(key),
            hint: "Use 2 to 80 characters of a-z, 0-9 and _.".into(),
        }
        .into());
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn rpc_register_plugin(
    p_key: Option<&str>,
    p_name: Option<&str>,
    p_description: Option<&str>,
    p_is_integration: Option<bool>,
    p_is_active: Option<bool>,
) -> Result<Option<Uuid>> {
    let key = required_text("p_key", p_key)?;
    let name = required_text("p_name", p_name)?;
    check_key(key)?;
    Ok(tables::PLUGINS.write_returning::<Uuid>(
        "INSERT INTO int.plugins AS p (key, name, description, is_integration, is_active)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (key) DO UPDATE SET
             name = excluded.name, description = excluded.description,
             is_integration = excluded.is_integration, is_active = excluded.is_active,
             updated_at = pg_catalog.now()
         RETURNING id",
        &[
            key.into(),
            name.into(),
            p_description.into(),
            p_is_integration.unwrap_or(false).into(),
            p_is_active.unwrap_or(true).into(),
        ],
    ))
}
