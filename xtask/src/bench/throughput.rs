//! Deliveries a second from a full queue, and what the cores do meanwhile.

use anyhow::Result;
use plugin_webhooks_kit::Server;

use super::cpu::Usage;
use super::figures::Figures;
use super::load::{DELIVERIES, INSTALLATIONS, RUNS, drain};

pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    let mut rates = Vec::new();
    let mut usages = Vec::new();
    for run in 1..=RUNS {
        let before = std::cell::OnceCell::new();
        let (rate, usage) = drain(
            server,
            |load| {
                let _ = before.set(Usage::now(server, load)?);
                Ok(())
            },
            |load| Usage::now(server, load),
        )?;
        println!("run {run}: {rate:.0} deliveries/s");
        rates.push(rate);
        usages.push(usage.since(before.get().unwrap_or(&usage)));
    }
    figures.add(
        format!("throughput, {DELIVERIES} due deliveries of {INSTALLATIONS} installations"),
        "deliveries/s",
        rates,
        "from the first claim to the last arrival, none missing, with a record of each attempt",
    );
    for (name, meaning) in Usage::NAMES {
        let runs = usages.iter().map(|usage| usage.micros(name, DELIVERIES));
        figures.add(
            format!("  CPU of {name}"),
            "µs/delivery",
            runs.collect(),
            meaning,
        );
    }
    Ok(())
}
