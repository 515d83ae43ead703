//! `cargo xtask demo`: one delivery from a changed row to a verified signature, on a private server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    Received, Receiver, Server, Tree, quote_literal, verify_signature, wait_until,
};

use crate::system::Purpose;
use crate::tools;
use crate::workspace::{Build, step};

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const SECRET_NAME: &str = "demo_signing_secret";
const SETTINGS: &[(&str, &str)] = &[("plugin_webhooks.allowed_networks", "127.0.0.0/8")];
const SOON: Duration = Duration::from_secs(30);

const NEXT: &str = "\
The server and everything in it are gone again. Next:

  cargo xtask test       run every test
  cargo xtask install    install the extension into this system's PostgreSQL
  README.md and docs/    how to use and run it";

pub fn run() -> Result<()> {
    let workspace = tools::prepare(Purpose::Build)?;
    step("building the extension");
    let package = workspace.package(Build::Release)?;

    step("starting a private PostgreSQL and a receiver");
    let tree = Tree::create(workspace.pg_config(), &package);
    let server = Server::preloaded(&tree, SETTINGS);
    let receiver = Receiver::http();
    println!(
        "PostgreSQL on 127.0.0.1:{}, receiver on {}",
        server.port(),
        receiver.url("/hook")
    );
    let database = server.database();
    let mut client = database.client();

    step("subscribing the receiver to public.work_orders");
    let secret = subscribe(&mut client, &receiver.url("/hook"))?;

    step("changing a row");
    let insert = format!(
        "insert into public.work_orders (tenant_id, title) values ('{TENANT}', 'Pump 7 leaks')"
    );
    println!("{insert};");
    let sent = Instant::now();
    client.batch_execute(&insert)?;
    let requests = receiver.wait_for(1, SOON);
    let request = &requests[0];

    step(&format!(
        "what arrived, {:.1?} after the change was sent, commit included",
        request.arrived - sent
    ));
    show(request);
    let signature = request
        .header("x-plugin-signature")
        .context("the request is not signed")?;
    ensure!(
        verify_signature(&secret, &request.body, signature),
        "the signature is wrong"
    );
    println!("signature verified");

    let id = request
        .header("x-plugin-delivery-id")
        .context("the request has no delivery id")?;
    wait_until(SOON, "the delivery to be settled", || {
        status(&mut client, id).is_ok_and(|s| s == "delivered")
    });
    println!(
        "status in int.plugin_delivery_queue: {}",
        status(&mut client, id)?
    );

    drop((client, database, server, tree));
    println!("\n{NEXT}");
    Ok(())
}

/// Does what an administrator does once, and returns the signing secret.
fn subscribe(client: &mut Client, url: &str) -> Result<String> {
    let random = "select replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')";
    let secret: String = client.query_one(random, &[])?.get(0);
    let config = format!(r#"{{"webhook_url":"{url}"}}"#);
    let set_up = [
        "select public.rpc_register_plugin('demo', 'Demo plugin')".to_owned(),
        format!(
            "select plugin_webhooks.create_secret({}, '{SECRET_NAME}')",
            quote_literal(&secret)
        ),
        "create table public.work_orders (
    id bigint generated always as identity primary key,
    tenant_id uuid not null,
    title text not null,
    status text
)"
        .to_owned(),
        "select audit.track('public.work_orders')".to_owned(),
    ];
    for statement in set_up {
        println!("{};", statement.replace(&secret, "..."));
        client.batch_execute(&statement)?;
    }
    let install = format!(
        "select public.rpc_install_plugin('{TENANT}', 'demo', '{SECRET_NAME}', {})::text",
        quote_literal(&config)
    );
    println!("{install};");
    let installation: String = client.query_one(&install, &[])?.get(0);
    let subscribe = format!(
        "select public.rpc_upsert_plugin_webhook_subscription('{TENANT}', '{installation}',
    'public', 'work_orders', array['INSERT', 'UPDATE'], null, true)"
    );
    println!("{subscribe};");
    client.batch_execute(&subscribe)?;
    Ok(secret)
}

fn show(request: &Received) {
    println!("{} {} HTTP/1.1", request.method, request.target);
    for (name, value) in &request.headers {
        println!("{name}: {value}");
    }
    println!("\n{}\n", String::from_utf8_lossy(&request.body));
}

fn status(client: &mut Client, delivery: &str) -> Result<String> {
    let query = "select status from int.plugin_delivery_queue where id = $1::text::uuid";
    Ok(client.query_one(query, &[&delivery])?.get(0))
}
