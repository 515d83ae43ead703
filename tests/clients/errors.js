"use strict";
// Each error of the interface as supabase-js shows it: code, message, details, hint and the status of HTTP.

const assert = require("node:assert/strict");
const { test, before, after } = require("node:test");
const { randomUUID } = require("node:crypto");
const { site, open, ok, refused, sign } = require("./site");

const NOBODY = "00000000-0000-4000-8000-000000000000";

let project, installation, unsigned, foreign;
/** An admin of the tenant whose limits nobody else uses up. */
const someAdmin = () => project.as(randomUUID(), site.tenant);

before(async () => {
  project = await open();
  await ok(project.service.rpc("rpc_register_plugin", { p_key: "desk", p_name: "Desk" }));
  await ok(project.service.rpc("rpc_register_plugin", { p_key: "plain", p_name: "Plain" }));
  const install = (client, p_tenant_id, p_plugin_key, p_secret_ref) =>
    ok(client.rpc("rpc_install_plugin", { p_tenant_id, p_plugin_key, p_secret_ref }));
  installation = await install(project.admin, site.tenant, "desk", site.secret_name);
  unsigned = await install(project.admin, site.tenant, "plain", null);
  foreign = await install(project.otherAdmin, site.other_tenant, "desk", null);
});
after(() => project.stop());

/** Arguments that are right; each test makes one of them wrong. */
const right = (more = {}) => ({
  rpc_register_plugin: { p_key: "another", p_name: "Another" },
  rpc_install_plugin: { p_tenant_id: site.tenant, p_plugin_key: "desk" },
  rpc_update_plugin_installation: { p_tenant_id: site.tenant, p_installation_id: installation },
  rpc_uninstall_plugin: { p_tenant_id: site.tenant, p_installation_id: installation },
  rpc_upsert_plugin_webhook_subscription: {
    p_tenant_id: site.tenant,
    p_installation_id: installation,
    p_table_schema: "public",
    p_table_name: "items",
    p_operations: ["INSERT"],
  },
  rpc_delete_plugin_webhook_subscription: { p_tenant_id: site.tenant, p_subscription_id: NOBODY },
  rpc_process_plugin_deliveries: {},
  rpc_plugin_ingest_webhook: {
    p_plugin_key: "desk",
    p_installation_id: installation,
    p_payload: { action: "noop" },
    p_signature: sign('{"action": "noop"}'),
  },
  ...more,
});
const BACKEND = ["rpc_register_plugin", "rpc_process_plugin_deliveries"];
const OPEN_TO_PARTNERS = "rpc_plugin_ingest_webhook";
const OF_ADMINS = site.functions.filter((name) => !BACKEND.includes(name) && name !== OPEN_TO_PARTNERS);
const wrong = (client, name, more, code, status) =>
  refused(client.rpc(name, { ...right()[name], ...more }), code, status);

test("who may not call is told so: 401 without a session, 403 with one", async () => {
  for (const name of [...BACKEND, ...OF_ADMINS]) await wrong(project.anon, name, {}, "42501", 401);
  for (const name of BACKEND) await wrong(project.admin, name, {}, "42501", 403);
  for (const name of OF_ADMINS) await wrong(project.service, name, {}, "42501", 403);
});

test("a token without a user is not authenticated", async () => {
  const claims = { role: "authenticated", tenant_id: site.tenant, permissions: ["tenant.admin"] };
  const client = project.withToken(project.token(claims));
  for (const name of OF_ADMINS) await wrong(client, name, {}, "28000", 403);
});

test("a missing permission is named, and another tenant's things stay out of reach", async () => {
  for (const name of OF_ADMINS) {
    const error = await wrong(project.member, name, {}, "42501", 403);
    assert.match(error.message, /tenant\.admin/, name);
    await wrong(project.otherAdmin, name, {}, "42501", 403);
  }
  for (const name of OF_ADMINS.filter((name) => "p_installation_id" in right()[name])) {
    await wrong(someAdmin(), name, { p_installation_id: foreign }, "42501", 403);
  }
});

test("a required argument that is null is an error, whichever it is", async () => {
  const required = {
    rpc_register_plugin: ["p_key", "p_name"],
    rpc_install_plugin: ["p_tenant_id", "p_plugin_key"],
    rpc_update_plugin_installation: ["p_tenant_id", "p_installation_id"],
    rpc_uninstall_plugin: ["p_tenant_id", "p_installation_id"],
    rpc_upsert_plugin_webhook_subscription: [
      "p_tenant_id",
      "p_installation_id",
      "p_table_schema",
      "p_table_name",
      "p_operations",
    ],
    rpc_delete_plugin_webhook_subscription: ["p_tenant_id", "p_subscription_id"],
  };
  for (const [name, names] of Object.entries(required)) {
    const client = BACKEND.includes(name) ? project.service : someAdmin();
    for (const argument of names) await wrong(client, name, { [argument]: null }, "23514", 400);
  }
  for (const argument of ["p_plugin_key", "p_installation_id", "p_payload"]) {
    await wrong(project.anon, OPEN_TO_PARTNERS, { [argument]: null }, "23514", 400);
  }
});

test("blank, malformed and unknown words are 23514", async () => {
  for (const p_key of ["", " ", "ab\n", "A", "a", "a-b"]) {
    await wrong(project.service, "rpc_register_plugin", { p_key }, "23514", 400);
  }
  await wrong(project.service, "rpc_register_plugin", { p_name: " " }, "23514", 400);
  for (const p_secret_ref of ["", " "]) {
    await wrong(someAdmin(), "rpc_install_plugin", { p_secret_ref }, "23514", 400);
  }
  await wrong(someAdmin(), "rpc_update_plugin_installation", { p_status: "gone" }, "23514", 400);
  for (const more of [{ p_operations: [] }, { p_operations: ["TRUNCATE"] }, { p_table_name: " " }]) {
    await wrong(someAdmin(), "rpc_upsert_plugin_webhook_subscription", more, "23514", 400);
  }
});

test("what there is not is P0001", async () => {
  await wrong(someAdmin(), "rpc_install_plugin", { p_plugin_key: "unheard_of" }, "P0001", 400);
  for (const name of OF_ADMINS.filter((name) => "p_installation_id" in right()[name])) {
    await wrong(someAdmin(), name, { p_installation_id: NOBODY }, "P0001", 400);
  }
  await wrong(someAdmin(), "rpc_delete_plugin_webhook_subscription", {}, "P0001", 400);
  await wrong(project.anon, OPEN_TO_PARTNERS, { p_installation_id: NOBODY }, "P0001", 400);
});

test("a configuration that could not be sent comes with a hint", async () => {
  const error = await wrong(someAdmin(), "rpc_install_plugin", { p_config: { webhook_url: "ftp://a" } }, "22023", 400);
  assert.match(error.hint, /^webhook_url: /);
});

test("a partner's call that is wrong", async () => {
  for (const p_signature of [null, "", sign("{}"), "zz"]) {
    await wrong(project.anon, OPEN_TO_PARTNERS, { p_signature }, "42501", 401);
    await wrong(project.service, OPEN_TO_PARTNERS, { p_signature }, "42501", 403);
  }
  const unknown = { p_payload: { action: "launch" }, p_signature: sign('{"action": "launch"}') };
  await wrong(project.anon, OPEN_TO_PARTNERS, unknown, "22023", 400);
  const other = { p_plugin_key: "plain", p_installation_id: unsigned };
  await wrong(project.anon, OPEN_TO_PARTNERS, other, "28000", 403);
});

test("too many calls in a minute are 54000", async () => {
  const hasty = someAdmin();
  for (let n = 0; n < 10; n++) await ok(hasty.rpc("rpc_install_plugin", right().rpc_install_plugin));
  await wrong(hasty, "rpc_install_plugin", {}, "54000", 500);
  await ok(someAdmin().rpc("rpc_install_plugin", right().rpc_install_plugin));
});

test("a read-only request changes nothing: 405", async () => {
  const read = project.service.rpc("rpc_process_plugin_deliveries", { p_batch_size: 5 }, { get: true });
  await refused(read, "25006", 405);
  const { p_key, p_name } = right().rpc_register_plugin;
  await refused(project.service.rpc("rpc_register_plugin", { p_key, p_name }, { get: true }), "25006", 405);
  for (const name of ["rpc_install_plugin", "rpc_uninstall_plugin"]) {
    await refused(someAdmin().rpc(name, right()[name], { get: true }), "25006", 405);
  }
});

test("a name or an argument that is none, and values of other types", async () => {
  await refused(project.service.rpc("rpc_register_plugin", { p_key: "another" }), "PGRST202", 404);
  await wrong(project.service, "rpc_register_plugin", { p_colour: "red" }, "PGRST202", 404);
  await refused(project.service.rpc("rpc_unheard_of"), "PGRST202", 404);
  await refused(project.service.from("v_unheard_of").select(), "PGRST205", 404);
  await refused(project.service.schema("int").from("plugins").select(), "PGRST106", 406);
  await wrong(someAdmin(), "rpc_uninstall_plugin", { p_installation_id: "7" }, "22P02", 400);
  await wrong(project.service, "rpc_process_plugin_deliveries", { p_batch_size: "many" }, "22P02", 400);
  await wrong(project.service, "rpc_process_plugin_deliveries", { p_batch_size: 3e9 }, "22003", 400);
});

test("tokens of others and of the past", async () => {
  const plugins = (client) => client.from("v_plugins").select();
  const exp = Math.floor(Date.now() / 1000) - 1;
  const expired = project.token({ role: "service_role", exp });
  await refused(plugins(project.withToken(expired)), "PGRST303", 401);
  const forged = project.token({ role: "service_role" }, "another secret");
  await refused(plugins(project.withToken(forged)), "PGRST301", 401);
});
