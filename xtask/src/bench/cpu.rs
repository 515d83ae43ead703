//! CPU time of the server's processes and threads, from /proc.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use plugin_webhooks_kit::Server;

use super::load::Load;

/// CPU seconds by what they are spent on.
#[derive(Clone, Debug, Default)]
pub struct Usage(HashMap<&'static str, f64>);

const WORKER: &str = "the worker's main thread";
const SENDERS: &str = "its sender threads";
const SERVER: &str = "the server's other processes";
const OURSELVES: &str = "the receiver";

impl Usage {
    pub const NAMES: [(&'static str, &'static str); 4] = [
        (WORKER, "claim, sign, settle, log"),
        (SENDERS, "HTTP"),
        (
            SERVER,
            "WAL writer, checkpointer, autovacuum; inserting backend",
        ),
        (OURSELVES, "this process"),
    ];

    pub fn now(server: &Server, load: &mut Load) -> Result<Usage> {
        let worker: Option<i32> = load
            .client
            .query_one("select plugin_webhooks.worker_pid()", &[])?
            .get(0);
        let backend: i32 = load
            .client
            .query_one("select pg_backend_pid()", &[])?
            .get(0);
        let mut usage = HashMap::new();
        let mut add = |name, seconds| *usage.entry(name).or_insert(0.0) += seconds;
        for (pid, parent, seconds) in processes() {
            if Some(pid) == worker {
                for (name, seconds) in threads(pid) {
                    add(
                        if name == "webhook-sender" {
                            SENDERS
                        } else {
                            WORKER
                        },
                        seconds,
                    );
                }
            } else if parent == server.postmaster_pid() && pid != backend {
                add(SERVER, seconds);
            }
        }
        let ourselves = i32::try_from(std::process::id()).context("a process id")?;
        add(
            OURSELVES,
            threads(ourselves).iter().map(|(_, seconds)| seconds).sum(),
        );
        Ok(Usage(usage))
    }

    pub fn since(&self, before: &Usage) -> Usage {
        let spent = |(name, seconds): (&&'static str, &f64)| {
            (*name, seconds - before.0.get(*name).unwrap_or(&0.0))
        };
        Usage(self.0.iter().map(spent).collect())
    }

    pub fn micros(&self, name: &str, deliveries: usize) -> f64 {
        self.0.get(name).unwrap_or(&0.0) * 1e6 / deliveries as f64
    }
}

/// CPU seconds of the worker of a database, all threads.
pub fn of_process(pid: i32) -> f64 {
    threads(pid).iter().map(|(_, seconds)| seconds).sum()
}

/// Process id, parent and CPU seconds of every process.
fn processes() -> Vec<(i32, i32, f64)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let (_, fields) = stat(&format!("/proc/{pid}/stat"))?;
            Some((pid, fields.get(1)?.parse().ok()?, seconds(&fields)?))
        })
        .collect()
}

/// Name and CPU seconds of every thread.
fn threads(pid: i32) -> Vec<(String, f64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let (name, fields) = stat(&entry.ok()?.path().join("stat").to_string_lossy())?;
            Some((name, seconds(&fields)?))
        })
        .collect()
}

/// Name and the fields from the state on, see proc(5).
fn stat(path: &str) -> Option<(String, Vec<String>)> {
    let text = fs::read_to_string(path).ok()?;
    let (before, after) = text.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    Some((name, after.split_whitespace().map(str::to_owned).collect()))
}

fn seconds(fields: &[String]) -> Option<f64> {
    // Ticks of utime and stime; Linux counts 100 a second.
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
