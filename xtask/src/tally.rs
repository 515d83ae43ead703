//! What ran and how it went.

use std::fmt::{self, Display};
use std::time::Duration;

/// Passed and failed tests of one suite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
}

impl Counts {
    /// One check, which either holds or not.
    pub fn one(passed: bool) -> Counts {
        Counts {
            passed: passed.into(),
            failed: (!passed).into(),
        }
    }

    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Reads a closing line of Rust's test runner.
    pub fn of_libtest(line: &str) -> Option<Counts> {
        let summary = line.strip_prefix("test result: ")?;
        let number_before = |word: &str| {
            let before = summary.split(word).next()?;
            before.split_whitespace().last()?.parse().ok()
        };
        Some(Counts {
            passed: number_before(" passed")?,
            failed: number_before(" failed")?,
        })
    }
}

/// All suites of a run; prints as a table whose last line is `N passed, M failed`.
#[derive(Default)]
pub struct Tally(Vec<(&'static str, Counts, Duration)>);

impl Tally {
    pub fn record(&mut self, suite: &'static str, counts: Counts, time: Duration) {
        self.0.push((suite, counts, time));
    }

    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.0.iter().for_each(|(_, counts, _)| total.add(*counts));
        total
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .0
            .iter()
            .map(|(suite, ..)| suite.len())
            .max()
            .unwrap_or(0);
        writeln!(f, "{:width$}  passed  failed  seconds", "")?;
        for (suite, counts, time) in &self.0 {
            writeln!(
                f,
                "{suite:width$}  {:6}  {:6}  {:7.0}",
                counts.passed,
                counts.failed,
                time.as_secs_f64()
            )?;
        }
        let total = self.total();
        write!(f, "\n{} passed, {} failed", total.passed, total.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtests_closing_line_is_understood() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(
            Counts::of_libtest(line),
            Some(Counts {
                passed: 12,
                failed: 3
            })
        );
        assert_eq!(Counts::of_libtest("test one ... ok"), None);
        assert_eq!(Counts::of_libtest("test result: nonsense"), None);
    }

    #[test]
    fn the_last_line_holds_the_total() {
        let mut tally = Tally::default();
        tally.record(
            "one",
            Counts {
                passed: 2,
                failed: 1,
            },
            Duration::from_secs(1),
        );
        tally.record("another", Counts::one(true), Duration::ZERO);
        assert_eq!(tally.to_string().lines().last(), Some("3 passed, 1 failed"));
    }
}
