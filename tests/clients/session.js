"use strict";
// What backends do on a session of `authenticator`: a transaction with the role and the claims of a user. The
// variable SITE describes the project; the tests in Rust set it.

const site = JSON.parse(process.env.SITE);

/** The claims of a signed-in user. */
function claimsOf(user, tenant, permissions = ["tenant.admin"]) {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  return { role: "authenticated", aud: "authenticated", sub: user, tenant_id: tenant, permissions, exp };
}

const SET = "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)";

/** Runs `work` in a transaction of its own; `client` is one of node-postgres. */
async function asUser(client, claims, work, isolation = "read committed") {
  await client.query(`begin isolation level ${isolation}`);
  try {
    await client.query(SET, [claims.role, JSON.stringify(claims)]);
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

module.exports = { site, claimsOf, asUser };
