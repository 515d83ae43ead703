//! Attaches the audit triggers to tables, and detaches them.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;

use crate::change::Operation;
use crate::error::{self, Error, quoted, required};
use crate::pg;
use crate::text_enum::TextEnum;

pub(super) const FUNCTION: &str = "audit.log_entity_change";
/// Of a table whose statements may reach other tables' rows, and of the first version.
pub(super) const ROW_TRIGGER: &str = "plugin_webhooks_audit";
pub(super) const STATEMENT_TRIGGERS: [(&str, Operation, &str); 3] = [
    (
        "plugin_webhooks_audit_insert",
        Operation::Insert,
        "NEW TABLE AS new_rows",
    ),
    (
        "plugin_webhooks_audit_update",
        Operation::Update,
        "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    ),
    (
        "plugin_webhooks_audit_delete",
        Operation::Delete,
        "OLD TABLE AS old_rows",
    ),
];
/// Without them a change has no record_id and no tenant.
const ALWAYS_RECORDED: [&str; 2] = ["id", "tenant_id"];

/// A table that can be tracked.
struct Trackable {
    /// Qualified as the search_path needs it, and quoted.
    name: String,
    /// Whether each statement's rows are exactly this table's: it is no partition, has none, and
    /// neither inherits nor is inherited from.
    stands_alone: bool,
    columns: Vec<String>,
}

fn trackable(table: pg_sys::Oid) -> error::Result<Trackable> {
    let found = pg::one_row(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::pg_catalog.text,
                n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast')
                    OR n.nspname = 'plugin_webhooks'
                    OR n.nspname = 'audit' AND c.relname = 'entity_changes'
                    OR n.nspname = 'int' AND c.relname IN ('plugin_delivery_queue', 'plugin_delivery_attempts')
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = $1",
        &[table.into()],
        |row| row.get_three::<String, String, bool>(),
    );
    let Some((Some(name), Some(kind), Some(system))) = found else {
        return Err(Error::Unknown("table").into());
    };
    let refuse = |reason| Error::NotTrackable {
        table: name.clone(),
        reason,
    };
    if system {
        return Err(refuse("it is a system table").into());
    }
    match kind.as_str() {
        "r" | "p" => {}
        "v" | "m" => return Err(refuse("it is a view; track its tables").into()),
        "f" => return Err(refuse("it is a foreign table").into()),
        _ => return Err(refuse("it is not a table").into()),
    }
    let related = pg::one::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE $1 IN (i.inhrelid, i.inhparent))",
        &[table.into()],
    );
    let columns = pg::one::<Vec<String>>(
        "SELECT pg_catalog.array_agg(a.attname::pg_catalog.text) FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
        &[table.into()],
    )
    .unwrap_or_default();
    if !columns.iter().any(|column| column == "id") {
        return Err(Error::NoIdColumn(name).into());
    }
    Ok(Trackable {
        name,
        stands_alone: kind == "r" && related != Some(true),
        columns,
    })
}

/// A trigger that calls the audit function.
struct Attached {
    name: String,
    /// The columns it leaves out.
    excluded: Vec<String>,
    /// It belongs to a trigger of the parent of a partition.
    is_clone: bool,
    enabled: bool,
}

impl Attached {
    fn is_ours(&self) -> bool {
        self.name == ROW_TRIGGER
            || STATEMENT_TRIGGERS
                .iter()
                .any(|(name, ..)| self.name == *name)
    }
}

fn attached(table: pg_sys::Oid) -> Vec<Attached> {
    let oids = pg::one::<Vec<pg_sys::Oid>>(
        "SELECT pg_catalog.array_agg(t.oid ORDER BY t.tgname) FROM pg_catalog.pg_trigger AS t
         WHERE t.tgrelid = $1 AND NOT t.tgisinternal
           AND t.tgfoid = 'audit.log_entity_change()'::pg_catalog.regprocedure",
        &[table.into()],
    )
    .unwrap_or_default();
    oids.into_iter()
        .filter_map(|oid| {
            let (name, clone, enabled, arguments) = pg::one_row(
                "SELECT t.tgname::pg_catalog.text, t.tgparentid <> 0, t.tgenabled <> 'D', t.tgargs
                 FROM pg_catalog.pg_trigger AS t WHERE t.oid = $1",
                &[oid.into()],
                |row| {
                    Ok((
                        row.get::<String>(1)?,
                        row.get::<bool>(2)?,
                        row.get::<bool>(3)?,
                        row.get::<Vec<u8>>(4)?,
                    ))
                },
            )?;
            Some(Attached {
                name: name?,
                excluded: arguments
                    .unwrap_or_default()
                    .split_inclusive(|byte| *byte == 0)
                    .map(|argument| {
                        String::from_utf8_lossy(&argument[..argument.len() - 1]).into_owned()
                    })
                    .collect(),
                is_clone: clone?,
                enabled: enabled?,
            })
        })
        .collect()
}

fn check_excluded(table: &Trackable, excluded: &[String]) -> error::Result<()> {
    for column in excluded {
        if ALWAYS_RECORDED.contains(&column.as_str()) {
            return Err(Error::Invalid {
                name: "p_exclude",
                message: format!("column {} cannot be excluded", quoted(column)),
                hint: "The log needs id and tenant_id to say what changed and whose it is.".into(),
            }
            .into());
        }
        if !table.columns.contains(column) {
            return Err(Error::Invalid {
                name: "p_exclude",
                message: format!("table {} has no column {}", table.name, quoted(column)),
                hint: "Name existing columns, without quotes.".into(),
            }
            .into());
        }
    }
    Ok(())
}

fn attach(table: &Trackable, excluded: &[String]) {
    let arguments = excluded
        .iter()
        .map(pgrx::spi::quote_literal)
        .collect::<Vec<_>>()
        .join(", ");
    let create = |name: &str, event: &str, level: &str| {
        run(&format!(
            "CREATE TRIGGER {name} AFTER {event} ON {} {level} EXECUTE FUNCTION {FUNCTION}({arguments})",
            table.name
        ));
    };
    if table.stands_alone {
        for (name, event, transition) in STATEMENT_TRIGGERS {
            create(
                name,
                event.as_str(),
                &format!("REFERENCING {transition} FOR EACH STATEMENT"),
            );
        }
    } else {
        let every = Operation::ALL
            .iter()
            .map(|event| event.as_str())
            .collect::<Vec<_>>();
        create(ROW_TRIGGER, &every.join(" OR "), "FOR EACH ROW");
    }
}

fn detach(table: &str, trigger: &Attached) {
    run(&format!(
        "DROP TRIGGER {} ON {table}",
        pgrx::spi::quote_identifier(&trigger.name)
    ));
}

pub(super) fn run(statement: &str) {
    Spi::run(statement).unwrap_or_report();
}

/// Attaches the triggers that the table lacks. `exclude`: the columns that they leave out from now on; `None`:
/// those that they leave out already.
pub fn track_table(table: pg_sys::Oid, exclude: Option<Vec<String>>) -> error::Result<()> {
    let target = trackable(table)?;
    let mut present = attached(table);
    // What track_all() has disabled is in nobody's way, except that its list holds, too.
    let in_the_way = |trigger: &&Attached| {
        trigger.is_clone || !trigger.is_ours() && (trigger.enabled || exclude.is_some())
    };
    if let Some(foreign) = present.iter().find(in_the_way) {
        // Whoever made it decides what it records.
        if exclude.is_some() {
            return Err(Error::NotTrackable {
                table: target.name,
                reason: if foreign.is_clone {
                    "its parent is tracked; say there what to exclude"
                } else {
                    "a trigger of another name already calls audit.log_entity_change(); audit.untrack() it first"
                },
            }
            .into());
        }
        return Ok(());
    }
    let mut excluded = match exclude {
        Some(columns) => {
            check_excluded(&target, &columns)?;
            columns
        }
        None => present
            .iter()
            .flat_map(|trigger| trigger.excluded.clone())
            .collect(),
    };
    excluded.sort_unstable();
    excluded.dedup();
    present.retain(Attached::is_ours);
    let wanted: &[&str] = if target.stands_alone {
        &STATEMENT_TRIGGERS.map(|(name, ..)| name)
    } else {
        &[ROW_TRIGGER]
    };
    let as_wanted = present.len() == wanted.len()
        && present
            .iter()
            .all(|trigger| wanted.contains(&trigger.name.as_str()) && trigger.excluded == excluded);
    if !as_wanted {
        for trigger in &present {
            detach(&target.name, trigger);
        }
        attach(&target, &excluded);
    }
    Ok(())
}

#[pg_extern(sql = false)]
fn track_except(
    p_table: Option<pg_sys::Oid>,
    p_exclude: Option<Vec<Option<String>>>,
) -> error::Result<()> {
    let table = required("p_table", p_table)?;
    let exclude = p_exclude
        .map(|columns| {
            columns
                .into_iter()
                .map(|column| required("p_exclude", column))
                .collect::<error::Result<Vec<_>>>()
        })
        .transpose()?;
    track_table(table, exclude)
}

#[pg_extern(sql = false)]
fn untrack(p_table: Option<pg_sys::Oid>) -> error::Result<()> {
    let table = required("p_table", p_table)?;
    let name = pg::one::<String>(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.oid = $1",
        &[table.into()],
    )
    .ok_or(Error::Unknown("table"))?;
    for trigger in attached(table).iter().filter(|trigger| !trigger.is_clone) {
        detach(&name, trigger);
    }
    Ok(())
}
