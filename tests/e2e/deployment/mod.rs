//! What an administrator meets: CREATE EXTENSION anywhere, the exact grants, pg_cron, the settings,
//! DROP EXTENSION.

mod create_extension;
mod drop_extension;
mod grants;
mod notice;
mod pg_cron;
mod settings;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use plugin_webhooks_kit::postgres::Client;
use plugin_webhooks_kit::{
    PsqlOutput, Receiver, RoleOptions, Server, Tree, as_user, count, create_supabase_roles,
    create_supabase_roles_with, expect_sqlstate, quote_literal, shared_server, text, wait_until,
};

const SOON: Duration = Duration::from_secs(20);
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const CREATE: &str = "create extension plugin_webhooks";
const LOOPBACK: (&str, &str) = ("plugin_webhooks.allowed_networks", "127.0.0.0/8");

/// A server without preload and without any role but the superuser.
fn plain_server() -> Server {
    Server::start(Tree::shared(), &[("fsync", "off")])
}

/// The first column of every row.
#[track_caller]
fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}

/// A tracked table `public.things` whose inserts go to `url`.
#[track_caller]
fn deliver_things_to(client: &mut Client, url: &str) {
    let config = format!(r#"{{"webhook_url": "{url}"}}"#);
    client
        .batch_execute(&format!(
            "create table if not exists public.things (id int primary key, tenant_id uuid);
             select audit.track('public.things');
             select public.rpc_register_plugin('demo', 'Demo');
             select public.rpc_upsert_plugin_webhook_subscription('{TENANT}',
                 public.rpc_install_plugin('{TENANT}', 'demo', p_config => {}),
                 'public', 'things', '{{INSERT}}');",
            quote_literal(&config)
        ))
        .expect("a subscription");
}

#[track_caller]
fn insert_thing(client: &mut Client, id: i32) {
    client
        .batch_execute(&format!(
            "insert into public.things values ({id}, '{TENANT}')"
        ))
        .expect("insert");
}
