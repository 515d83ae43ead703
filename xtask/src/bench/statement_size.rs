//! Whether a row of a large statement costs what one of a smaller does, where a row trigger writes each row by itself
//! and the host's foreign keys and AFTER ROW triggers on the log and the queue get it.

use std::time::Instant;

use anyhow::Result;
use plugin_webhooks_kit::Server;
use plugin_webhooks_kit::postgres::Client;

use super::figures::{Figures, percentile};

const ROUNDS: usize = 3;
const SMALL: u32 = 10_000;
const LARGE: u32 = 160_000;
const TENANT: &str = "11111111-1111-1111-1111-111111111111";

const HOST: &str = "
    create table public.tenants (id uuid primary key);
    create table items (id bigint generated always as identity primary key, tenant_id uuid, title text);
    create trigger audit after insert on items for each row execute function audit.log_entity_change();
    insert into public.tenants values ('{tenant}');
    with plugin as (insert into int.plugins (key, name) values ('desk', 'Desk') returning id),
    installation as (
        insert into int.plugin_installations (tenant_id, plugin_id, config)
        select '{tenant}', id, '{\"webhook_url\": \"https://receiver.invalid/\"}' from plugin returning id)
    insert into int.plugin_webhook_subscriptions (plugin_installation_id, table_schema, table_name, operations)
        select id, 'public', 'items', '{INSERT}' from installation;
    alter table audit.entity_changes add foreign key (tenant_id) references public.tenants (id);
    alter table int.plugin_delivery_queue add foreign key (tenant_id) references public.tenants (id);
    create function see() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger see after insert on audit.entity_changes for each row execute function see();
    create trigger see after insert on int.plugin_delivery_queue for each row execute function see();
    set statement_timeout = 0; set synchronous_commit = off;";

/// Expects that nothing is delivered meanwhile.
pub fn measure(server: &Server, figures: &mut Figures) -> Result<()> {
    let database = server.database();
    let mut client = database.client();
    client.batch_execute(&HOST.replace("{tenant}", TENANT))?;
    micros_a_row(&mut client, SMALL)?;
    let (mut small, mut large) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        small.push(micros_a_row(&mut client, SMALL)?);
        large.push(micros_a_row(&mut client, LARGE)?);
    }
    let ratio: Vec<f64> = large
        .iter()
        .zip(&small)
        .map(|(large, small)| large / small)
        .collect();
    println!(
        "one statement, a row trigger, foreign keys and AFTER ROW triggers on log and queue: {SMALL} rows {:.1} µs a row, \
        {LARGE} rows {:.1}, ratio {:.2}",
        percentile(&small, 0.5),
        percentile(&large, 0.5),
        percentile(&ratio, 0.5),
    );
    figures.add(
        "a row of 160,000 over one of 10,000",
        "",
        ratio,
        "a row trigger, foreign keys and AFTER ROW triggers on log and queue",
    );
    Ok(())
}

/// Of an insert with so many rows, into a log and a queue that are empty.
fn micros_a_row(client: &mut Client, rows: u32) -> Result<f64> {
    let insert = format!(
        "insert into items (tenant_id, title) select '{TENANT}', 'title ' || k from generate_series(1, {rows}) k"
    );
    let started = Instant::now();
    client.batch_execute(&insert)?;
    let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(rows);
    client.batch_execute("truncate items; truncate audit.entity_changes cascade; checkpoint")?;
    Ok(micros)
}
