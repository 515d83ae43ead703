//! What change capture and enqueueing cost a writer, beside the same in PL/pgSQL: one server, one run,
//! the same table, the same indexes. Each figure is microseconds a row over no trigger at all.

use anyhow::Result;
use plugin_webhooks_e2e::postgres::Client;
use plugin_webhooks_e2e::{Database, Server};

use super::{Figures, percentile};

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
    prepare: &'static str,
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
        prepare: "",
        hear: 0,
        deaf: 0,
        strangers: 0,
    },
    Scene {
        name: "one subscription",
        prepare: "",
        hear: 1,
        deaf: 0,
        strangers: 0,
    },
    Scene {
        name: "one of 100 subscriptions",
        prepare: "",
        hear: 1,
        deaf: 99,
        strangers: 0,
    },
    Scene {
        name: "one, 10,000 of other tenants",
        prepare: "",
        hear: 1,
        deaf: 0,
        strangers: 10_000,
    },
    Scene {
        name: "audit only, seven indexes",
        prepare: "select seven_indexes()",
        hear: 0,
        deaf: 0,
        strangers: 0,
    },
    Scene {
        name: "one subscription, seven indexes",
        prepare: "select seven_indexes()",
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
    for scene in &SCENES {
        println!("{}", scene.name);
        let database = prepare(server, scene)?;
        let mut times = Times::new();
        for _ in 0..ROUNDS {
            for way in WAYS {
                // A session of its own: nothing is planned for tables that were empty then.
                round(&database, way, &mut times)?;
            }
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
    client.batch_execute(scene.prepare)?;
    client.execute(
        "select subscribe($1::text::uuid, $2, $3, $4)",
        &[
            &TENANT,
            &i32::try_from(scene.hear)?,
            &i32::try_from(scene.deaf)?,
            &i32::try_from(scene.strangers)?,
        ],
    )?;
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

fn round(database: &Database, way: &'static str, times: &mut Times) -> Result<()> {
    let mut client = database.client();
    client.batch_execute("set statement_timeout = 0; set synchronous_commit = off")?;
    for (name, statement) in BULK_STATEMENTS {
        let micros = timed(&mut client, &filled(statement, way))? / BULK as f64;
        times.add("bulk", name, way, micros);
    }
    client.batch_execute(&format!("alter table {way} alter id restart with 1"))?;
    for (name, statement) in SINGLE_STATEMENTS {
        let micros = timed(
            &mut client,
            &format!(
                "do $$ begin for k in 1 .. {SINGLE} loop {}; end loop; end $$",
                filled(statement, way)
            ),
        )? / SINGLE as f64;
        times.add("single", name, way, micros);
    }
    // What is left over must not slow the next way down.
    for statement in [
        "delete from pl.queue",
        "delete from int.plugin_delivery_queue",
        "vacuum",
        "checkpoint",
    ] {
        client.batch_execute(statement)?;
    }
    Ok(())
}

/// Microseconds of a statement.
fn timed(client: &mut Client, statement: &str) -> Result<f64> {
    let started = std::time::Instant::now();
    client.batch_execute(statement)?;
    Ok(started.elapsed().as_secs_f64() * 1e6)
}

/// Microseconds a row, by kind of statement and way of tracking.
struct Times(Vec<(&'static str, &'static str, &'static str, Vec<f64>)>);

impl Times {
    fn new() -> Times {
        Times(Vec::new())
    }

    fn add(&mut self, size: &'static str, name: &'static str, way: &'static str, micros: f64) {
        let known = self
            .0
            .iter_mut()
            .find(|(s, n, w, _)| (*s, *n, *w) == (size, name, way));
        match known {
            Some((.., runs)) => runs.push(micros),
            None => self.0.push((size, name, way, vec![micros])),
        }
    }

    fn median(&self, size: &str, name: &str, way: &str) -> f64 {
        self.0
            .iter()
            .find(|(s, n, w, _)| (*s, *n, *w) == (size, name, way))
            .map_or(f64::NAN, |(.., runs)| percentile(runs, 0.5))
    }

    fn report(&self, scene: &Scene, figures: &mut Figures) {
        for size in ["bulk", "single"] {
            for name in ["insert", "update", "delete"] {
                let plain = self.median(size, name, "plain");
                let over = |way| self.median(size, name, way) - plain;
                let (statement, row, model) =
                    (over("by_statement"), over("by_row"), over("plpgsql"));
                println!(
                    "  {size} {name}: no trigger {plain:.1} µs; over it: statement triggers {statement:.1}, row triggers {row:.1}, PL/pgSQL {model:.1}"
                );
                let title = format!("{}, {size} {name}", scene.name);
                figures.add(
                    format!("{title}: over no trigger"),
                    "µs/row",
                    vec![statement],
                    "statement triggers of audit.track, enqueueing included",
                );
                figures.add(
                    format!("{title}: of PL/pgSQL"),
                    "%",
                    vec![100.0 * statement / model],
                    "the same over the same, in PL/pgSQL",
                );
                figures.add(
                    format!("{title}, row triggers: of PL/pgSQL"),
                    "%",
                    vec![100.0 * row / model],
                    "a row trigger that calls audit.log_entity_change()",
                );
            }
        }
    }
}
