//! Change capture: what the audit log records is what a small model in PL/pgSQL records, whatever the
//! rows, the statements and the shape of the audit log; what it enqueues; what it costs in memory.

mod enqueueing;
mod exclusion;
mod logs;
mod masking;
mod memory;
mod origin;
mod redaction;
mod row_types;
mod statements;
mod tables;
mod track_all;
mod tracking;
mod values;

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Database, Tenant, create_tracked_table, describe, execute, expect_sqlstate, project,
    shared_server, value, wait_until,
};

const MODEL: &str = include_str!("../../fixtures/audit_model.sql");
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const SOON: Duration = Duration::from_secs(30);

/// A database whose tables are tracked twice: by the extension and by the model.
struct Model {
    client: Client,
    _database: Database,
}

impl Model {
    fn new() -> Model {
        let database = project(shared_server());
        let mut client = database.client();
        execute(&mut client, MODEL);
        Model {
            client,
            _database: database,
        }
    }

    #[track_caller]
    fn with(sql: &str) -> Model {
        let mut model = Model::new();
        model.run(sql);
        model
    }

    /// With a tracked table t (id bigint, tenant_id uuid, title text, n int) of three rows.
    #[track_caller]
    fn with_rows() -> Model {
        Model::with(&format!(
            "create table t (id bigint primary key, tenant_id uuid default '{TENANT}', title text, n int);
             select model.track('t');
             insert into t (id, title, n) values (1, 'one', 1), (2, 'two', 2), (3, 'three', 3);"
        ))
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        execute(&mut self.client, sql);
    }

    /// Exactly this many changes were recorded, each as the model says.
    #[track_caller]
    fn agrees_on(&mut self, changes: i64) {
        self.agrees();
        let recorded: i64 = value(&mut self.client, "select count(*) from model.recorded");
        assert_eq!(recorded, changes);
    }

    #[track_caller]
    fn agrees(&mut self) {
        let differences: Option<String> = value(
            &mut self.client,
            "select string_agg(left(concat_ws(E'\n', d.side, d.table_name, d.record_id, d.operation, \
            d.changed_fields, d.old_data, d.new_data), 3000), E'\\n' order by d::text)
             from (select * from model.differences limit 10) d",
        );
        assert_eq!(differences, None);
    }

    /// The changes of a table in the order of their ids.
    #[track_caller]
    fn log_of(&mut self, table: &str) -> String {
        value(
            &mut self.client,
            &format!(
                "select coalesce(string_agg(operation || ' ' || record_id, ', ' order by id), '')
                 from audit.entity_changes where table_name = '{table}'"
            ),
        )
    }
}

#[track_caller]
fn count(client: &mut Client, from: &str) -> i64 {
    value(client, &format!("select count(*) from {from}"))
}
