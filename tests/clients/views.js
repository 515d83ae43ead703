"use strict";
// What each caller sees in the views, and supabase-js's ways to ask for it.

const assert = require("node:assert/strict");
const { test, before, after } = require("node:test");
const { site, open, ok, refused, until } = require("./site");

/** The columns that callers rely on, in their order; more may follow. */
const COLUMNS = {
  v_plugins: "id, key, name, description, is_integration, is_active, created_at, updated_at",
  v_plugin_installations:
    "id, tenant_id, plugin_id, plugin_key, plugin_name, is_integration, status, secret_ref, config, installed_by, " +
    "installed_at, updated_at",
  v_plugin_webhook_subscriptions:
    "id, tenant_id, plugin_installation_id, plugin_key, table_schema, table_name, operations, " +
    "changed_fields_allowlist, include_payload, created_at, updated_at",
  v_plugin_delivery_queue_recent:
    "id, tenant_id, plugin_installation_id, plugin_key, event_type, status, attempts, last_error, created_at, updated_at",
  v_audit_entity_changes:
    "id, table_schema, table_name, record_id, operation, old_data, new_data, changed_fields, user_id, tenant_id, created_at",
};
const OF_TENANTS = Object.keys(site.views).filter((view) => view !== "v_plugins");

let project;
/** Of the first tenant: three plugins, each with a delivery. */
const keys = ["client_a", "client_b", "client_c"];

before(async () => {
  project = await open();
  await ok(project.service.rpc("rpc_register_plugin", { p_key: "client_idle", p_name: "Idle", p_is_active: false }));
  for (const key of keys) {
    await ok(project.service.rpc("rpc_register_plugin", { p_key: key, p_name: key }));
    const p_config = { webhook_url: site.receiver };
    const id = await ok(
      project.admin.rpc("rpc_install_plugin", { p_tenant_id: site.tenant, p_plugin_key: key, p_config }),
    );
    const table = { p_tenant_id: site.tenant, p_installation_id: id, p_table_schema: "public", p_table_name: "items" };
    await ok(project.admin.rpc("rpc_upsert_plugin_webhook_subscription", { ...table, p_operations: ["INSERT"] }));
  }
  await ok(project.admin.from("items").insert([{ tenant_id: site.tenant, title: "one" }]), 201);
  const attempts = () => ok(project.admin.from("v_plugin_delivery_attempts").select());
  await until("three attempts", attempts, (rows) => rows.length === 3);
});
after(() => project.stop());

const ours = (client, columns) =>
  client
    .from("v_plugins")
    .select(columns)
    .in("key", [...keys, "client_idle"]);

test("every view has the columns that callers rely on, in their order", async () => {
  for (const [view, columns] of Object.entries(COLUMNS)) {
    const expected = columns.split(", ");
    assert.deepEqual(site.views[view].slice(0, expected.length), expected, view);
    const [row] = await ok(project.admin.from(view).select().limit(1));
    assert.deepEqual(Object.keys(row), site.views[view], view);
    assert.deepEqual(Object.keys(await ok(project.admin.from(view).select(columns).limit(1).single())), expected);
  }
});

test("everybody sees the active plugins, and nobody the others", async () => {
  for (const client of [project.anon, project.member, project.otherAdmin, project.admin]) {
    const rows = await ok(ours(client, "key").order("key"));
    assert.deepEqual(
      rows.map((row) => row.key),
      keys,
    );
  }
});

test("an admin sees the tenant's rows in every view, and nobody else sees any of them", async () => {
  const nobody = project.as(site.admin, site.other_tenant, []);
  for (const view of OF_TENANTS) {
    const rows = await ok(project.admin.from(view).select("tenant_id"));
    assert.ok(rows.length > 0, `the admin sees no row of ${view}`);
    assert.ok(
      rows.every((row) => row.tenant_id === site.tenant),
      view,
    );
    for (const client of [project.anon, project.member, nobody]) {
      assert.deepEqual(await ok(client.from(view).select()), [], view);
    }
    const asked = project.otherAdmin.from(view).select().eq("tenant_id", site.tenant);
    assert.deepEqual(await ok(asked), [], view);
  }
});

test("nobody but the functions writes, and no view is a way around them", async () => {
  for (const view of Object.keys(site.views)) {
    for (const [client, status] of [
      [project.admin, 403],
      [project.service, 403],
      [project.anon, 401],
    ]) {
      // PostgreSQL says of a view over several tables that it cannot be changed at all, before it asks who wants to.
      const simple = view === "v_plugins" || view === "v_audit_entity_changes";
      const answer = simple ? ["42501", status] : ["55000", 500];
      const [table, change] = [client.from(view), { [site.views[view].at(-1)]: null }];
      await refused(table.insert(change), ...answer);
      await refused(table.update(change).not("id", "is", null), ...answer);
      await refused(table.delete().not("id", "is", null), ...answer);
    }
  }
});

test("one row, or none, is what a caller asks for", async () => {
  const installations = (key) =>
    project.admin.from("v_plugin_installations").select("plugin_key").eq("plugin_key", key);
  assert.deepEqual(await ok(installations("client_a").single()), { plugin_key: "client_a" });
  assert.deepEqual(await ok(installations("client_a").maybeSingle()), { plugin_key: "client_a" });
  assert.equal(await ok(installations("client_z").maybeSingle()), null);
  const none = await refused(installations("client_z").single(), "PGRST116", 406);
  assert.equal(none.details, "The result contains 0 rows");
  const many = project.admin.from("v_plugin_installations").select().in("plugin_key", keys).single();
  assert.equal((await refused(many, "PGRST116", 406)).details, "The result contains 3 rows");
});

test("filters, order, pages and counts", async () => {
  const installations = (columns = "plugin_key", options) =>
    project.admin.from("v_plugin_installations").select(columns, options).in("plugin_key", keys);
  const keysOf = async (request, status) => (await ok(request, status)).map((row) => row.plugin_key);
  const [a, b, c] = keys;
  assert.deepEqual(await keysOf(installations().order("plugin_key", { ascending: false })), [c, b, a]);
  assert.deepEqual(await keysOf(installations().neq("plugin_key", a).order("plugin_key")), [b, c]);
  assert.deepEqual(await keysOf(installations().gt("plugin_key", a).lt("plugin_key", c)), [b]);
  assert.deepEqual(await keysOf(installations().gte("plugin_key", b).lte("plugin_key", b)), [b]);
  assert.deepEqual(await keysOf(installations().is("secret_ref", null).order("plugin_key").limit(1)), [a]);
  assert.deepEqual(await keysOf(installations().not("secret_ref", "is", null)), []);
  assert.deepEqual(await keysOf(installations().eq("is_integration", false).order("installed_at").range(1, 2)), [b, c]);
  const since = new Date(Date.now() - 3_600_000).toISOString();
  assert.deepEqual(await keysOf(installations().gt("installed_at", since).order("plugin_key").limit(1)), [a]);
  const url = { plugin_key: a, url: site.receiver, key: a };
  const columns = "plugin_key, url:config->>webhook_url, key:plugin_key";
  assert.deepEqual(await ok(installations(columns).order("plugin_key").limit(1).single()), url);

  const page = await installations("plugin_key", { count: "exact" }).order("plugin_key").range(0, 1);
  assert.deepEqual([page.status, page.count, page.data.length], [206, 3, 2]);
  const count = await installations("*", { count: "exact", head: true });
  assert.deepEqual([count.status, count.count, count.data], [200, 3, null]);
  const beyond = installations("plugin_key", { count: "exact" }).range(10, 19);
  await refused(beyond, "PGRST103", 416);
  const headers = { Authorization: `Bearer ${project.token({ role: "anon" })}`, Range: "1-1" };
  const ranged = await fetch(`${project.url}/rest/v1/v_plugins?select=key&key=in.(${keys})&order=key`, { headers });
  assert.deepEqual([ranged.headers.get("content-range"), await ranged.json()], ["1-1/*", [{ key: b }]]);
});

test("the types of a row are JSON's", async () => {
  const change = await ok(project.admin.from("v_audit_entity_changes").select().eq("table_name", "items").single());
  assert.equal(typeof change.id, "number");
  assert.deepEqual([change.record_id, change.old_data, change.changed_fields], ["1", null, null]);
  assert.equal(change.new_data.title, "one");
  assert.ok(Math.abs(Date.now() - Date.parse(change.created_at)) < 600_000, change.created_at);
  const subscriptions = await ok(project.admin.from("v_plugin_webhook_subscriptions").select("operations"));
  assert.deepEqual(
    subscriptions.map((row) => row.operations),
    [["INSERT"], ["INSERT"], ["INSERT"]],
  );
});
