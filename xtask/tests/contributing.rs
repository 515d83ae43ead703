//! CONTRIBUTING.md shows how to run one test: the tests that it names exist.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders with the tests of a suite.
fn folders(suite: &str) -> &'static [&'static str] {
    match suite {
        "core" => &["core/src", "core/tests", "xtask/src", "xtask/tests"],
        "sql" => &["pgrx-tests"],
        "e2e" => &["tests/e2e", "tests/crash", "tests/kit"],
        other => panic!("no suite is called {other}"),
    }
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        found.push(path.to_owned());
    }
}

/// The functions that are marked as tests.
fn tests(source: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[pg_extern") {
            marked = true;
        } else if let Some((name, _)) = line.strip_prefix("fn ").and_then(|f| f.split_once('(')) {
            if marked {
                names.push(name);
            }
            marked = false;
        }
    }
    names
}

#[test]
fn every_test_that_it_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let mut named = 0;
    for line in text.lines() {
        let Some(arguments) = line.strip_prefix("cargo xtask test ") else {
            continue;
        };
        let arguments = arguments.split('#').next().unwrap_or_default();
        let mut words = arguments.split_whitespace();
        let Some(suite) = words.next() else {
            continue;
        };
        let mut files = Vec::new();
        for folder in folders(suite) {
            sources(&root.join(folder), &mut files);
        }
        assert!(!files.is_empty(), "suite {suite} has no sources");
        for filter in words {
            let exists = files.iter().any(|file| {
                let source = fs::read_to_string(file).expect("a source file");
                tests(&source).iter().any(|name| name.contains(filter))
            });
            assert!(exists, "no test of suite {suite} is called {filter}");
            named += 1;
        }
    }
    assert!(named > 0, "CONTRIBUTING.md names no test");
}
