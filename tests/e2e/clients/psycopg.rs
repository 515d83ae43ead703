//! psycopg 3.

use super::*;

#[test]
fn adapts_types_prepares_and_pipelines() {
    Site::plain().run("psycopg_calls.py");
}
