//! Whose an installation is. What hangs on an installation belongs to the same tenant.

use pgrx::Uuid;

use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::tables;

/// Raises unless the installation exists and belongs to the caller's tenant.
pub fn check_owned(caller: &Caller, installation: Uuid) -> Result<()> {
    let owner = tables::INSTALLATIONS.one::<Uuid>(
        "SELECT tenant_id FROM int.plugin_installations WHERE id = $1",
        &[installation.into()],
    );
    match owner {
        None => Err(Error::Unknown("installation").into()),
        Some(owner) if owner != caller.tenant => Err(Error::ForeignInstallation.into()),
        Some(_) => Ok(()),
    }
}
