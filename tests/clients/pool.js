"use strict";
// node-postgres behind pgbouncer in transaction mode: whoever gets a server's session next finds nothing of the one
// before. The database `one` has a single session; PGDATABASE has a few.

const assert = require("node:assert/strict");
const { test, before, after } = require("node:test");
const { randomUUID } = require("node:crypto");
const { Client, Pool } = require("pg");
const { site, claimsOf, asUser } = require("./session");

const INSTALL = "select rpc_install_plugin($1, $2, $3, $4) as id";

let first, second;
before(async () => {
  [first, second] = [new Client({ database: "one" }), new Client({ database: "one" })];
  for (const client of [first, second]) await client.connect();
  await asUser(first, { role: "service_role" }, () => first.query("select rpc_register_plugin('pooled', 'Pooled')"));
});
after(async () => {
  for (const client of [first, second]) await client.end();
});

const admin = () => claimsOf(site.admin, site.tenant);
const STATE = `select pg_backend_pid() as pid, current_user as role,
  coalesce(current_setting('request.jwt.claims', true), '') as claims,
  coalesce(current_setting('app.current_tenant_id', true), '') as tenant`;

/** The next client of the same session has no role, no claims, no tenant, and sees nothing. */
async function assertNothingIsLeft(pid) {
  const {
    rows: [state],
  } = await second.query(STATE);
  assert.deepEqual(state, { pid, role: "authenticator", claims: "", tenant: "" });
  // The same user with a token that names no tenant: a tenant of the session's would let the rows be seen.
  const { tenant_id, ...claims } = admin();
  const { rows } = await asUser(second, claims, () => second.query("select id from v_plugin_installations"));
  assert.deepEqual(rows, []);
}

test("no call leaves its tenant to the next client of the session", async () => {
  const installation = await asUser(first, admin(), async () => {
    const {
      rows: [{ id }],
    } = await first.query(INSTALL, [site.tenant, "pooled", null, null]);
    return id;
  });
  const {
    rows: [{ pid }],
  } = await first.query(STATE);
  await assertNothingIsLeft(pid);
  let subscription;
  const subscribe = "select rpc_upsert_plugin_webhook_subscription($1, $2, 'public', 'items', $3)";
  const calls = [
    () => first.query("select rpc_update_plugin_installation($1, $2, $3)", [site.tenant, installation, "disabled"]),
    async () => {
      const { rows } = await first.query(subscribe, [site.tenant, installation, ["INSERT"]]);
      [subscription] = Object.values(rows[0]);
    },
    () => first.query("select rpc_delete_plugin_webhook_subscription($1, $2)", [site.tenant, subscription]),
    () => first.query("insert into items (tenant_id, title) values ($1, 'one')", [site.tenant]),
    () => first.query("select count(*) from v_audit_entity_changes"),
    () => first.query("select rpc_uninstall_plugin($1, $2)", [site.tenant, installation]),
    () => first.query(INSTALL, [site.tenant, "pooled", null, null]),
  ];
  for (const call of calls) {
    await asUser(first, admin(), call);
    await assertNothingIsLeft(pid);
  }
});

test("nor does one that fails, rolls back or is cancelled", async () => {
  const {
    rows: [{ pid }],
  } = await first.query(STATE);
  for (const [values, code] of [
    [[site.tenant, "unheard_of", null, null], "P0001"],
    [[site.tenant, "", null, null], "23514"],
    [[site.other_tenant, "pooled", null, null], "42501"],
  ]) {
    await assert.rejects(
      asUser(first, admin(), () => first.query(INSTALL, values)),
      { code },
    );
    await assertNothingIsLeft(pid);
  }
  const call = asUser(first, admin(), async () => {
    await first.query(INSTALL, [site.tenant, "pooled", null, null]);
    throw new Error("changed my mind");
  });
  await assert.rejects(call, /changed my mind/);
  await assertNothingIsLeft(pid);
  const slow = asUser(first, admin(), async () => {
    await first.query(INSTALL, [site.tenant, "pooled", null, null]);
    await first.query("set local statement_timeout = 20");
    await first.query("select pg_sleep(10)");
  });
  await assert.rejects(slow, { code: "57014" });
  await assertNothingIsLeft(pid);
});

test(
  "200 calls at once, each of a tenant of its own, and each sees its own",
  { skip: site.users_are_known },
  async () => {
    const pool = new Pool({ max: 200 });
    async function call() {
      const tenant = randomUUID();
      const client = await pool.connect();
      try {
        return await asUser(client, claimsOf(randomUUID(), tenant), async () => {
          await client.query(INSTALL, [tenant, "pooled", null, { webhook_url: site.receiver }]);
          const { rows } = await client.query(`select tenant_id, pg_backend_pid() as pid from v_plugin_installations`);
          assert.deepEqual(
            rows.map((row) => row.tenant_id),
            [tenant],
          );
          return rows[0].pid;
        });
      } finally {
        client.release();
      }
    }
    const pids = new Set(await Promise.all(Array.from({ length: 200 }, call)));
    await pool.end();
    assert.ok(pids.size > 1 && pids.size <= 5, `${pids.size} sessions served 200 clients`);
  },
);
