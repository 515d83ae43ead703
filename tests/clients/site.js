"use strict";
// A project on Supabase as its callers see it: a gateway, and a client of supabase-js for each of them.

const assert = require("node:assert/strict");
const { createHmac } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");
const { createClient } = require("@supabase/supabase-js");
const gateway = require("./gateway");
const { site, claimsOf } = require("./session");

const JWT_SECRET = "the project's secret for tokens, long enough";

const keyOf = (role) => gateway.token({ role, iss: "supabase" }, JWT_SECRET);

async function open() {
  const { url, stop } = await gateway.start(JWT_SECRET);
  const client = (key, options) =>
    createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false }, ...options });
  /** As a browser has it: the project's key, and the user's token in the header. */
  const withToken = (token) => client(keyOf("anon"), { global: { headers: { Authorization: `Bearer ${token}` } } });
  const as = (...user) => withToken(gateway.token(claimsOf(...user), JWT_SECRET));
  return {
    url,
    stop,
    withToken,
    as,
    token: (claims, secret = JWT_SECRET) => gateway.token(claims, secret),
    anon: client(keyOf("anon")),
    service: client(keyOf("service_role")),
    admin: as(site.admin, site.tenant),
    member: as(site.member, site.tenant, []),
    otherAdmin: as(site.other_admin, site.other_tenant),
    /** The same as `admin` in the other way that supabase-js has. */
    adminByCallback: client(keyOf("anon"), {
      accessToken: async () => gateway.token(claimsOf(site.admin, site.tenant), JWT_SECRET),
    }),
  };
}

/** The data of an answer that is no error. */
async function ok(request, status = 200) {
  const answer = await request;
  assert.equal(answer.error, null, JSON.stringify(answer.error));
  assert.equal(answer.status, status);
  return answer.data;
}

/** The error of an answer with this SQLSTATE and HTTP status, whole. */
async function refused(request, code, status) {
  const { data, error, status: actual } = await request;
  assert.ok(error, `expected ${code}, but the answer was ${JSON.stringify(data)}`);
  assert.deepEqual([error.code, actual], [code, status], JSON.stringify(error));
  assert.ok(error.message.trim().length > 0, "an error has a message");
  for (const key of ["details", "hint"]) {
    assert.ok(error[key] === null || error[key].trim().length > 0, `${key}: ${JSON.stringify(error)}`);
  }
  return error;
}

/** Asks again until the answer satisfies `condition`. */
async function until(what, ask, condition) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const answer = await ask();
    if (condition(answer)) return answer;
    assert.ok(Date.now() < deadline, `waited in vain for ${what}: ${JSON.stringify(answer)}`);
    await sleep(20);
  }
}

/** What a partner signs: the payload as PostgreSQL prints jsonb. */
const sign = (printed, secret = site.secret) => createHmac("sha256", secret).update(printed).digest("hex");

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

module.exports = { site, open, ok, refused, until, sign, UUID };
