// The example receivers against requests that are right, wrong, old, repeated, of a rotation. EXAMPLE is the command.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const crypto = require("node:crypto");
const readline = require("node:readline");
const { test } = require("node:test");

const TEXT = "ein Schlüssel";
const WHSEC = "whsec_plJ3nmyCDGBKInavdOK15jsl";
const KEYS = { [TEXT]: Buffer.from(TEXT), [WHSEC]: Buffer.from(WHSEC.slice(6), "base64") };
const [program, ...args] = process.env.EXAMPLE.split(" ");

/** Starts a receiver and gives its URL and the lines it prints to `use`. */
async function receiver(secret, verify, use) {
  const child = spawn(program, args, {
    env: { ...process.env, WEBHOOK_SECRET: secret, VERIFY: verify, PORT: "0", HOST: "127.0.0.1" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const events = [];
    const url = await new Promise((resolve, reject) => {
      child.on("exit", (code) => reject(new Error(`the receiver ended with ${code}`)));
      readline.createInterface(child.stdout).on("line", (line) => {
        const printed = JSON.parse(line);
        if (printed.listening) resolve(printed.listening);
        else events.push(printed);
      });
    });
    await use(url, events);
  } finally {
    child.kill();
  }
}

function signed(secret, { id = crypto.randomUUID(), at = Date.now() / 1000, change = 1, extra = "" } = {}) {
  const body = JSON.stringify({ v: 1, installation_id: "one", audit: { id: change }, snapshot: { text: "ä€\u{1F511}" } });
  const timestamp = String(Math.floor(at));
  const mac = crypto.createHmac("sha256", KEYS[secret]).update(`${id}.${timestamp}.${body}`).digest("base64");
  return {
    body,
    headers: {
      "content-type": "application/json",
      "x-plugin-delivery-id": id,
      "x-plugin-signature": crypto.createHmac("sha256", secret).update(body).digest("hex"),
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": `${extra}v1,${mac}`,
    },
  };
}

async function post(url, { body, headers }) {
  const response = await fetch(url, { method: "POST", body, headers });
  return [response.status, await response.text()];
}

const others = (request, headers) => ({ ...request, headers: { ...request.headers, ...headers } });
const WRONG = [401, "wrong signature"];

for (const secret of [TEXT, WHSEC]) {
  for (const verify of ["standard-webhooks", "by-hand"]) {
    test(`${verify} with ${secret}: takes what is signed, once, and nothing else`, () =>
      receiver(secret, verify, async (url, events) => {
        const good = signed(secret);
        assert.deepEqual(await post(url, good), [200, "ok"]);
        assert.deepEqual(await post(url, good), [200, "seen before"]);
        assert.deepEqual(await post(url, signed(secret, { extra: "v1,b3RoZXI= v2,new " })), [200, "ok"]);
        assert.deepEqual(await post(url, signed(secret, { at: Date.now() / 1000 - 290 })), [200, "ok"]);
        assert.deepEqual(await post(url, signed(secret, { at: Date.now() / 1000 - 310 })), WRONG);
        assert.deepEqual(await post(url, signed(secret, { at: Date.now() / 1000 + 310 })), WRONG);
        assert.deepEqual(await post(url, { ...good, body: good.body + " " }), WRONG);
        assert.deepEqual(await post(url, others(good, { "webhook-id": "another" })), WRONG);
        assert.deepEqual(await post(url, others(good, { "webhook-signature": "" })), WRONG);
        assert.deepEqual(await post(url, others(good, { "webhook-timestamp": "now" })), WRONG);
        assert.deepEqual(await post(url, signed(secret === TEXT ? WHSEC : TEXT)), WRONG);
        assert.equal(events.length, 3);
        assert.equal(events[0].event.snapshot.text, "ä€\u{1F511}");
      }));
  }
  test(`plugin with ${secret}: takes what is signed, once, whatever its headers say`, () =>
    receiver(secret, "plugin", async (url, events) => {
      const good = signed(secret);
      assert.deepEqual(await post(url, good), [200, "ok"]);
      const again = others(good, { "webhook-id": "another", "x-plugin-delivery-id": "another" });
      assert.deepEqual(await post(url, again), [200, "seen before"]);
      assert.deepEqual(await post(url, signed(secret, { change: 2 })), [200, "ok"]);
      assert.deepEqual(await post(url, { ...good, body: good.body + " " }), WRONG);
      assert.deepEqual(await post(url, others(good, { "x-plugin-signature": "" })), WRONG);
      assert.equal(events.length, 2);
    }));
}

test("answers what is no delivery without falling over", () =>
  receiver(TEXT, "by-hand", async (url) => {
    assert.equal((await fetch(url)).status < 600, true);
    assert.deepEqual(await post(url, { body: "", headers: {} }), WRONG);
    assert.deepEqual(await post(url, signed(TEXT)), [200, "ok"]);
  }));
