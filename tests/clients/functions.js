"use strict";
// supabase-js calls every function by name: with defaults left out, with nulls, and what each of them did is seen
// through the views.

const assert = require("node:assert/strict");
const { test, before, after } = require("node:test");
const { site, open, ok, until, sign, UUID } = require("./site");

const KEY = "desk_by_name";
let project;
const called = new Set();
const call = (client, name, ...rest) => {
  called.add(name);
  return client.rpc(name, ...rest);
};

before(async () => (project = await open()));
after(() => project.stop());

let installation;
const mine = (more) => ({ p_tenant_id: site.tenant, ...more });
const installed = (columns) =>
  project.admin.from("v_plugin_installations").select(columns).eq("id", installation).single();

test("the backend registers a plugin with its key and name alone, and changes it by key", async () => {
  const id = await ok(call(project.service, "rpc_register_plugin", { p_key: KEY, p_name: "Desk" }));
  assert.match(id, UUID);
  const plugin = () =>
    project.anon.from("v_plugins").select("id, name, description, is_integration").eq("key", KEY).single();
  assert.deepEqual(await ok(plugin()), { id, name: "Desk", description: null, is_integration: false });
  const again = {
    p_key: KEY,
    p_name: "Help desk",
    p_description: "Tickets",
    p_is_integration: true,
    p_is_active: true,
  };
  assert.equal(await ok(call(project.service, "rpc_register_plugin", again)), id);
  assert.deepEqual(await ok(plugin()), { id, name: "Help desk", description: "Tickets", is_integration: true });
  await ok(call(project.service, "rpc_register_plugin", { ...again, p_description: null }));
  assert.equal((await ok(plugin())).description, null);
});

test("an admin installs it, and installs it again", async () => {
  const id = await ok(call(project.admin, "rpc_install_plugin", mine({ p_plugin_key: KEY })));
  assert.match(id, UUID);
  installation = id;
  const columns = "tenant_id, plugin_key, plugin_name, status, secret_ref, config, installed_by";
  const row = {
    tenant_id: site.tenant,
    plugin_key: KEY,
    plugin_name: "Help desk",
    status: "installed",
    secret_ref: null,
    config: null,
    installed_by: site.admin,
  };
  assert.deepEqual(await ok(installed(columns)), row);
  const config = { webhook_url: site.receiver, headers: { "X-Own": "1" }, own: ["ä€", { two: null }] };
  const whole = mine({ p_plugin_key: KEY, p_secret_ref: site.secret_name, p_config: config });
  assert.equal(await ok(call(project.adminByCallback, "rpc_install_plugin", whole)), id);
  assert.deepEqual(await ok(installed(columns)), { ...row, secret_ref: site.secret_name, config });
  const nulls = mine({ p_plugin_key: KEY, p_secret_ref: null, p_config: null });
  assert.equal(await ok(call(project.admin, "rpc_install_plugin", nulls)), id);
  assert.deepEqual(await ok(installed(columns)), row);
});

test("an update keeps what is null or left out", async () => {
  const update = (more) =>
    call(project.admin, "rpc_update_plugin_installation", mine({ p_installation_id: installation, ...more }));
  const config = { webhook_url: site.receiver };
  assert.equal(await ok(update({ p_status: "disabled", p_secret_ref: site.secret_name, p_config: config }), 204), null);
  const row = { status: "disabled", secret_ref: site.secret_name, config };
  assert.deepEqual(await ok(installed("status, secret_ref, config")), row);
  await ok(update({ p_status: null, p_secret_ref: null, p_config: null }), 204);
  await ok(update({}), 204);
  assert.deepEqual(await ok(installed("status, secret_ref, config")), row);
  await ok(update({ p_status: "installed" }), 204);
  assert.deepEqual(await ok(installed("status, url:config->>webhook_url")), {
    status: "installed",
    url: site.receiver,
  });
});

let subscription;

test("arrays of JSON become arrays of SQL in a subscription", async () => {
  const table = mine({ p_installation_id: installation, p_table_schema: "public", p_table_name: " items " });
  const subscribe = (more) => call(project.admin, "rpc_upsert_plugin_webhook_subscription", { ...table, ...more });
  subscription = await ok(subscribe({ p_operations: ["INSERT"] }));
  const columns = "table_schema, table_name, operations, changed_fields_allowlist, include_payload";
  const stored = () =>
    project.admin.from("v_plugin_webhook_subscriptions").select(columns).eq("id", subscription).single();
  const row = {
    table_schema: "public",
    table_name: "items",
    operations: ["INSERT"],
    changed_fields_allowlist: null,
    include_payload: false,
  };
  assert.deepEqual(await ok(stored()), row);
  const more = {
    p_operations: ["INSERT", "UPDATE"],
    p_changed_fields_allowlist: ["title", 'a, "b" {}'],
    p_include_payload: true,
  };
  assert.equal(await ok(subscribe(more)), subscription);
  assert.deepEqual(await ok(stored()), {
    ...row,
    operations: more.p_operations,
    changed_fields_allowlist: more.p_changed_fields_allowlist,
    include_payload: true,
  });
  await ok(subscribe({ p_operations: ["INSERT"], p_changed_fields_allowlist: null }));
  assert.deepEqual(await ok(stored()), row);
});

test("what the application inserts is recorded with its user and delivered", async () => {
  const item = { tenant_id: site.tenant, title: "Pump ü", data: { depth: 3 } };
  const inserted = await ok(project.admin.from("items").insert(item).select("id, title").single(), 201);
  assert.equal(inserted.title, item.title);
  const changes = project.admin.from("v_audit_entity_changes").select("operation, user_id, tenant_id, new_data");
  const change = await ok(changes.eq("table_name", "items").eq("record_id", String(inserted.id)).single());
  assert.deepEqual([change.operation, change.user_id, change.tenant_id], ["INSERT", site.admin, site.tenant]);
  assert.deepEqual(change.new_data.data, item.data);
  assert.equal(typeof (await ok(call(project.service, "rpc_process_plugin_deliveries"))), "number");
  assert.equal(
    typeof (await ok(call(project.service, "rpc_process_plugin_deliveries", { p_batch_size: null }))),
    "number",
  );
  const deliveries = () =>
    ok(
      project.admin
        .from("v_plugin_delivery_queue_recent")
        .select("id, event_type, status, attempts, last_error")
        .eq("plugin_installation_id", installation),
    );
  const [delivery] = await until("the delivery", deliveries, (rows) => rows.every((row) => row.status === "delivered"));
  assert.deepEqual(delivery, {
    id: delivery.id,
    event_type: "entity_change.items.insert",
    status: "delivered",
    attempts: 0,
    last_error: null,
  });
  const attempts = project.admin.from("v_plugin_delivery_attempts").select("status_code, plugin_key");
  assert.deepEqual(await ok(attempts.eq("delivery_id", delivery.id)), [{ status_code: 200, plugin_key: KEY }]);
});

test("partners of every role call in with a signature over the payload as PostgreSQL prints it", async () => {
  const ingest = (client, p_payload, p_signature) =>
    call(client, "rpc_plugin_ingest_webhook", {
      p_plugin_key: KEY,
      p_installation_id: installation,
      p_payload,
      p_signature,
    });
  const payload = { action: "noop", data: { aa: [1.5, null], b: "ü" } };
  const signature = sign('{"data": {"b": "ü", "aa": [1.5, null]}, "action": "noop"}');
  for (const client of [project.anon, project.admin, project.service]) {
    assert.deepEqual(await ok(ingest(client, payload, signature)), { ok: true, action: "noop" });
  }
  // A number keeps its zeros as text of the request, which supabase-js does not send: its numbers are JavaScript's.
  const exact = sign('{"data": {"b": "ü", "aa": [1.50, null]}, "action": "noop"}').toUpperCase();
  const body = `{"p_plugin_key": "${KEY}", "p_installation_id": "${installation}", "p_signature": " ${exact} ",
    "p_payload": {"action": "noop", "data": {"aa": [1.50, null], "b": "\\u00fc"}}}`;
  const answer = await fetch(`${project.url}/rest/v1/rpc/rpc_plugin_ingest_webhook`, { method: "POST", body });
  assert.deepEqual([answer.status, await answer.json()], [200, { ok: true, action: "noop" }]);
  assert.deepEqual(await ok(ingest(project.anon, {}, sign("{}"))), { ok: true, action: "noop" });
});

test("the rest is deleted in its order", async () => {
  const rows = async (view) => (await ok(project.admin.from(view).select("id").eq("tenant_id", site.tenant))).length;
  await ok(
    call(project.admin, "rpc_delete_plugin_webhook_subscription", mine({ p_subscription_id: subscription })),
    204,
  );
  assert.equal(await rows("v_plugin_webhook_subscriptions"), 0);
  await ok(call(project.admin, "rpc_uninstall_plugin", mine({ p_installation_id: installation })), 204);
  assert.equal(await rows("v_plugin_installations"), 0);
  assert.equal(await rows("v_plugin_delivery_queue_recent"), 0);
});

test("no function of the interface was left out", () => {
  assert.deepEqual([...called].sort(), site.functions, "a new function is called by these tests as well");
});
