//! `cargo xtask bench`: what the extension costs and how fast it is. Release build, private server,
//! receiver in this process: all of it shares this machine's cores.

mod audit;
mod cpu;
mod fairness;
mod figures;
mod growth;
mod latency;
mod load;
mod statement_size;
mod throughput;

use anyhow::Result;
use clap::ValueEnum;
use plugin_webhooks_kit::{Server, Tree};

use figures::Figures;

use crate::system::Purpose;
use crate::tools;
use crate::workspace::{Build, step};

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Deliveries a second from a full queue, and CPU time by what it is spent on
    Throughput,
    /// Milliseconds from commit to arrival, at 1 to 500 changes a second
    Latency,
    /// The same throughput beside a million other rows, and the cost of a worker without work
    Growth,
    /// Latency of a tenant alone, beside one with 50,000 due deliveries and a bad endpoint, and beside ten whose 100
    /// installations answer late
    Fairness,
    /// Microseconds that capture and enqueueing add to a write, beside the same in PL/pgSQL
    Audit,
}

impl Section {
    /// Each measures on the same server and adds its figures.
    fn measure(self, server: &Server, figures: &mut Figures) -> Result<()> {
        match self {
            Section::Throughput => throughput::measure(server, figures),
            Section::Latency => latency::measure(server, figures),
            Section::Growth => growth::measure(server, figures),
            Section::Fairness => fairness::measure(server, figures),
            Section::Audit => audit::measure(server, figures),
        }
    }
}

/// Runs these sections, or all when there are none.
pub fn run(sections: &[Section]) -> Result<()> {
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
    for section in Section::value_variants() {
        if sections.is_empty() || sections.contains(section) {
            step(&format!("{section:?}").to_lowercase());
            section.measure(&server, &mut figures)?;
        }
    }
    figures.print();
    Ok(())
}
