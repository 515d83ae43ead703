//! Replaces the row triggers of a former system by the statement triggers of `audit.track()`, where the audit log gets
//! the same rows in the same order for each record. The former triggers stay, disabled: so a dump carries them, they
//! follow the table through every change, and the way back enables them again.

use std::ffi::c_int;

use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::{name, pg_sys};

use super::track::{FUNCTION, ROW_TRIGGER, STATEMENT_TRIGGERS, run};
use crate::change::Operation;
use crate::error::{self, required};
use crate::pg::{self, TableLock};
use crate::text_enum::TextEnum;

/// Tables with a row trigger of another name that calls the audit function, and why one must keep it whatever its
/// triggers are.
const TABLES: &str = "
    SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname),
           CASE
               WHEN e.extname IS NOT NULL THEN pg_catalog.format('it belongs to extension %I', e.extname)
               WHEN c.relpersistence = 't' THEN 'it is temporary'
               WHEN c.relkind = 'f' THEN 'it is a foreign table'
               WHEN c.relkind = 'p' THEN 'it is partitioned'
               WHEN c.relispartition THEN 'it is a partition'
               WHEN c.relkind <> 'r' THEN 'it is not a table'
               WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent))
                   THEN 'it inherits or is inherited from'
               WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                                WHERE a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped)
                   THEN 'it has no column id'
               WHEN NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN 'it is not yours'
           END
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_depend AS d
      ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
     AND d.deptype = 'e'
    LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
    WHERE e.extname IS DISTINCT FROM 'plugin_webhooks' AND EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = c.oid AND t.tgfoid = 'audit.log_entity_change()'::pg_catalog.regprocedure
          AND NOT t.tgisinternal AND t.tgtype & 1 = 1 AND t.tgname <> 'plugin_webhooks_audit')
    ORDER BY n.nspname, c.relname";

/// Every trigger of a table in the order of firing. Those of foreign keys, and ours that stand for such, change rows of
/// other tables only.
const TRIGGERS: &str = "
    SELECT t.tgname::pg_catalog.text, t.tgtype::pg_catalog.int4, t.tgenabled::pg_catalog.text,
           t.tgfoid = 'audit.log_entity_change()'::pg_catalog.regprocedure,
           CASE
               WHEN t.tgtype & 66 <> 0 THEN 'is not fired after the change'
               WHEN t.tgqual IS NOT NULL THEN 'has a WHEN condition'
               WHEN pg_catalog.array_length(t.tgattr::pg_catalog.int2[], 1) > 0 THEN 'is fired by UPDATE OF columns'
               WHEN t.tgconstraint <> 0 OR t.tgdeferrable THEN 'is a constraint trigger'
               WHEN EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                            WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.objid = t.oid
                              AND d.deptype IN ('e', 'x')) THEN 'belongs to an extension'
           END,
           t.tgargs
    FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid = $1 AND NOT t.tgisinternal
      AND t.tgfoid <> 'plugin_webhooks.follow_host()'::pg_catalog.regprocedure
    ORDER BY t.tgname";

/// A session that keeps a table from being locked, first one that waits for us.
const IN_THE_WAY: &str = "
    SELECT l.pid, pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(l.pid))
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                        WHERE d.datname = pg_catalog.current_database())
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
    ORDER BY 2 DESC LIMIT 1";

struct Candidate {
    table: pg_sys::Oid,
    name: String,
    unfit: Option<String>,
}

struct Trigger {
    name: String,
    kind: i32,
    enabled: String,
    records: bool,
    /// What a statement trigger could not do like it.
    peculiarity: Option<String>,
    arguments: Vec<u8>,
}

impl Trigger {
    fn is_for_row(&self) -> bool {
        self.kind & pg_sys::TRIGGER_TYPE_ROW as i32 != 0
    }

    fn is_after(&self) -> bool {
        self.kind & (pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_INSTEAD) as i32 == 0
    }

    fn is_fired_by(&self, operation: Operation) -> bool {
        self.kind & operation.trigger_event() as c_int != 0
    }

    fn is_enabled(&self) -> bool {
        self.enabled != "D"
    }

    fn is_ours(&self) -> bool {
        self.records
            && (self.name == ROW_TRIGGER
                || STATEMENT_TRIGGERS
                    .iter()
                    .any(|(name, ..)| self.name == *name))
    }

    /// A row trigger of the former system.
    fn is_former(&self) -> bool {
        self.records && self.is_for_row() && !self.is_ours()
    }
}

/// What becomes of a table.
#[derive(Default)]
struct Plan {
    /// Recorded once a statement.
    by_statement: Vec<Operation>,
    /// Recorded for each row, because another trigger is fired beside.
    by_row: Vec<Operation>,
    /// The triggers that these replace.
    former: Vec<String>,
    excluded: Vec<String>,
    remark: Option<String>,
}

fn candidates() -> Vec<Candidate> {
    pg::connect(|client| {
        let mut found = Vec::new();
        for row in client.select(TABLES, None, &[])? {
            if let (Some(table), Some(name)) = (row.get(1)?, row.get(2)?) {
                found.push(Candidate {
                    table,
                    name,
                    unfit: row.get(3)?,
                });
            }
        }
        Ok::<_, pgrx::spi::SpiError>(found)
    })
    .unwrap_or_report()
}

fn triggers(table: pg_sys::Oid) -> Vec<Trigger> {
    pg::connect(|client| {
        let mut found = Vec::new();
        for row in client.select(TRIGGERS, None, &[table.into()])? {
            found.push(Trigger {
                name: row.get(1)?.unwrap_or_default(),
                kind: row.get(2)?.unwrap_or_default(),
                enabled: row.get(3)?.unwrap_or_default(),
                records: row.get(4)? == Some(true),
                peculiarity: row.get(5)?,
                arguments: row.get(6)?.unwrap_or_default(),
            });
        }
        Ok::<_, pgrx::spi::SpiError>(found)
    })
    .unwrap_or_report()
}

/// How a table of its own is recorded from now on, or why its triggers stay.
fn plan(triggers: &[Trigger]) -> Result<Plan, String> {
    let recording = || triggers.iter().filter(|trigger| trigger.records);
    let ours = || recording().filter(|trigger| trigger.is_ours());
    let former = || recording().filter(|trigger| trigger.is_former());
    if former().all(|trigger| !trigger.is_enabled()) && ours().any(Trigger::is_enabled) {
        return Err("it is replaced already".into());
    }
    for trigger in recording() {
        let name = &trigger.name;
        if let Some(peculiarity) = &trigger.peculiarity {
            return Err(format!("trigger {name} {peculiarity}"));
        }
        match trigger.enabled.as_str() {
            "O" => {}
            "D" => return Err(format!("trigger {name} is disabled")),
            _ => return Err(format!("trigger {name} is ENABLE ALWAYS or REPLICA")),
        }
        if !trigger.is_for_row() && !trigger.is_ours() {
            return Err(format!("trigger {name} is fired once a statement already"));
        }
        if trigger.name == ROW_TRIGGER {
            return Err(format!("trigger {name} of audit.track() is beside it"));
        }
    }
    let mut plan = Plan {
        former: former().map(|trigger| trigger.name.clone()).collect(),
        ..Plan::default()
    };
    for trigger in recording() {
        let arguments = trigger.arguments.split_inclusive(|byte| *byte == 0);
        plan.excluded.extend(arguments.map(|argument| {
            String::from_utf8_lossy(argument.strip_suffix(&[0]).unwrap_or(argument)).into_owned()
        }));
    }
    plan.excluded.sort_unstable();
    plan.excluded.dedup();
    let mut remarks = Vec::new();
    for (statement_trigger, operation, _) in STATEMENT_TRIGGERS {
        let mut recorders = former().filter(|trigger| trigger.is_fired_by(operation));
        let Some(recorder) = recorders.next() else {
            continue;
        };
        let event = operation.as_str();
        if let Some(second) = recorders.next() {
            return Err(format!(
                "triggers {} and {} both record each {event}",
                recorder.name, second.name
            ));
        }
        let beside = || {
            triggers.iter().filter(|trigger| {
                !trigger.records
                    && trigger.is_after()
                    && trigger.is_enabled()
                    && trigger.is_fired_by(operation)
            })
        };
        // A trigger that is fired for each row may change tables that are recorded, this one too; a statement trigger
        // whose name comes first would not find what was recorded.
        let Some(other) =
            beside().find(|other| other.is_for_row() || other.name.as_str() < statement_trigger)
        else {
            plan.by_statement.push(operation);
            continue;
        };
        let same_order = beside()
            .filter(|other| other.is_for_row())
            .all(|other| (other.name < recorder.name) == (other.name.as_str() < ROW_TRIGGER));
        if !same_order {
            return Err(format!(
                "trigger {} is fired beside {} by {event}, in the order of their names",
                other.name, recorder.name
            ));
        }
        plan.by_row.push(operation);
        remarks.push(format!(
            "{event} stays row by row, beside trigger {}",
            other.name
        ));
    }
    if plan.by_statement.is_empty() {
        return Err(remarks.join("; "));
    }
    plan.remark = (!remarks.is_empty()).then(|| remarks.join("; "));
    Ok(plan)
}

/// Locks a table against writers. Never waits long, nor for a session that waits for us: an application that writes
/// the tables in another order would have to fail.
fn lock(candidate: &Candidate) -> Result<(), String> {
    let table = candidate.table;
    if pg::try_lock_table(table, TableLock::ShareRowExclusive) {
        return Ok(());
    }
    let in_the_way = || {
        pg::one_row(IN_THE_WAY, &[table.into()], |row| {
            row.get_two::<i32, bool>()
        })
        .and_then(|(pid, waits)| Some((pid?, waits == Some(true))))
    };
    if !in_the_way().is_some_and(|(_, waits_for_us)| waits_for_us) {
        let statement = format!(
            "LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE",
            candidate.name
        );
        if pg::caught(|| run(&statement)).is_ok() {
            return Ok(());
        }
    }
    let session = in_the_way().map_or_else(String::new, |(pid, _)| format!(" by session {pid}"));
    Err(format!("it is in use{session}; try again"))
}

fn replace(table: &str, plan: &Plan) {
    let arguments = plan
        .excluded
        .iter()
        .map(pgrx::spi::quote_literal)
        .collect::<Vec<_>>()
        .join(", ");
    let create = |name: &str, events: &str, level: &str| {
        run(&format!(
            "CREATE OR REPLACE TRIGGER {name} AFTER {events} ON {table} {level} \
             EXECUTE FUNCTION {FUNCTION}({arguments})"
        ));
    };
    for (name, operation, transition) in STATEMENT_TRIGGERS {
        if plan.by_statement.contains(&operation) {
            let level = format!("REFERENCING {transition} FOR EACH STATEMENT");
            create(name, operation.as_str(), &level);
        }
    }
    if !plan.by_row.is_empty() {
        let events: Vec<_> = plan.by_row.iter().map(|event| event.as_str()).collect();
        create(ROW_TRIGGER, &events.join(" OR "), "FOR EACH ROW");
    }
    for trigger in &plan.former {
        run(&format!(
            "ALTER TABLE {table} DISABLE TRIGGER {}",
            pgrx::spi::quote_identifier(trigger)
        ));
    }
}

fn consider(candidate: &Candidate, dry_run: bool) -> Result<Option<String>, String> {
    if let Some(unfit) = &candidate.unfit {
        return Err(unfit.clone());
    }
    let mut wanted = plan(&triggers(candidate.table))?;
    if !dry_run {
        pg::caught(|| {
            lock(candidate)?;
            // Nobody changes them any more.
            let wanted = plan(&triggers(candidate.table))?;
            replace(&candidate.name, &wanted);
            Ok(wanted)
        })
        .and_then(|done| done.map(|done| wanted = done))?;
    }
    Ok(wanted.remark)
}

#[pg_extern(sql = false)]
fn track_all(
    dry_run: Option<bool>,
) -> error::Result<
    TableIterator<
        'static,
        (
            name!(tracked, pg_sys::Oid),
            name!(action, &'static str),
            name!(reason, Option<String>),
        ),
    >,
> {
    let dry_run = required("dry_run", dry_run)?;
    let considered: Vec<_> = candidates()
        .iter()
        .map(|candidate| match consider(candidate, dry_run) {
            Ok(remark) => (candidate.table, "replace", remark),
            Err(reason) => (candidate.table, "keep", Some(reason)),
        })
        .collect();
    Ok(TableIterator::new(considered))
}
