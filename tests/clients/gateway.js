"use strict";
// What stands between supabase-js and the database: a small HTTP server that speaks PostgREST's rules, as far as the
// functions and views of the extension need them. Each rule names the page of PostgREST's documentation (version 13,
// docs.postgrest.org/en/v13/references/…) that it follows:
//
//   [auth]        a bearer token, HS256; its claim `role`; without token the anonymous role
//   [tx]          one transaction a request: access mode, role, claims, method, path and headers; prepared statements
//   [functions]   named arguments, chosen by their names alone; scalar results; 204 for void
//   [tables]      select, filters, order; insert, update, delete
//   [singular]    api/resource_representation: one object or 406
//   [pagination]  limit, offset, Range, Content-Range, exact counts
//   [preferences] return=minimal, return=representation, count=exact. `params=single-object` left PostgREST in 13.
//   [errors]      the error's JSON, and HTTP's status by SQLSTATE
//
// Supabase puts the path /rest/v1/ before PostgREST's own.

const http = require("node:http");
const { createHash, createHmac, timingSafeEqual } = require("node:crypto");
const { Pool, escapeIdentifier: quote } = require("pg");

const PREFIX = "/rest/v1/";
const SCHEMA = "public";
const ANONYMOUS = "anon";

/** An answer that is an error of PostgREST's own. */
class Refusal extends Error {
  constructor(status, code, message, details = null) {
    super(message);
    Object.assign(this, { status, code, details });
  }
}

// [auth] ------------------------------------------------------------------------------------------------------------

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const mac = (text, secret) => createHmac("sha256", secret).update(text).digest();

/** A token as the project's auth server signs it. */
function token(claims, secret) {
  const text = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${text}.${mac(text, secret).toString("base64url")}`;
}

function claimsOf(header, secret) {
  if (header === undefined) return { role: ANONYMOUS };
  const [head, body, signature] = header.replace(/^Bearer /i, "").split(".");
  const invalid = (reason) => new Refusal(401, "PGRST301", reason);
  let algorithm, claims;
  try {
    algorithm = JSON.parse(Buffer.from(head, "base64url")).alg;
    claims = JSON.parse(Buffer.from(body, "base64url"));
  } catch {
    throw invalid("Expected 3 parts in JWT; got another form");
  }
  const expected = mac(`${head}.${body}`, secret);
  const given = Buffer.from(signature ?? "", "base64url");
  if (algorithm !== "HS256" || given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw invalid("No suitable key or wrong key type");
  }
  if (claims.exp !== undefined && claims.exp <= Date.now() / 1000) {
    throw new Refusal(401, "PGRST303", "JWT expired");
  }
  return { role: ANONYMOUS, ...claims };
}

// [errors] ----------------------------------------------------------------------------------------------------------

const STATUS = [
  [/^08/, 503],
  [/^09/, 500],
  [/^0[LP]/, 403],
  [/^2350[35]$/, 409],
  [/^25006$/, 405],
  [/^25/, 500],
  [/^28/, 403],
  [/^2D/, 500],
  [/^3[89B]/, 500],
  [/^40/, 500],
  [/^53400$/, 500],
  [/^53/, 503],
  [/^5[4578]/, 500],
  [/^F0/, 500],
  [/^HV/, 500],
  [/^P0001$/, 400],
  [/^P0/, 500],
  [/^XX/, 500],
  [/^42883$/, 404],
  [/^42P01$/, 404],
  [/^42P17$/, 500],
];

function statusOf(sqlstate, role) {
  if (sqlstate === "42501") return role === ANONYMOUS ? 401 : 403;
  return STATUS.find(([pattern]) => pattern.test(sqlstate))?.[1] ?? 400;
}

function answerTo(error, role) {
  const ofDatabase = error.severity !== undefined;
  if (!ofDatabase && !(error instanceof Refusal)) throw error;
  const { code, message } = error;
  const details = (ofDatabase ? error.detail : error.details) ?? null;
  const status = ofDatabase ? statusOf(code, role) : error.status;
  const headers = status === 401 ? { "WWW-Authenticate": "Bearer" } : {};
  return { status, headers, body: JSON.stringify({ code, details, hint: error.hint ?? null, message }) };
}

// [tx] --------------------------------------------------------------------------------------------------------------

const SETTINGS = `select set_config('search_path', '${SCHEMA}', true), set_config('role', $1, true),
  set_config('request.jwt.claims', $2, true), set_config('request.method', $3, true),
  set_config('request.path', $4, true), set_config('request.headers', $5, true)`;

/** One prepared statement. */
async function execute(session, text, values) {
  const name = createHash("md5").update(text).digest("hex");
  return (await session.query({ name, text, values })).rows[0];
}

async function inTransaction(pool, request, access, main) {
  const session = await pool.connect();
  let broken;
  try {
    await session.query(`begin isolation level read committed read ${access}`);
    const { claims, method, path, headers } = request;
    await execute(session, SETTINGS, [claims.role, JSON.stringify(claims), method, path, JSON.stringify(headers)]);
    const answer = await main(session);
    await session.query("commit");
    return answer;
  } catch (error) {
    await session.query("rollback").catch((gone) => (broken = gone));
    throw error;
  } finally {
    session.release(broken);
  }
}

// [tables], [singular], [pagination], [preferences] -----------------------------------------------------------------

const OPERATORS = { eq: "=", neq: "<>", gt: ">", gte: ">=", lt: "<", lte: "<=" };
const NOT_FILTERS = ["select", "order", "limit", "offset", "columns"];

const unreadable = (text) => new Refusal(400, "PGRST100", `"failed to parse (${text})"`);

/** A column, an alias, a path into JSON: `name`, `alias:name`, `config->>webhook_url`. */
function output(text) {
  const [, alias, name, path] = /^(?:(\w+):)?(\w+)((?:->>?\w+)*)$/.exec(text) ?? [];
  if (name === undefined) throw unreadable(text);
  const steps = path.replace(/(->>?)(\w+)/g, "$1'$2'");
  return `t.${quote(name)}${steps} as ${quote(alias ?? /\w+$/.exec(name + path)[0])}`;
}

/** The elements of `(a,"b,c")`. */
const list = (text) =>
  [...text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|[^,]+/g)].map(([plain, quoted]) => quoted ?? plain);

function condition([name, text], values) {
  const [, not, operator, operand] = /^(not\.)?(\w+)\.(.*)$/s.exec(text) ?? [];
  const bound = (value) => `$${values.push(value)}`;
  const column = `t.${quote(name)}`;
  let sql;
  if (operator in OPERATORS) sql = `${column} ${OPERATORS[operator]} ${bound(operand)}`;
  else if (operator === "in") sql = `${column} = any (${bound(list(operand))})`;
  else if (operator === "is" && /^(null|true|false)$/.test(operand)) sql = `${column} is ${operand}`;
  else throw unreadable(text);
  return not ? `not (${sql})` : sql;
}

function where(query, values) {
  const filters = [...query].filter(([name]) => !NOT_FILTERS.includes(name));
  return filters.length === 0 ? "" : `where ${filters.map((filter) => condition(filter, values)).join(" and ")}`;
}

function orderOf(query) {
  const columns = (query.get("order") ?? "").split(",").filter(Boolean);
  const terms = columns.map((text) => {
    const [, name, direction, nulls] = /^(\w+)(?:\.(asc|desc))?(?:\.nulls(first|last))?$/.exec(text) ?? [];
    if (name === undefined) throw unreadable(text);
    return `t.${quote(name)} ${direction ?? "asc"}${nulls ? ` nulls ${nulls}` : ""}`;
  });
  return terms.length === 0 ? "" : `order by ${terms.join(", ")}`;
}

function pageOf({ query, headers }) {
  const [, first, last] = /^(\d+)-(\d*)$/.exec(headers.range ?? "") ?? [];
  const offset = Number(query.get("offset") ?? first ?? 0);
  const limit = query.get("limit") ?? (last ? Number(last) - offset + 1 : null);
  if (limit !== null && Number(limit) < 0) throw new Refusal(416, "PGRST103", "Requested range not satisfiable");
  return { offset, limit };
}

const prefers = (request, preference) => (request.headers.prefer ?? "").split(/,\s*/).includes(preference);
const wantsObject = (request) => (request.headers.accept ?? "").includes("application/vnd.pgrst.object+json");

/** The rows of `source` as the caller wants them. */
function represent(request, { body, rows }) {
  if (!wantsObject(request)) return { body, type: "application/json; charset=utf-8" };
  if (rows !== 1) {
    const details = `The result contains ${rows} rows`;
    throw new Refusal(406, "PGRST116", "Cannot coerce the result to a single JSON object", details);
  }
  return { body: body.slice(1, -1), type: "application/vnd.pgrst.object+json; charset=utf-8" };
}

const ROWS = "coalesce(json_agg(source), '[]')::text as body, count(*)::int as rows";
const relation = (name) => `${quote(SCHEMA)}.${quote(name)}`;

async function read(session, request, name) {
  const { query } = request;
  const select = query.get("select") ?? "*";
  const columns = select === "*" ? "t.*" : select.split(",").map(output).join(", ");
  const values = [];
  const from = `from ${relation(name)} as t ${where(query, values)}`;
  const { offset, limit } = pageOf(request);
  const counted = prefers(request, "count=exact");
  const found = await execute(
    session,
    `with source as (select ${columns} ${from} ${orderOf(query)} limit ${limit === null ? "all" : Number(limit)}
       offset ${offset})
     select ${ROWS}, ${counted ? `(select count(*)::int ${from})` : "null"} as total from source`,
    values,
  );
  const { rows, total } = found;
  if (total !== null && offset > 0 && offset >= total) {
    const details = `An offset of ${offset} was requested, but there are only ${total} rows.`;
    throw new Refusal(416, "PGRST103", "Requested range not satisfiable", details);
  }
  const range = rows === 0 ? "*" : `${offset}-${offset + rows - 1}`;
  const { body, type } = represent(request, found);
  const headers = { "Content-Type": type, "Content-Range": `${range}/${total ?? "*"}` };
  return { status: total > rows ? 206 : 200, headers, body: request.method === "HEAD" ? "" : body };
}

async function write(session, request, name) {
  const { method, query } = request;
  const values = method === "DELETE" ? [] : [request.body];
  const given = method === "DELETE" ? {} : JSON.parse(request.body);
  const names = Object.keys(Array.isArray(given) ? given[0] : given).map(quote);
  const target = relation(name);
  const change = {
    POST: () => `insert into ${target} as t (${names}) select ${names} from
      ${Array.isArray(given) ? "json_populate_recordset" : "json_populate_record"}(null::${target}, $1::json)`,
    PATCH: () => `update ${target} as t set ${names.map((column) => `${column} = body.${column}`)}
      from json_populate_record(null::${target}, $1::json) as body ${where(query, values)}`,
    DELETE: () => `delete from ${target} as t ${where(query, values)}`,
  }[method]();
  const returned = prefers(request, "return=representation");
  const select = query.get("select") ?? "*";
  const columns = !returned ? "1" : select === "*" ? "t.*" : select.split(",").map(output).join(", ");
  const text = `with source as (${change} returning ${columns}) select ${ROWS} from source`;
  const changed = await execute(session, text, values);
  if (!returned) return { status: method === "POST" ? 201 : 204, headers: {}, body: "" };
  const { body, type } = represent(request, changed);
  return { status: method === "POST" ? 201 : 200, headers: { "Content-Type": type }, body };
}

// [functions] -------------------------------------------------------------------------------------------------------

const FUNCTIONS = `select p.proname as name, p.provolatile = 'v' as volatile, p.prorettype = 'void'::regtype as void,
  coalesce(p.proargnames, '{}') as arguments, p.pronargs - p.pronargdefaults as required,
  array(select format_type(a.type, null) from unnest(p.proargtypes) with ordinality as a (type, n) order by n) as types
  from pg_proc p where p.pronamespace = '${SCHEMA}'::regnamespace and p.prokind = 'f' and not p.proretset`;

function chosen(functions, name, given) {
  const fits = functions.filter(
    (f) =>
      f.name === name &&
      given.every((argument) => f.arguments.includes(argument)) &&
      f.arguments.slice(0, f.required).every((argument) => given.includes(argument)),
  );
  const signature = `${SCHEMA}.${name}(${given.join(", ")})`;
  if (fits.length > 1) throw new Refusal(300, "PGRST203", `Could not choose the best candidate for ${signature}`);
  if (fits.length === 1) return fits[0];
  throw new Refusal(404, "PGRST202", `Could not find the function ${signature} in the schema cache`);
}

function callOf(functions, request, name) {
  const { method, query } = request;
  if (!["GET", "HEAD", "POST"].includes(method)) throw new Refusal(405, "PGRST101", `Cannot use ${method} on RPC`);
  const values = method === "POST" ? request.body || "{}" : JSON.stringify(Object.fromEntries(query));
  const given = Object.keys(JSON.parse(values));
  const callee = chosen(functions, name, given);
  const typed = given.map((argument) => `${quote(argument)} ${callee.types[callee.arguments.indexOf(argument)]}`);
  const named = given.map((argument) => `${quote(argument)} := given.${quote(argument)}`);
  const source = given.length === 0 ? "" : `json_to_record($1::json) as given (${typed}), lateral `;
  const result = callee.void ? "null" : "to_json(call.result)::text";
  const text = `select ${result} as body, 1 as rows from ${source} ${relation(name)}(${named}) as call (result)`;
  const main = async (session) => {
    const { body } = await execute(session, text, given.length === 0 ? [] : [values]);
    if (callee.void) return { status: 204, headers: {}, body: "" };
    return { status: 200, headers: { "Content-Type": "application/json; charset=utf-8" }, body: body ?? "null" };
  };
  return { access: method === "POST" && callee.volatile ? "write" : "only", main };
}

// -------------------------------------------------------------------------------------------------------------------

async function bodyOf(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Starts a gateway to the database that libpq's variables name, as their user. */
async function start(secret) {
  const pool = new Pool({ max: 10 });
  const functions = (await pool.query(FUNCTIONS)).rows;
  const { rows } = await pool.query(
    `select relname from pg_class where relnamespace = '${SCHEMA}'::regnamespace and relkind in ('r', 'v', 'p')`,
  );
  const relations = rows.map((row) => row.relname);

  async function answer(incoming) {
    const url = new URL(incoming.url, "http://gateway");
    const path = url.pathname.slice(PREFIX.length - 1);
    const { method, headers } = incoming;
    let role = ANONYMOUS;
    try {
      const claims = claimsOf(headers.authorization, secret);
      role = claims.role;
      const request = { method, headers, path, query: url.searchParams, claims, body: await bodyOf(incoming) };
      const [, name, routine] = path.split("/");
      const schema = headers["accept-profile"] ?? headers["content-profile"] ?? SCHEMA;
      if (schema !== SCHEMA) throw new Refusal(406, "PGRST106", `Invalid schema: ${schema}`);
      if (name === "rpc") {
        const call = callOf(functions, request, routine);
        return await inTransaction(pool, request, call.access, call.main);
      }
      if (!relations.includes(name)) {
        throw new Refusal(404, "PGRST205", `Could not find the table '${SCHEMA}.${name}' in the schema cache`);
      }
      const reads = ["GET", "HEAD"].includes(method);
      const main = (session) => (reads ? read : write)(session, request, name);
      return await inTransaction(pool, request, reads ? "only" : "write", main);
    } catch (error) {
      return answerTo(error, role);
    }
  }

  const server = http.createServer(async (incoming, outgoing) => {
    try {
      const { status, headers, body } = await answer(incoming);
      outgoing.writeHead(status, headers).end(body);
    } catch (error) {
      console.error(error);
      outgoing.writeHead(500).end(JSON.stringify({ code: "gateway", message: String(error) }));
    }
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    async stop() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
      await pool.end();
    },
  };
}

module.exports = { start, token };
