//! What the sections found out, as a table and as JSON.

use serde_json::{Value, json};

use crate::workspace::step;

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
pub struct Figures(Vec<Figure>);

impl Figures {
    pub fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        runs: Vec<f64>,
        meaning: &str,
    ) {
        self.0.push(Figure {
            name: name.into(),
            unit,
            runs,
            meaning: meaning.to_owned(),
        });
    }

    pub fn print(&self) {
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
        println!("\n{}", self.to_json());
    }

    fn to_json(&self) -> Value {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        let entries = self.0.iter().map(|figure| {
            let runs: Vec<f64> = figure.runs.iter().copied().map(rounded).collect();
            json!({
                "name": figure.name,
                "unit": figure.unit,
                "median": rounded(figure.median()),
                "runs": runs,
            })
        });
        entries.collect()
    }
}

/// The value below which a share of the sorted values lies.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
