//! Matches new audit rows to subscriptions and inserts their deliveries, in the writer's
//! transaction, with the rights of the queue's owner. Wakes the worker when that commits.

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use crate::error::{self, Error};
use crate::settings::{self, Dispatch};
use crate::{home, host_keys, pg, worker};

const ENQUEUE: &str = include_str!("enqueue.sql");

#[pg_trigger(sql = false)]
fn enqueue_plugin_events_from_audit<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> error::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>> {
    let event = trigger.event();
    let has_inserted = trigger
        .new_transition_table_name()
        .is_ok_and(|name| name == Some("inserted"));
    if !event.fired_after() || !event.fired_for_statement() || !has_inserted {
        return Err(Error::TriggerProtocol {
            function: "int.enqueue_plugin_events_from_audit()",
            wanted: "AFTER INSERT, FOR EACH STATEMENT, with REFERENCING NEW TABLE AS inserted",
        }
        .into());
    }
    let data = std::ptr::from_ref(trigger.trigger_data()).cast_mut();
    let at_home = home::was_here();
    let _checked = host_keys::Enqueuing::declare();
    let enqueued = pg::as_owner_of(c"int", c"plugin_delivery_queue", || {
        Spi::connect(|client| {
            // SAFETY: makes the transition table visible to this SPI connection only.
            let code = unsafe { pg_sys::SPI_register_trigger_data(data) };
            Spi::check_status(code)?;
            let plan = pg::kept(client, ENQUEUE, &[pg_sys::BuiltinOid::BOOLOID]);
            client
                .select(plan, None, &[at_home.into()])
                .map(|table| table.len())
        })
    })
    .unwrap_or_report();
    if enqueued > 0 && settings::dispatch() == Dispatch::OnCommit {
        worker::wake_at_commit();
    }
    Ok(None)
}
