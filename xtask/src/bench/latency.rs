//! From commit to the wire.

use std::time::Duration;

use anyhow::Result;
use plugin_webhooks_kit::Server;

use super::figures::{Figures, percentile};
use super::load::{Load, RUNS, delays};

const RATES: [u32; 4] = [1, 10, 100, 500];
/// Long enough for a stable 99th percentile at the higher rates.
const TIME: Duration = Duration::from_secs(10);

pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    for rate in RATES {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for run in 1..=RUNS {
            let mut load = Load::new(server)?;
            let url = load.receiver.url("/hook");
            load.install(1, 1, &url)?;
            let delays = delays(&mut load, 1, rate, TIME, "/hook")?;
            p50.push(percentile(&delays, 0.5));
            p99.push(percentile(&delays, 0.99));
            println!(
                "{rate}/s, run {run}: p50 {:.2} ms, p99 {:.2} ms",
                p50[run - 1],
                p99[run - 1]
            );
        }
        let meaning = "from the client's return from COMMIT to the receiver's last byte";
        figures.add(
            format!("latency p50 at {rate} changes/s"),
            "ms",
            p50,
            meaning,
        );
        figures.add(
            format!("latency p99 at {rate} changes/s"),
            "ms",
            p99,
            "the same, slowest 1 %",
        );
    }
    Ok(())
}
