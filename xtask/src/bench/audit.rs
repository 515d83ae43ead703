//! What change capture and enqueueing cost a writer, beside the same in PL/pgSQL: one server, one run,
//! the same table, the same indexes. Each figure is microseconds a row over no trigger at all.

use std::collections::HashMap;

use anyhow::Result;
use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{Database, Server};

use super::figures::{Figures, percentile};
use super::statement_size;

const MODEL: &str = include_str!("audit.sql");
const ROUNDS: usize = 5;
const BULK: usize = 20_000;
const SINGLE: usize = 2_000;
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

/// Tables of the same shape, each tracked in its own way.
const WAYS: [&str; 4] = ["plain", "by_statement", "by_row", "plpgsql"];

/// What is subscribed before the measurement.
struct Scene {
    name: &'static str,
    /// Whether the log has the indexes of a database from before the extension.
    seven_indexes: bool,
    /// Installations of the tenant that hear of every change.
    hear: usize,
    /// Installations of the tenant that hear of another table.
    deaf: usize,
    /// The same of other tenants.
    strangers: usize,
}

const SCENES: [Scene; 6] = [
    Scene {
        name: "audit only",
        seven_indexes: false,
        hear: 0,
        deaf: 0,
        strangers: 0,
    },
    Scene {
        name: "one subscription",
        seven_indexes: false,
        hear: 1,
        deaf: 0,
        strangers: 0,
    },
    Scene {
        name: "one of 100 subscriptions",
        seven_indexes: false,
        hear: 1,
        deaf: 99,
        strangers: 0,
    },
    Scene {
        name: "one, 10,000 of other tenants",
        seven_indexes: false,
        hear: 1,
        deaf: 0,
        strangers: 10_000,
    },
    Scene {
        name: "audit only, seven indexes",
        seven_indexes: true,
        hear: 0,
        deaf: 0,
        strangers: 0,
    },
    Scene {
        name: "one subscription, seven indexes",
        seven_indexes: true,
        hear: 1,
        deaf: 0,
        strangers: 0,
    },
];

const BULK_STATEMENTS: [(&str, &str); 3] = [
    (
        "insert",
        "insert into {} (tenant_id, title, status, amount, due, active, n)
         select '{tenant}', 'title ' || k, 'open', k * 1.5, now(), true, k from base",
    ),
    ("update", "update {} set status = 'closed', n = n + 1"),
    ("delete", "delete from {}"),
];

/// Run in one transaction: what COMMIT costs is nobody's here.
const SINGLE_STATEMENTS: [(&str, &str); 3] = [
    (
        "insert",
        "insert into {} (tenant_id, title, status, amount, due, active, n)
         values ('{tenant}', 'title', 'open', 1.5, now(), true, k)",
    ),
    (
        "update",
        "update {} set status = 'closed', n = n + 1 where id = k",
    ),
    ("delete", "delete from {} where id = k"),
];

pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    server.alter_system("plugin_webhooks.dispatch", "on_call");
    server.reload();
    statement_size::measure(server, figures)?;
    for scene in &SCENES {
        println!("{}", scene.name);
        let database = prepare(server, scene)?;
        let mut times = Times::default();
        for _ in 0..ROUNDS {
            round(&database, &mut times)?;
        }
        times.report(scene, figures);
    }
    server.alter_system("plugin_webhooks.dispatch", "on_commit");
    server.reload();
    Ok(())
}

fn prepare(server: &Server, scene: &Scene) -> Result<Database> {
    let database = server.database();
    let mut client = database.client();
    client.batch_execute("set statement_timeout = 0")?;
    client.batch_execute(MODEL)?;
    if scene.seven_indexes {
        client.batch_execute("select seven_indexes()")?;
    }
    client.execute(
        "select subscribe($1::text::uuid, $2, $3, $4)",
        &[
            &TENANT,
            &i32::try_from(scene.hear)?,
            &i32::try_from(scene.deaf)?,
            &i32::try_from(scene.strangers)?,
        ],
    )?;
    client.batch_execute("analyze")?;
    for way in WAYS {
        for (_, statement) in BULK_STATEMENTS {
            client.batch_execute(&filled(statement, way))?;
        }
    }
    client.batch_execute("vacuum analyze")?;
    Ok(database)
}

fn filled(statement: &str, way: &str) -> String {
    statement.replace("{}", way).replace("{tenant}", TENANT)
}

/// Each statement in all ways, one after the other: what disturbs the machine disturbs them all.
fn round(database: &Database, times: &mut Times) -> Result<()> {
    // Sessions of their own: nothing is planned for tables that were empty then.
    let mut sessions: Vec<(&str, Client)> = WAYS.map(|way| (way, database.client())).into();
    for (way, client) in &mut sessions {
        client.batch_execute(&format!(
            "set statement_timeout = 0; set synchronous_commit = off; alter table {way} alter id restart with 1"
        ))?;
    }
    for (name, statement) in BULK_STATEMENTS {
        for (way, client) in &mut sessions {
            let micros = timed(client, &filled(statement, way))? / BULK as f64;
            times.add("bulk", name, way, micros);
        }
    }
    for (way, client) in &mut sessions {
        client.batch_execute(&format!("alter table {way} alter id restart with 1"))?;
    }
    for (name, statement) in SINGLE_STATEMENTS {
        for (way, client) in &mut sessions {
            let loop_of_singles = format!(
                "do $$ begin for k in 1 .. {SINGLE} loop {}; end loop; end $$",
                filled(statement, way)
            );
            let micros = timed(client, &loop_of_singles)? / SINGLE as f64;
            times.add("single", name, way, micros);
        }
    }
    // What is left over must not slow the next round down.
    for statement in [
        "delete from pl.queue",
        "delete from int.plugin_delivery_queue",
        "vacuum",
        "checkpoint",
    ] {
        sessions[0].1.batch_execute(statement)?;
    }
    Ok(())
}

/// Microseconds of a statement.
fn timed(client: &mut Client, statement: &str) -> Result<f64> {
    let started = std::time::Instant::now();
    client.batch_execute(statement)?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

/// Microseconds a row of each round, by kind of statement and way of tracking.
#[derive(Default)]
struct Times(HashMap<(&'static str, &'static str, String), Vec<f64>>);

impl Times {
    fn add(&mut self, size: &'static str, name: &'static str, way: &str, micros: f64) {
        self.0
            .entry((size, name, way.to_owned()))
            .or_default()
            .push(micros);
    }

    fn of(&self, size: &'static str, name: &'static str, way: &str) -> &[f64] {
        self.0
            .get(&(size, name, way.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// What a way costs over no trigger, round by round.
    fn over(&self, size: &'static str, name: &'static str, way: &str) -> Vec<f64> {
        let plain = self.of(size, name, "plain");
        self.of(size, name, way)
            .iter()
            .zip(plain)
            .map(|(micros, plain)| micros - plain)
            .collect()
    }

    fn report(&self, scene: &Scene, figures: &mut Figures) {
        for size in ["bulk", "single"] {
            for name in ["insert", "update", "delete"] {
                let [statement, row, model] =
                    ["by_statement", "by_row", "plpgsql"].map(|way| self.over(size, name, way));
                let share = |way: &[f64]| -> Vec<f64> {
                    way.iter()
                        .zip(&model)
                        .map(|(micros, model)| 100.0 * micros / model)
                        .collect()
                };
                let median = |runs: &[f64]| percentile(runs, 0.5);
                println!(
                    "  {size} {name}: no trigger {:.1} µs; over it: statement triggers {:.1} ({:.0} %), row triggers \
                    {:.1} ({:.0} %), PL/pgSQL {:.1}",
                    median(self.of(size, name, "plain")),
                    median(&statement),
                    median(&share(&statement)),
                    median(&row),
                    median(&share(&row)),
                    median(&model),
                );
                let title = format!("{}, {size} {name}", scene.name);
                figures.add(
                    format!("{title}: of PL/pgSQL"),
                    "%",
                    share(&statement),
                    "statement triggers of audit.track, over no trigger, enqueueing included",
                );
                figures.add(
                    format!("{title}, by row: of PL/pgSQL"),
                    "%",
                    share(&row),
                    "a row trigger that calls audit.log_entity_change()",
                );
                figures.add(
                    format!("{title}: over no trigger"),
                    "µs/row",
                    statement,
                    "statement triggers of audit.track",
                );
            }
        }
    }
}
