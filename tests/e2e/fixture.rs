//! The host of the tests is like a real one: tests/README.md says how, and this compares.

use std::fs;
use std::path::Path;

use plugin_webhooks_kit::{former_system, shared_server, value};

/// The rows of the table: fact, query, test.
fn facts() -> Vec<[String; 3]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("README.md")).expect("tests/README.md");
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let [fact, query, test] = cells[..] else {
                panic!("three columns: {row}")
            };
            [fact, query.trim_matches('`'), test.trim_matches('`')].map(str::to_owned)
        })
        .collect()
}

#[test]
fn each_fact_of_the_host_is_true_in_the_fixture() {
    let database = former_system(shared_server(), "http://127.0.0.1:9");
    let mut client = database.client();
    let facts = facts();
    assert!(facts.len() > 15, "{} facts", facts.len());
    let untrue: Vec<_> = facts
        .iter()
        .filter(|[_, query, _]| value::<Option<bool>>(&mut client, query) != Some(true))
        .map(|[fact, ..]| fact)
        .collect();
    assert!(untrue.is_empty(), "{untrue:#?}");
}

#[test]
fn each_fact_of_the_host_has_a_test() {
    let mut code = String::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e"),
        &mut code,
    );
    let missing: Vec<_> = facts()
        .into_iter()
        .filter(|[.., test]| !code.contains(&format!("fn {test}()")))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

fn read(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, code);
        } else {
            code.push_str(&fs::read_to_string(&path).expect("a file"));
        }
    }
}
