//! What neighbours do to a tenant's latency: one with 50,000 due deliveries and a bad endpoint, and ten with
//! ten installations each whose receivers answer 200, but late. Alone and beside each of them in turn, several
//! rounds in one run.

use std::time::Duration;

use anyhow::Result;
use plugin_webhooks_kit::{Reply, Server};

use super::figures::{Figures, percentile};
use super::load::{Load, RUNS, delays};

const RATE: u32 = 50;
const TIME: Duration = Duration::from_secs(10);
const VICTIM: usize = 1;
const FIRST_NEIGHBOUR: usize = 2;

/// Due deliveries of the neighbour with a bad endpoint.
const DUE: usize = 50_000;
/// Slow neighbours, installations of each, and due deliveries of each installation: more than they can send
/// within [`TIME`].
const TENANTS: usize = 10;
const INSTALLATIONS: usize = 10;
const DUE_EACH: usize = 200;

/// Whom the victim is measured beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    NeverAnswers,
    Refuses,
    Answers500,
    SlowSuccess,
    Backlog,
    Mixed,
}

impl Beside {
    const ALL: [Beside; 7] = [
        Beside::Nobody,
        Beside::NeverAnswers,
        Beside::Refuses,
        Beside::Answers500,
        Beside::SlowSuccess,
        Beside::Backlog,
        Beside::Mixed,
    ];

    fn name(self) -> &'static str {
        match self {
            Beside::Nobody => "alone",
            Beside::NeverAnswers => "never answers",
            Beside::Refuses => "refuses",
            Beside::Answers500 => "answers 500",
            Beside::SlowSuccess => "slow success (200 after 100 s)",
            Beside::Backlog => "backlog (200 after 0.9 s)",
            Beside::Mixed => "mixed",
        }
    }

    /// Installs the neighbours and fills their queue.
    fn prepare(self, load: &mut Load) -> Result<()> {
        let late = |after: f64| Reply::Delay(Duration::from_secs_f64(after), Box::new(Reply::ok()));
        let failure = Reply::Status(500, "no".to_owned());
        load.receiver.answer("/hang", Reply::Hang);
        load.receiver.answer("/500", failure);
        load.receiver.answer("/success", late(100.0));
        load.receiver.answer("/backlog", late(0.9));
        let url = |path: &str| load.receiver.url(path);
        match self {
            Beside::Nobody => Ok(()),
            Beside::NeverAnswers => one(load, &url("/hang")),
            Beside::Refuses => one(load, "http://127.0.0.1:9/"),
            Beside::Answers500 => one(load, &url("/500")),
            Beside::SlowSuccess => many(load, &[url("/success")]),
            Beside::Backlog => many(load, &[url("/backlog")]),
            Beside::Mixed => many(load, &[url("/success"), url("/backlog")]),
        }
    }
}

fn one(load: &mut Load, url: &str) -> Result<()> {
    load.install(FIRST_NEIGHBOUR, 1, url)?;
    load.insert(FIRST_NEIGHBOUR, 1, DUE)
}

/// The installations of each tenant take the URLs in turn.
fn many(load: &mut Load, urls: &[String]) -> Result<()> {
    for n in 0..INSTALLATIONS {
        let (plugin, url) = (format!("bench_{n}"), &urls[n % urls.len()]);
        let config = format!(r#"{{"webhook_url": "{url}", "timeout_ms": 120000}}"#);
        load.install_plugin(&plugin, FIRST_NEIGHBOUR, TENANTS, &config)?;
    }
    load.insert(FIRST_NEIGHBOUR, TENANTS, DUE_EACH)
}

pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    let mut delays = [const { Vec::new() }; Beside::ALL.len()];
    for run in 1..=RUNS {
        for (beside, delays) in Beside::ALL.into_iter().zip(&mut delays) {
            delays.push(p99(server, beside)?);
        }
        let columns = Beside::ALL.iter().zip(&delays);
        let columns: Vec<String> = columns
            .map(|(beside, delays)| format!("{} {:.2} ms", beside.name(), delays[run - 1]))
            .collect();
        println!("run {run}: p99 {}", columns.join(", "));
    }
    let [alone, neighbours @ ..] = &delays;
    figures.add(
        format!("latency p99 alone at {RATE} changes/s"),
        "ms",
        alone.clone(),
        "one tenant, nothing else to do",
    );
    for (beside, delays) in Beside::ALL[1..].iter().zip(neighbours) {
        let ratios = delays
            .iter()
            .zip(alone)
            .map(|(beside, alone)| beside / alone);
        let name = format!("p99 beside: {}", beside.name());
        figures.add(
            format!("{name}, ratio"),
            "of alone",
            ratios.collect(),
            "within each run",
        );
        figures.add(name, "ms", delays.clone(), "");
    }
    Ok(())
}

fn p99(server: &Server, beside: Beside) -> Result<f64> {
    let mut load = Load::new(server)?;
    let url = load.receiver.url("/hook");
    load.install(VICTIM, 1, &url)?;
    beside.prepare(&mut load)?;
    let delays = delays(&mut load, VICTIM, RATE, TIME, "/hook")?;
    Ok(percentile(&delays, 0.99))
}
