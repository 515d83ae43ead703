//! `cargo xtask bench`: what the extension costs and how fast it is. Release build, private server,
//! receiver in this process: all of it shares this machine's cores.

mod audit;
mod cpu;
mod fairness;
mod growth;
mod latency;
mod load;
mod throughput;

use anyhow::{Result, bail};
use plugin_webhooks_kit::{Server, Tree};

use crate::system::Purpose;
use crate::tools;
use crate::workspace::{Build, step};

/// A part of the benchmark; each measures on the same server and adds its figures.
type Section = fn(&Server, &mut Figures) -> Result<()>;

const SECTIONS: &[(&str, Section)] = &[
    ("throughput", throughput::measure),
    ("latency", latency::measure),
    ("growth", growth::measure),
    ("fairness", fairness::measure),
    ("audit", audit::measure),
];

/// What one measurement says: its median over the runs.
struct Figure {
    name: String,
    unit: &'static str,
    runs: Vec<f64>,
    meaning: String,
}

impl Figure {
    fn median(&self) -> f64 {
        percentile(&self.runs, 0.5)
    }
}

/// All figures of a run of the benchmark.
#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, name: impl Into<String>, unit: &'static str, runs: Vec<f64>, meaning: &str) {
        self.0.push(Figure {
            name: name.into(),
            unit,
            runs,
            meaning: meaning.to_owned(),
        });
    }

    fn print(&self) {
        step("medians");
        for figure in &self.0 {
            println!(
                "{:<64} {:>10.2} {:<13} {}",
                figure.name,
                figure.median(),
                figure.unit,
                figure.meaning
            );
        }
        let entries: Vec<String> = self
            .0
            .iter()
            .map(|figure| {
                format!(
                    "{{\"name\":{:?},\"unit\":{:?},\"median\":{:.3},\"runs\":{:.3?}}}",
                    figure.name,
                    figure.unit,
                    figure.median(),
                    figure.runs
                )
            })
            .collect();
        println!("\n[{}]", entries.join(","));
    }
}

/// Runs the sections of these names, or all.
pub fn run(names: &[String]) -> Result<()> {
    let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no section `{unknown}`, only {}", known.join(", "));
    }
    let workspace = tools::prepare(Purpose::Build)?;
    step("building the extension");
    let package = workspace.package(Build::Release)?;
    let tree = Tree::create(workspace.pg_config(), &package);
    let server = Server::preloaded(
        &tree,
        &[
            ("plugin_webhooks.allowed_networks", "127.0.0.0/8"),
            ("shared_buffers", "1GB"),
            ("max_wal_size", "8GB"),
        ],
    );
    let mut figures = Figures::default();
    for (name, section) in SECTIONS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            step(name);
            section(&server, &mut figures)?;
        }
    }
    figures.print();
    Ok(())
}

/// The value below which a share of the sorted values lies.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
