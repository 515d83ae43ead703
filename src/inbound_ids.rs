//! The ids of partners' calls: each runs once at its installation, and is answered again. The only SQL on
//! `plugin_webhooks.inbound_ids`. Knows no action and no schedule.

use std::time::Duration;

use pgrx::{Uuid, pg_sys};

use crate::error::{Error, Result};
use crate::pg::{self, Jsonb};
use crate::tables;

/// An answer that is kept has at most so many bytes as text: a partner chooses how many are.
const LONGEST_ANSWER: usize = 64 << 10;

const PURGE: &str = "DELETE FROM plugin_webhooks.inbound_ids AS i
     WHERE i.ctid = ANY (ARRAY(
         SELECT o.ctid FROM plugin_webhooks.inbound_ids AS o
         WHERE o.created_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)
         ORDER BY o.created_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// Whether there is a table of them: not yet, while a new library runs on the schema of an older version.
pub fn exist() -> bool {
    pg::relation(tables::INBOUND_IDS).is_some()
}

/// Runs a call unless one with this id has run at the installation, whose answer is returned then. Waits for one
/// that is running. All in one transaction: of a call that fails nothing stays.
pub fn run_once(
    installation: Uuid,
    id: &str,
    call: impl FnOnce() -> Result<Jsonb>,
) -> Result<Jsonb> {
    if !exist() {
        // The older version knew no ids.
        return call();
    }
    while !claim(installation, id) {
        match answer(installation, id) {
            Some(Some(answer)) => return Ok(answer),
            // Nobody else sees it: this transaction is running it.
            Some(None) => return Err(Error::CallRunning.into()),
            // Deleted since.
            None => {}
        }
    }
    let answer = call()?;
    if answer.0.len() > LONGEST_ANSWER {
        return Err(Error::AnswerTooLong.into());
    }
    keep(installation, id, &answer);
    Ok(answer)
}

/// Whether the id is new here, and from now on this transaction's. Waits for another transaction that has it.
/// Where that one's row is invisible to this transaction's only snapshot PostgreSQL raises 40001.
fn claim(installation: Uuid, id: &str) -> bool {
    let claimed = tables::INBOUND_IDS.write_returning::<bool>(
        "INSERT INTO plugin_webhooks.inbound_ids (plugin_installation_id, id) VALUES ($1, $2)
         ON CONFLICT DO NOTHING RETURNING true",
        &[installation.into(), id.into()],
    );
    claimed == Some(true)
}

/// The answer beside an id, `None` without such an id. The row may be younger than the calling statement.
fn answer(installation: Uuid, id: &str) -> Option<Option<Jsonb>> {
    pg::with_latest_snapshot(|| {
        tables::INBOUND_IDS.one_row(
            "SELECT answer FROM plugin_webhooks.inbound_ids WHERE plugin_installation_id = $1 AND id = $2",
            &[installation.into(), id.into()],
            |row| row.get_one::<Jsonb>(),
        )
    })
}

fn keep(installation: Uuid, id: &str, answer: &Jsonb) {
    tables::INBOUND_IDS.write(
        "UPDATE plugin_webhooks.inbound_ids SET answer = $3 WHERE plugin_installation_id = $1 AND id = $2",
        &[installation.into(), id.into(), answer.clone().into()],
    );
}

/// Deletes up to `rows` ids that are older than `age`, the oldest first; returns how many.
pub fn purge(rows: i32, age: Duration) -> usize {
    let types = [pg_sys::BuiltinOid::FLOAT8OID, pg_sys::BuiltinOid::INT4OID];
    let args = [age.as_secs_f64().into(), rows.into()];
    tables::INBOUND_IDS.run_kept(PURGE, &types, &args, |table| Ok(table.len()))
}
