"use strict";
// node-postgres with prepared statements of a released version, while the extension is updated.

const assert = require("node:assert/strict");
const { test, before, after } = require("node:test");
const { randomUUID } = require("node:crypto");
const { Client } = require("pg");
const { claimsOf, asUser } = require("./session");

const SERVICE = { role: "service_role" };
const admin = claimsOf(randomUUID(), randomUUID());

let client;
const valueOf = async (query) => Object.values((await client.query(query)).rows[0])[0];

before(async () => {
  client = new Client();
  await client.connect();
});
after(() => client.end());

test("prepared statements live through ALTER EXTENSION UPDATE", async () => {
  const tenant = admin.tenant_id;
  const statement = (name, text, ...values) => ({ name, text, values });
  async function round() {
    const register = statement("register", "select rpc_register_plugin($1, $2)", "desk", "Desk");
    const process = statement("process", "select rpc_process_plugin_deliveries($1)", 5);
    await asUser(client, SERVICE, async () => [await valueOf(register), await valueOf(process)]);
    const install = statement("install", "select rpc_install_plugin($1, $2)", tenant, "desk");
    const id = await asUser(client, admin, () => valueOf(install));
    await asUser(client, admin, async () => {
      await valueOf(statement("update", "select rpc_update_plugin_installation($1, $2, $3)", tenant, id, "disabled"));
      const subscribe = "select rpc_upsert_plugin_webhook_subscription($1, $2, 'public', 'items', $3)";
      const subscription = await valueOf(statement("subscribe", subscribe, tenant, id, ["INSERT"]));
      await valueOf(
        statement("unsubscribe", "select rpc_delete_plugin_webhook_subscription($1, $2)", tenant, subscription),
      );
      const installations = "select id, status from v_plugin_installations where plugin_key = $1";
      const { rows } = await client.query(statement("installations", installations, "desk"));
      assert.deepEqual(rows, [{ id, status: "disabled" }]);
      await valueOf(statement("uninstall", "select rpc_uninstall_plugin($1, $2)", tenant, id));
    });
  }
  await round();
  const dba = new Client({ user: "postgres" });
  await dba.connect();
  const versions = "select extversion from pg_extension where extname = 'plugin_webhooks'";
  const {
    rows: [before],
  } = await dba.query(versions);
  await dba.query("alter extension plugin_webhooks update");
  const {
    rows: [after],
  } = await dba.query(versions);
  await dba.end();
  assert.notEqual(after.extversion, before.extversion);
  await round();
  await client.query("discard plans");
  await round();
});
