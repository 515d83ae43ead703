//! `cargo xtask bench`: how many deliveries a second, and how soon after the commit. Release build,
//! private server, receiver in this process: all of it shares this machine's cores.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use plugin_webhooks_e2e::postgres::Client;
use plugin_webhooks_e2e::{Database, Receiver, Server, Tree, wait_until};

use crate::system::Purpose;
use crate::tools;
use crate::workspace::{Build, step};

const RUNS: usize = 3;
const INSTALLATIONS: usize = 20;
const DELIVERIES: usize = 100_000;
const RATES: [u32; 4] = [1, 10, 100, 500];
/// Long enough for a stable 99th percentile at the higher rates.
const LATENCY_TIME: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(300);

/// What one measurement says: its median over the runs.
struct Figure {
    name: String,
    unit: &'static str,
    runs: Vec<f64>,
    meaning: &'static str,
}

impl Figure {
    fn median(&self) -> f64 {
        percentile(&self.runs, 0.5)
    }
}

pub fn run() -> Result<()> {
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
    let mut figures = Vec::new();
    step("throughput");
    figures.push(throughput(&server)?);
    for rate in RATES {
        step(&format!("latency at {rate} changes a second"));
        figures.extend(latency(&server, rate)?);
    }
    print_table(&figures);
    print_json(&figures);
    Ok(())
}

/// `installations` tenants, each with one installation that hears of every insert into `app.things`.
fn prepare(database: &Database, installations: usize, url: &str) -> Result<Client> {
    let mut client = database.client();
    client.batch_execute(&format!(
        "set statement_timeout = 0;
         select plugin_webhooks.create_secret('benchmark secret', 'bench');
         select public.rpc_register_plugin('bench', 'Benchmark');
         create table public.things (id bigint generated always as identity primary key,
                                     tenant_id uuid, title text, status text);
         select audit.track('public.things');
         create table public.tenants as
             select lpad(to_hex(n), 32, '0')::uuid as id, n from generate_series(1, {installations}) as n;
         select public.rpc_upsert_plugin_webhook_subscription(
             t.id, public.rpc_install_plugin(t.id, 'bench', 'bench', '{{\"webhook_url\": \"{url}\"}}'),
             'public', 'things', array['INSERT'], null, true)
         from public.tenants as t;"
    ))?;
    Ok(client)
}

fn throughput(server: &Server) -> Result<Figure> {
    let mut runs = Vec::new();
    for run in 1..=RUNS {
        let receiver = Receiver::http();
        receiver.count_only();
        server.alter_system("plugin_webhooks.dispatch", "on_call");
        server.reload();
        let database = server.database();
        let mut client = prepare(&database, INSTALLATIONS, &receiver.url("/hook"))?;
        client.batch_execute(&format!(
            "insert into public.things (tenant_id, title)
             select t.id, 'thing ' || g.n from generate_series(1, {DELIVERIES} / {INSTALLATIONS}) as g (n), public.tenants as t;
             checkpoint;"
        ))?;
        ensure!(receiver.count() == 0, "the worker did not wait");
        server.alter_system("plugin_webhooks.dispatch", "on_commit");
        let started = Instant::now();
        server.reload();
        wait_until(PATIENCE, "all deliveries to arrive", || {
            receiver.count() >= DELIVERIES
        });
        let rate = DELIVERIES as f64 / started.elapsed().as_secs_f64();
        wait_until(PATIENCE, "all deliveries to be settled", || {
            count(&mut client, "status <> 'delivered'").is_ok_and(|left| left == 0)
        });
        println!("run {run}: {rate:.0} deliveries/s");
        runs.push(rate);
    }
    Ok(Figure {
        name: format!("throughput, {DELIVERIES} due deliveries of {INSTALLATIONS} installations"),
        unit: "deliveries/s",
        runs,
        meaning: "from the first claim to the last arrival, none missing",
    })
}

fn count(client: &mut Client, condition: &str) -> Result<i64> {
    let query = format!("select count(*) from int.plugin_delivery_queue where {condition}");
    Ok(client.query_one(&query, &[])?.get(0))
}

fn latency(server: &Server, rate: u32) -> Result<Vec<Figure>> {
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for run in 1..=RUNS {
        let receiver = Receiver::http();
        let database = server.database();
        let mut client = prepare(&database, 1, &receiver.url("/hook"))?;
        let tenant: String = client
            .query_one("select id::text from public.tenants", &[])?
            .get(0);
        let insert = client.prepare(&format!(
            "insert into public.things (tenant_id, title) values ('{tenant}', 'thing')"
        ))?;
        let total = (LATENCY_TIME.as_secs_f64() * f64::from(rate)) as usize;
        client.execute(&insert, &[])?;
        receiver.wait_for(1, PATIENCE);
        receiver.clear();
        let pause = Duration::from_secs(1) / rate;
        let started = Instant::now();
        let mut committed = Vec::with_capacity(total);
        for n in 0..total {
            let due = started + pause * u32::try_from(n)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            client.execute(&insert, &[])?;
            committed.push(Instant::now());
        }
        let requests = receiver.wait_for(total, PATIENCE);
        let delays = delays(&committed, &requests);
        println!(
            "run {run}: p50 {:.2} ms, p99 {:.2} ms",
            percentile(&delays, 0.5),
            percentile(&delays, 0.99)
        );
        p50.push(percentile(&delays, 0.5));
        p99.push(percentile(&delays, 0.99));
    }
    let figure = |name: &str, runs, meaning| Figure {
        name: format!("latency {name} at {rate}/s"),
        unit: "ms",
        runs,
        meaning,
    };
    Ok(vec![
        figure(
            "p50",
            p50,
            "from the client's return from COMMIT to the receiver's first byte",
        ),
        figure("p99", p99, "the same, slowest 1 %"),
    ])
}

/// Milliseconds from each commit to its arrival. The n-th row inserted has the n-th highest id, whatever
/// the order of arrival. An arrival before the client saw its commit counts as 0.
fn delays(
    committed: &[Instant],
    requests: &[std::sync::Arc<plugin_webhooks_e2e::Received>],
) -> Vec<f64> {
    let mut arrivals: Vec<(i64, Instant)> = requests
        .iter()
        .map(|request| (audit_id(request.text()), request.arrived))
        .collect();
    arrivals.sort_unstable();
    arrivals
        .iter()
        .zip(committed)
        .map(|((_, arrived), committed)| {
            arrived.saturating_duration_since(*committed).as_secs_f64() * 1000.0
        })
        .collect()
}

/// `audit.id` of a body as PostgreSQL prints it.
fn audit_id(body: &str) -> i64 {
    body.split_once("\"audit\": {\"id\": ")
        .and_then(|(_, rest)| rest.split_once(','))
        .and_then(|(id, _)| id.parse().ok())
        .expect("a body with audit.id")
}

/// The value below which a share of the sorted values lies.
fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

fn print_table(figures: &[Figure]) {
    step("medians");
    for figure in figures {
        println!(
            "{:<62} {:>10.2} {:<13} {}",
            figure.name,
            figure.median(),
            figure.unit,
            figure.meaning
        );
    }
}

fn print_json(figures: &[Figure]) {
    let entries: Vec<String> = figures
        .iter()
        .map(|figure| {
            format!(
                "{{\"name\":\"{}\",\"unit\":\"{}\",\"median\":{:.3},\"runs\":{:?}}}",
                figure.name,
                figure.unit,
                figure.median(),
                figure.runs
            )
        })
        .collect();
    println!("\n[{}]", entries.join(","));
}
