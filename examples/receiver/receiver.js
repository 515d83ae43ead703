// A receiver of webhooks from plugin_webhooks, for Node.js 18 or later: verifies, takes each delivery once, answers.
//
//   npm install standardwebhooks@1.1.1
//   WEBHOOK_SECRET=whsec_... node receiver.js
//
// WEBHOOK_SECRET  what `select plugin_webhooks.receiver_secret('name')` gives, or the secret's text
// VERIFY          standard-webhooks (default, by the library), by-hand (the same without it), plugin (X-Plugin-Signature)
// HOST, PORT      where to listen; 127.0.0.1 and 8080. 0 takes a free port; the first line printed says which.
"use strict";

const crypto = require("node:crypto");
const http = require("node:http");

const secret = process.env.WEBHOOK_SECRET;
const verifyWith = process.env.VERIFY ?? "standard-webhooks";
const TOLERANCE_S = 300;
const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** The key: base64 after whsec_, or the secret's UTF-8 bytes. */
function key() {
  const encoded = /^(?:v1,)?whsec_(.*)$/s.exec(secret);
  return encoded ? Buffer.from(encoded[1], "base64") : Buffer.from(secret, "utf8");
}

/** Compares in constant time. */
function same(expected, given) {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

const ways = {
  "standard-webhooks": () => {
    const { Webhook } = require("standardwebhooks");
    const webhook = new Webhook(key().toString("base64"));
    return (headers, body) => {
      try {
        webhook.verify(body.toString("utf8"), headers);
        return true;
      } catch {
        return false;
      }
    };
  },
  "by-hand": () => (headers, body) => {
    const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
    if (!id || !/^\d+$/.test(timestamp ?? "") || !signatures) return false;
    if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false;
    const mac = crypto.createHmac("sha256", key()).update(`${id}.${timestamp}.`).update(body);
    const expected = `v1,${mac.digest("base64")}`;
    // Two of them while a secret is rotated.
    return signatures.split(" ").some((signature) => same(expected, signature));
  },
  plugin: () => (headers, body) => {
    const expected = crypto.createHmac("sha256", Buffer.from(secret, "utf8")).update(body).digest("hex");
    return same(expected, headers["x-plugin-signature"] ?? "");
  },
};

// Deliveries come at least once. Here a bounded memory is enough; with a database, insert the id into a table with a
// unique key, in the transaction that does the work.
const seen = new Set();
const MAX_SEEN = 100_000;

function isNew(id) {
  if (seen.has(id)) return false;
  seen.add(id);
  if (seen.size > MAX_SEEN) seen.delete(seen.values().next().value);
  return true;
}

/** The work. It should be quick: an answer within timeout_ms (15 s by default), or the delivery comes again. */
function handle(id, event) {
  console.log(JSON.stringify({ id, event }));
}

function answer(response, status, text) {
  response.writeHead(status, { "content-type": "text/plain", "content-length": Buffer.byteLength(text) });
  response.end(text);
}

function receive(request, body, response, verifies) {
  if (!verifies(request.headers, body)) return answer(response, 401, "wrong signature");
  let event;
  try {
    event = JSON.parse(body);
  } catch {
    // It will not become better: 410 ends the delivery.
    return answer(response, 410, "not JSON");
  }
  // X-Plugin-Signature is of the body alone: of a recorded request, somebody could change the header.
  const id =
    verifyWith === "plugin" ? `${event.installation_id}/${event.audit?.id}` : request.headers["webhook-id"];
  if (!isNew(id)) return answer(response, 200, "seen before");
  try {
    handle(id, event);
  } catch (error) {
    seen.delete(id);
    console.error(error);
    return answer(response, 500, "try again");
  }
  answer(response, 200, "ok");
}

function main() {
  if (!secret) throw new Error("WEBHOOK_SECRET is not set");
  if (!Object.hasOwn(ways, verifyWith)) throw new Error(`VERIFY is one of ${Object.keys(ways).join(", ")}`);
  const verifies = ways[verifyWith]();
  const server = http.createServer((request, response) => {
    if (request.method !== "POST") return answer(response, 405, "POST only");
    const chunks = [];
    let size = 0;
    request.on("data", (chunk) => {
      size += chunk.length;
      if (size <= MAX_BODY_BYTES) return chunks.push(chunk);
      answer(response, 413, "too large");
      request.destroy();
    });
    // The bytes that arrived are what is signed: verify before anything parses them.
    request.on("end", () => receive(request, Buffer.concat(chunks), response, verifies));
  });
  server.listen(Number(process.env.PORT ?? 8080), process.env.HOST ?? "127.0.0.1", () => {
    const { address, port } = server.address();
    console.log(JSON.stringify({ listening: `http://${address}:${port}/` }));
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
}

main();
