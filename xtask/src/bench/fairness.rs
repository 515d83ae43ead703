//! What a neighbour with 50,000 due deliveries and a bad endpoint does to another tenant's latency.

use std::time::Duration;

use anyhow::Result;
use plugin_webhooks_kit::{Reply, Server};

use super::figures::{Figures, percentile};
use super::load::{Load, RUNS, delays};

const DUE: usize = 50_000;
const RATE: u32 = 50;
const TIME: Duration = Duration::from_secs(20);
const VICTIM: usize = 1;
const NEIGHBOUR: usize = 2;

pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    let kinds = ["never answers", "refuses", "answers 500"];
    let mut alone = Vec::new();
    let mut ratios = vec![Vec::new(); kinds.len()];
    for run in 1..=RUNS {
        let base = p99(server, None)?;
        alone.push(base);
        for (kind, ratios) in kinds.iter().zip(&mut ratios) {
            let beside = p99(server, Some(kind))?;
            println!("run {run}: p99 alone {base:.2} ms, beside one that {kind} {beside:.2} ms");
            ratios.push(beside / base);
        }
    }
    figures.add(
        format!("latency p99 alone at {RATE} changes/s"),
        "ms",
        alone,
        "one tenant, nothing else to do",
    );
    for (kind, ratios) in kinds.iter().zip(ratios) {
        let name = format!("p99 beside {DUE} due of an endpoint that {kind}");
        figures.add(name, "of alone", ratios, "ratio within each run");
    }
    Ok(())
}

fn p99(server: &Server, neighbour: Option<&str>) -> Result<f64> {
    let mut load = Load::new(server)?;
    let url = load.receiver.url("/hook");
    load.install(VICTIM, 1, &url)?;
    if let Some(kind) = neighbour {
        load.receiver.answer("/hang", Reply::Hang);
        load.receiver
            .answer("/500", Reply::Status(500, "no".to_owned()));
        let url = match kind {
            "never answers" => load.receiver.url("/hang"),
            "refuses" => "http://127.0.0.1:9/".to_owned(),
            _ => load.receiver.url("/500"),
        };
        load.install(NEIGHBOUR, 1, &url)?;
        load.insert(NEIGHBOUR, 1, DUE)?;
    }
    let delays = delays(&mut load, VICTIM, RATE, TIME, "/hook")?;
    Ok(percentile(&delays, 0.99))
}
