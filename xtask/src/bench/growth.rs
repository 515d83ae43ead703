//! What a million rows that are not to be sent cost those that are, and what an idle worker costs.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use plugin_webhooks_kit::{Server, wait_until};

use super::cpu;
use super::figures::Figures;
use super::load::{INSTALLATIONS, Load, PATIENCE, RUNS, drain};

const MILLION: usize = 1_000_000;
const IDLE: Duration = Duration::from_secs(20);

pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    let (mut plain, mut delivered, mut pending, mut purged) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 1..=RUNS {
        plain.push(drain(server, |_| Ok(()), |_| Ok(()))?.0);
        delivered.push(with_old(server, "delivered", 0)?);
        pending.push(with_old(server, "pending", 1)?);
        // Older than plugin_webhooks.retain_delivered.
        purged.push(with_old(server, "delivered", 60)?);
        println!(
            "run {run}: alone {:.0}/s, a million delivered {:.0}/s, pending {:.0}/s, being deleted {:.0}/s",
            plain[run - 1],
            delivered[run - 1],
            pending[run - 1],
            purged[run - 1]
        );
    }
    let ratio = |rates: &[f64]| {
        rates
            .iter()
            .zip(&plain)
            .map(|(rate, plain)| rate / plain)
            .collect()
    };
    figures.add(
        "throughput with a million delivered rows",
        "of plain",
        ratio(&delivered),
        "ratio within each run",
    );
    figures.add(
        "throughput with a million pending rows of a dead endpoint",
        "of plain",
        ratio(&pending),
        "ratio within each run",
    );
    figures.add(
        "throughput while a million old rows are deleted",
        "of plain",
        ratio(&purged),
        "ratio within each run",
    );
    idle(server, figures)
}

/// Throughput while the queue holds a million other rows.
fn with_old(server: &Server, status: &str, days: u32) -> Result<f64> {
    let fill = |load: &mut Load| {
        // Nobody listens on the discard port.
        load.install(INSTALLATIONS + 1, 1, "http://127.0.0.1:9/")?;
        load.insert_old(INSTALLATIONS + 1, MILLION, status, days)
    };
    Ok(drain(server, fill, |_| Ok(()))?.0)
}

/// CPU time and transaction ids of a worker without work.
fn idle(server: &Server, figures: &mut Figures) -> Result<()> {
    let (mut cpu, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let mut load = Load::new(server)?;
        let url = load.receiver.url("/hook");
        load.install(1, 1, &url)?;
        let mut pid = None;
        wait_until(PATIENCE, "the worker", || {
            let row = load
                .client
                .query_one("select plugin_webhooks.worker_pid()", &[]);
            pid = row.ok().and_then(|row| row.get::<_, Option<i32>>(0));
            pid.is_some()
        });
        let pid = pid.context("a worker")?;
        let next = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
        let first: i64 = load.client.query_one(next, &[])?.get(0);
        let before = cpu::of_process(pid);
        thread::sleep(IDLE);
        cpu.push((cpu::of_process(pid) - before) / IDLE.as_secs_f64() * 100.0);
        let last: i64 = load.client.query_one(next, &[])?.get(0);
        ids.push((last - first) as f64);
    }
    figures.add(
        "idle worker",
        "% of a core",
        cpu,
        "20 s without work, polling each second",
    );
    figures.add(
        "transaction ids taken meanwhile",
        "ids",
        ids,
        "by the whole server",
    );
    Ok(())
}
