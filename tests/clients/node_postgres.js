"use strict";
// node-postgres on sessions of its own: parameters, named prepared statements, isolation levels.

const assert = require("node:assert/strict");
const { test, before, after } = require("node:test");
const { randomUUID } = require("node:crypto");
const { Client } = require("pg");
const { site, claimsOf, asUser } = require("./session");

const INSTALL = "select rpc_install_plugin($1, $2, $3, $4) as id";
const SERVICE = { role: "service_role" };
const someAdmin = (tenant = site.tenant) => claimsOf(randomUUID(), tenant);

let client;
const valueOf = async (query) => Object.values((await client.query(query)).rows[0])[0];

before(async () => {
  client = new Client();
  await client.connect();
  await asUser(client, SERVICE, async () => {
    await client.query("select rpc_register_plugin($1, $2)", ["desk", "Desk"]);
    await client.query("select rpc_register_plugin($1, $2)", ["till", "Till"]);
  });
});
after(() => client.end());

test("parameters of every type, and what comes back", async () => {
  const config = { webhook_url: site.receiver, own: ["ä€", { two: null }] };
  const installation = await asUser(client, someAdmin(), () =>
    valueOf({ text: INSTALL, values: [site.tenant, "desk", null, config] }),
  );
  const row = await asUser(client, someAdmin(), async () => {
    const values = [site.tenant, installation, ["INSERT", "UPDATE"], ['a, "b" {}', "ä"], true];
    const text = `select rpc_upsert_plugin_webhook_subscription(p_tenant_id => $1, p_installation_id => $2,
      p_table_schema => 'public', p_table_name => 'items', p_operations => $3, p_changed_fields_allowlist => $4,
      p_include_payload => $5)`;
    await client.query(text, values);
    const view = "select * from v_plugin_webhook_subscriptions where plugin_installation_id = $1";
    return (await client.query(view, [installation])).rows[0];
  });
  assert.deepEqual(row.operations, ["INSERT", "UPDATE"]);
  assert.deepEqual(row.changed_fields_allowlist, ['a, "b" {}', "ä"]);
  assert.equal(row.include_payload, true);
  assert.ok(row.created_at instanceof Date);
  const stored = await asUser(client, someAdmin(), () =>
    valueOf({ text: "select config from v_plugin_installations where id = $1", values: [installation] }),
  );
  assert.deepEqual(stored, config);
  const update = "select rpc_update_plugin_installation($1, $2, p_config => $3)";
  const nothing = await asUser(client, someAdmin(), () =>
    valueOf({ text: update, values: [site.tenant, installation, { webhook_url: site.receiver }] }),
  );
  assert.equal(nothing, "", "void is an empty text");
  const process = { text: "select rpc_process_plugin_deliveries($1)", values: [null] };
  assert.equal(typeof (await asUser(client, SERVICE, () => valueOf(process))), "number");
});

test("an error has the fields of PostgreSQL", async () => {
  const values = [site.tenant, "desk", null, { webhook_url: "ftp://a" }];
  const call = asUser(client, someAdmin(), () => client.query(INSTALL, values));
  await assert.rejects(
    call,
    (error) => error.code === "22023" && error.severity === "ERROR" && /^webhook_url: /.test(error.hint),
  );
});

test("one prepared statement serves every role and tenant, each with its own rows", async () => {
  const text = "select tenant_id, plugin_key from v_plugin_installations where plugin_key = $1";
  const seen = { name: "installations", text, values: ["till"] };
  const install = { name: "install", text: INSTALL };
  const rows = async (claims) => (await asUser(client, claims, () => client.query(seen))).rows;
  // Often enough for PostgreSQL to change from custom plans to a generic one.
  for (let round = 0; round < 8; round++) {
    for (const tenant of [site.tenant, site.other_tenant]) {
      await asUser(client, someAdmin(tenant), () => client.query({ ...install, values: [tenant, "till", null, null] }));
      assert.deepEqual(await rows(someAdmin(tenant)), [{ tenant_id: tenant, plugin_key: "till" }]);
    }
    assert.deepEqual(await rows(claimsOf(randomUUID(), site.tenant, [])), []);
    assert.deepEqual(await rows({ role: "anon" }), []);
  }
  const generic = "select generic_plans > 0 from pg_prepared_statements where name = 'installations'";
  assert.equal(await valueOf(generic), true);
});

test("after DISCARD ALL a session goes on", async () => {
  const install = { text: INSTALL, values: [site.tenant, "desk", null, null] };
  const before = await asUser(client, someAdmin(), () => valueOf({ ...install, name: "before" }));
  await client.query("discard all");
  assert.equal(await asUser(client, someAdmin(), () => valueOf(install)), before);
  assert.equal(await asUser(client, someAdmin(), () => valueOf({ ...install, name: "after" })), before);
  // The client believes that the server still has it.
  const forgotten = asUser(client, someAdmin(), () => client.query({ ...install, name: "before" }));
  await assert.rejects(forgotten, { code: "26000" });
});

test("every isolation level", async () => {
  for (const level of ["repeatable read", "serializable"]) {
    const seen = await asUser(
      client,
      someAdmin(),
      async () => {
        await client.query("select rpc_install_plugin($1, 'desk')", [site.tenant]);
        return (await client.query("select plugin_key from v_plugin_installations where plugin_key = 'desk'")).rows;
      },
      level,
    );
    assert.equal(seen.length, 1, level);
  }
});

test("a call that fails in a savepoint leaves the rest of the transaction alone", async () => {
  const id = await asUser(client, someAdmin(), async () => {
    for (const [key, code] of [
      ["unheard_of", "P0001"],
      ["", "23514"],
    ]) {
      await client.query("savepoint s");
      await assert.rejects(client.query(INSTALL, [site.tenant, key, null, null]), { code });
      await client.query("rollback to savepoint s");
    }
    return valueOf({ text: INSTALL, values: [site.tenant, "desk", null, null] });
  });
  assert.ok(id);
});
