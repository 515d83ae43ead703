//! The databases and deliveries that the sections measure with.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{Database, Received, Receiver, Server, wait_until};

pub const RUNS: usize = 3;
pub const INSTALLATIONS: usize = 20;
pub const DELIVERIES: usize = 100_000;
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A database with a tracked table `public.things` and tenants whose installations hear of every
/// insert into it, and a receiver for them.
pub struct Load {
    /// Dropped at the end.
    _database: Database,
    pub client: Client,
    pub receiver: Receiver,
}

impl Load {
    pub fn new(server: &Server) -> Result<Load> {
        let database = server.database();
        let mut client = database.client();
        client.batch_execute(
            "set statement_timeout = 0;
             select plugin_webhooks.create_secret('benchmark secret', 'bench');
             create table public.things (id bigint generated always as identity primary key,
                                         tenant_id uuid, title text, status text);
             select audit.track('public.things');",
        )?;
        Ok(Load {
            _database: database,
            client,
            receiver: Receiver::http(),
        })
    }

    /// Tenants from number `first` on, `count` of them, whose deliveries go to `url`.
    pub fn install(&mut self, first: usize, count: usize, url: &str) -> Result<()> {
        let config = format!(r#"{{"webhook_url": "{url}"}}"#);
        self.install_plugin("bench", first, count, &config)
    }

    /// The same as installations of another plugin, with this configuration.
    pub fn install_plugin(
        &mut self,
        plugin: &str,
        first: usize,
        count: usize,
        config: &str,
    ) -> Result<()> {
        let last = first + count - 1;
        self.client.batch_execute(&format!(
            "select public.rpc_register_plugin('{plugin}', 'Benchmark');
             select public.rpc_upsert_plugin_webhook_subscription(
                 t.id, public.rpc_install_plugin(t.id, '{plugin}', 'bench', '{config}'),
                 'public', 'things', array['INSERT'], null, true)
             from generate_series({first}, {last}) as n,
                  lateral (select lpad(to_hex(n), 32, '0')::uuid as id) as t"
        ))?;
        Ok(())
    }

    /// Commits `count` changes of each of these tenants.
    pub fn insert(&mut self, first: usize, tenants: usize, count: usize) -> Result<()> {
        let last = first + tenants - 1;
        self.client.batch_execute(&format!(
            "insert into public.things (tenant_id, title)
             select {}, 'thing ' || g.n
             from generate_series(1, {count}) as g (n), generate_series({first}, {last}) as t (n)",
            tenant_sql("t.n")
        ))?;
        Ok(())
    }

    /// Rows of one tenant, made without triggers: `status` and age in days.
    pub fn insert_old(
        &mut self,
        tenant: usize,
        count: usize,
        status: &str,
        days: u32,
    ) -> Result<()> {
        self.client.batch_execute(&format!(
            "begin;
             set local session_replication_role = replica;
             with changes as (
                 insert into audit.entity_changes (table_schema, table_name, record_id, operation, tenant_id, \
                 created_at)
                 select 'public', 'old', n::text, 'INSERT', {tenant}, now() - interval '{days} days'
                 from generate_series(1, {count}) as n
                 returning id, tenant_id, created_at
             )
             insert into int.plugin_delivery_queue
                 (tenant_id, plugin_installation_id, source_entity_change_id, event_type, payload, status,
                  next_attempt_at, created_at, updated_at)
             select c.tenant_id, i.id, c.id, 'entity_change.old.insert',
                    jsonb_build_object('v', 1, 'audit', jsonb_build_object('id', c.id)), '{status}',
                    c.created_at, c.created_at, c.created_at
             from changes as c join int.plugin_installations as i on i.tenant_id = c.tenant_id;
             commit;",
            tenant = tenant_sql(&tenant.to_string())
        ))?;
        self.client
            .batch_execute("vacuum (analyze) int.plugin_delivery_queue")?;
        Ok(())
    }

    /// One change of a tenant, ready to be committed many times.
    pub fn prepare_insert(
        &mut self,
        tenant: usize,
    ) -> Result<plugin_webhooks_kit::postgres::Statement> {
        Ok(self.client.prepare(&format!(
            "insert into public.things (tenant_id, title) values ({}, 'thing')",
            tenant_sql(&tenant.to_string())
        ))?)
    }

    pub fn count(&mut self, condition: &str) -> Result<i64> {
        let query = format!("select count(*) from int.plugin_delivery_queue where {condition}");
        Ok(self.client.query_one(&query, &[])?.get(0))
    }
}

fn tenant_sql(number: &str) -> String {
    format!("lpad(to_hex({number}), 32, '0')::uuid")
}

/// How many deliveries a second leave a queue that is full at the start: [`DELIVERIES`] of
/// [`INSTALLATIONS`] installations, from the first claim to the last arrival, none missing.
/// `prepare` fills in what else is in the database; `during` runs when all have arrived.
pub fn drain<R>(
    server: &Server,
    prepare: impl FnOnce(&mut Load) -> Result<()>,
    during: impl FnOnce(&mut Load) -> Result<R>,
) -> Result<(f64, R)> {
    server.alter_system("plugin_webhooks.dispatch", "on_call");
    let mut load = Load::new(server)?;
    load.receiver.count_only();
    let url = load.receiver.url("/hook");
    load.install(1, INSTALLATIONS, &url)?;
    prepare(&mut load)?;
    load.insert(1, INSTALLATIONS, DELIVERIES / INSTALLATIONS)?;
    load.client.batch_execute("checkpoint")?;
    ensure!(load.receiver.count() == 0, "the worker did not wait");
    let started = Instant::now();
    server.alter_system("plugin_webhooks.dispatch", "on_commit");
    wait_until(PATIENCE, "all deliveries to arrive", || {
        load.receiver.count() >= DELIVERIES
    });
    let rate = DELIVERIES as f64 / started.elapsed().as_secs_f64();
    let result = during(&mut load)?;
    let url_filter = "event_type = 'entity_change.things.insert' and status <> 'delivered'";
    wait_until(PATIENCE, "all deliveries to be settled", || {
        load.count(url_filter).is_ok_and(|left| left == 0)
    });
    Ok((rate, result))
}

/// Milliseconds from each commit to its arrival, at `rate` commits a second for `time`.
pub fn delays(
    load: &mut Load,
    tenant: usize,
    rate: u32,
    time: Duration,
    path: &str,
) -> Result<Vec<f64>> {
    let insert = load.prepare_insert(tenant)?;
    let total = (time.as_secs_f64() * f64::from(rate)) as usize;
    // The first one may still have to find the worker and open a connection.
    load.client.execute(&insert, &[])?;
    let arrived = |load: &Load| arrivals(&load.receiver, path).len();
    wait_until(PATIENCE, "the first delivery", || arrived(load) >= 1);
    let before = arrived(load);
    let pause = Duration::from_secs(1) / rate;
    let started = Instant::now();
    let mut committed = Vec::with_capacity(total);
    for n in 0..total {
        let due = started + pause * u32::try_from(n)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        load.client.execute(&insert, &[])?;
        committed.push(Instant::now());
    }
    wait_until(PATIENCE, "all deliveries to arrive", || {
        arrived(load) >= before + total
    });
    // The n-th row inserted has the n-th highest id, whatever the order of arrival. An arrival before
    // the client saw its commit counts as 0.
    let mut arrivals: Vec<(i64, Instant)> = arrivals(&load.receiver, path)
        .iter()
        .map(|request| (audit_id(request.text()), request.arrived))
        .collect();
    arrivals.sort_unstable();
    let delay = |((_, arrived), committed): (&(i64, Instant), &Instant)| {
        arrived.saturating_duration_since(*committed).as_secs_f64() * 1000.0
    };
    Ok(arrivals[before..]
        .iter()
        .zip(&committed)
        .map(delay)
        .collect())
}

fn arrivals(receiver: &Receiver, path: &str) -> Vec<std::sync::Arc<Received>> {
    let mut requests = receiver.requests();
    requests.retain(|request| request.path() == path);
    requests
}

/// `audit.id` of a body as PostgreSQL prints it.
fn audit_id(body: &str) -> i64 {
    body.split_once("\"audit\": {\"id\": ")
        .and_then(|(_, rest)| rest.split_once(','))
        .and_then(|(id, _)| id.parse().ok())
        .expect("a body with audit.id")
}
