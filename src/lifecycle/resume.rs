//! What makes a database the active instance: `resume()`, and the first plugin of a new one.
//! Which instance is active is answered in `instance`.

use pgrx::prelude::*;

use super::foreign_keys;
use crate::delivery::queue;
use crate::instance::{self, Instance, Place};
use crate::wake::wake_at_commit;
use crate::{error, pg};

#[pg_extern(sql = false)]
fn resume() {
    match instance::state() {
        Instance::Active => {}
        Instance::Unrecorded => {
            foreign_keys::check();
            become_active();
        }
        Instance::Copy(_) => {
            foreign_keys::check();
            // What the worker of the other instance had in flight.
            queue::return_all();
            become_active();
        }
    }
    // A restore or pg_upgrade leaves nothing bound; the install script binds by itself.
    if !pg::in_extension_script() {
        pg::one::<bool>(
            "SELECT true FROM (SELECT plugin_webhooks.attach_host()) AS x",
            &[],
        );
    }
    wake_at_commit();
}

fn become_active() {
    let here = Place::here();
    instance::as_owner(|| {
        pg::write("DELETE FROM plugin_webhooks.instance", &[]);
        pg::write(
            "INSERT INTO plugin_webhooks.instance (system_identifier, database_oid, extension_oid, site)
             VALUES ($1, $2, $3, $4)",
            &[
                here.system_identifier.into(),
                here.database.into(),
                here.extension.into(),
                here.site.into(),
            ],
        );
    });
}

/// The first plugin or installation of a database without deliveries makes it the active instance.
#[pg_trigger(sql = false)]
fn adopt<'a>(
    _trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    if instance::state() == Instance::Unrecorded && queue::is_empty() {
        become_active();
    }
    Ok(None)
}
