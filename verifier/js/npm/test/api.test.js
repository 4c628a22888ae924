// What users of the package meet: headers of every shape, bodies that are none, requests, frameworks' receivers, sequences, explanations.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { folder, load } from "./package.js";

const api = await load("node.js");
const { explain } = await load("explain.node.js");
const { verify, verifyRequest, Verifier, SequenceTracker, WebhookVerificationError } = api;

const key = Buffer.alloc(32, 9);
const secret = `whsec_${key.toString("base64")}`;
const body = '{"id":"evt_1","sequence":3,"data":{"total":10}}';
const now = new Date();
const seconds = String(Math.floor(now.getTime() / 1000));
const code = (text) => createHmac("sha256", key).update(`evt_1.${seconds}.${text}`).digest("base64");
const headers = { "webhook-id": "evt_1", "webhook-timestamp": seconds, "webhook-signature": `v1,${code(body)}` };

test("headers of every shape are read alike", () => {
  const pairs = Object.entries(headers);
  const shapes = {
    record: headers,
    "other case": Object.fromEntries(pairs.map(([name, value]) => [name.toUpperCase(), value])),
    pairs,
    raw: pairs.flat(),
    Headers: new Headers(headers),
    Map: new Map(pairs),
    generator: (function* () { yield* pairs; })(),
    "several lines": { ...headers, "webhook-signature": ["v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", headers["webhook-signature"]] },
    "names twice": [...pairs.map(([name, value]) => (name === "webhook-signature" ? [name, "v2,x"] : [name, value])), ["Webhook-Signature", headers["webhook-signature"]]],
  };
  for (const [name, shape] of Object.entries(shapes)) {
    assert.equal(verify({ headers: shape, body }, secret).id, "evt_1", name);
  }
  assert.throws(() => verify({ headers: null, body }, secret), TypeError);
  assert.throws(() => verify({ headers: { ...headers, "webhook-id": 7 }, body }, secret), TypeError);
});

test("a body of every shape is bytes, and a parsed one is refused with what to do", () => {
  const bytes = Buffer.from(body);
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  for (const shape of [body, bytes, new Uint8Array(bytes), copy, new DataView(copy)]) {
    assert.deepEqual(verify({ headers, body: shape }, secret).json(), JSON.parse(body));
  }
  for (const shape of [JSON.parse(body), [1, 2], 7, null, undefined]) {
    assert.throws(() => verify({ headers, body: shape }, secret), (error) => error instanceof TypeError && /pass the raw body/.test(error.message));
  }
});

test("a refusal has a class, a code and a message that says what to do", () => {
  try {
    verify({ headers, body: `${body} ` }, secret);
    assert.fail("not refused");
  } catch (error) {
    assert.ok(error instanceof WebhookVerificationError);
    assert.equal(error.name, "WebhookVerificationError");
    assert.equal(error.code, "no_match");
    assert.match(error.message, /raw bytes/);
    assert.ok(!JSON.stringify(error, Object.getOwnPropertyNames(error)).includes(secret.slice(6, 20)));
  }
});

test("every option is checked", () => {
  assert.throws(() => new Verifier(secret, { scheme: "svix" }), TypeError);
  assert.throws(() => new Verifier(secret, { tolerance: null }), TypeError);
  assert.throws(() => new Verifier(secret, { tolerance: -1 }), TypeError);
  assert.throws(() => new Verifier(secret, { tolerance: Number.NaN }), TypeError);
  assert.throws(() => verify({ headers, body }, secret, { now: 7 }), TypeError);
  assert.throws(() => new Verifier([]), { code: "invalid_secret" });
  assert.throws(() => new Verifier(Array(17).fill(secret)), { code: "invalid_secret" });
  assert.throws(() => new Verifier(undefined), TypeError);
  assert.throws(() => new Verifier("whsec_"), { code: "invalid_secret" });
  assert.throws(() => new Verifier("whsec_AAAA"), { code: "secret_too_short" });
  assert.throws(() => new Verifier("whpk_AAAA"), (error) => error.code === "invalid_secret" && /ed25519/.test(error.message));
  const late = { now: new Date(now.getTime() + 301_000) };
  assert.throws(() => verify({ headers, body }, secret, late), { code: "timestamp_too_old" });
  assert.equal(verify({ headers, body }, secret, { ...late, tolerance: "unchecked" }).id, "evt_1");
});

test("old and new secrets work during a rotation, and more keys than the core keeps", () => {
  const others = Array.from({ length: 15 }, (_, at) => `whsec_${Buffer.alloc(32, 100 + at).toString("base64")}`);
  assert.equal(verify({ headers, body }, [...others, secret]).id, "evt_1");
  const verifiers = Array.from({ length: 40 }, (_, at) => new Verifier(`whsec_${Buffer.alloc(32, at).toString("base64")}`));
  for (let round = 0; round < 3; round += 1) {
    for (const [at, verifier] of verifiers.entries()) {
      if (at === 9) assert.equal(verifier.verify({ headers, body }).id, "evt_1");
      else assert.throws(() => verifier.verify({ headers, body }), { code: "no_match" });
    }
  }
});

test("absurd headers are an answer and no crash", () => {
  const long = "x".repeat(1 << 20);
  const tries = {
    malformed_id: { "webhook-id": long },
    malformed_timestamp: { "webhook-timestamp": "9".repeat(40) },
    too_many_signatures: { "webhook-signature": "v1,x ".repeat(10_000) },
    malformed_signature: { "webhook-signature": "v1,\u{1F600}" },
    unsupported_signature: { "webhook-signature": "\u0100" },
  };
  for (const [expected, changed] of Object.entries(tries)) {
    assert.throws(() => verify({ headers: { ...headers, ...changed }, body }, secret), { code: expected });
  }
});

test("requests of Fetch and of Node are read up to a bound", async () => {
  const request = () => new Request("http://localhost/", { method: "POST", headers, body });
  assert.deepEqual((await verifyRequest(request(), secret)).json(), JSON.parse(body));
  await assert.rejects(verifyRequest(request(), secret, { maxBodyBytes: 10 }), { code: "body_too_large" });
  const used = request();
  await used.text();
  await assert.rejects(verifyRequest(used, secret), { code: "body_used" });
  const node = Object.assign(Readable.from([Buffer.from(body.slice(0, 9)), Buffer.from(body.slice(9))]), { headers });
  assert.equal((await verifyRequest(node, secret)).id, "evt_1");
  await assert.rejects(verifyRequest(new Request("http://localhost/", { headers }), secret), { code: "no_match" });
});

test("a handler of Fetch requests sees genuine deliveries alone", async () => {
  const seen = [];
  const handle = api.fetchWebhook(secret, (webhook) => void seen.push(webhook.id));
  const post = (text) => handle(new Request("http://localhost/", { method: "POST", headers, body: text }));
  assert.equal((await post(body)).status, 204);
  const refused = await post(`${body}x`);
  assert.equal(refused.status, 401);
  assert.equal((await refused.json()).code, "no_match");
  assert.deepEqual(seen, ["evt_1"]);
});

test("a sequence tracker says next, earlier or gap, and its state can be stored", () => {
  const tracker = new SequenceTracker();
  assert.deepEqual(tracker.observe(1), { kind: "next" });
  assert.deepEqual(tracker.observe(4), { kind: "gap", from: 2, to: 3 });
  assert.deepEqual(tracker.observe(2), { kind: "earlier" });
  assert.deepEqual(tracker.missing, [[3, 3]]);
  assert.equal(String(tracker), "1-2,4-4");
  assert.equal(JSON.stringify(tracker), "[[1,2],[4,4]]");
  const again = SequenceTracker.parse(String(tracker));
  assert.deepEqual(again.observe(5), { kind: "next" });
  assert.deepEqual(new SequenceTracker(tracker.ranges).missing, [[3, 3]]);
  assert.deepEqual(SequenceTracker.startingAt(10).observe(10), { kind: "next" });
  for (const wrong of ["1", "0-3", "3-1", "1-2,2-3", "a-b", "1-99999999999999999"]) assert.throws(() => SequenceTracker.parse(wrong), RangeError, wrong);
  for (const wrong of [-1, 1.5, "3", undefined, 2 ** 60]) assert.throws(() => tracker.observe(wrong), TypeError);
});

test("a sequence tracker agrees with a set of numbers, and forgets the lowest gap first", () => {
  let state = 1;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  for (let round = 0; round < 200; round += 1) {
    const tracker = new SequenceTracker();
    const seen = new Set();
    for (let step = 0; step < 60; step += 1) {
      const number = 1 + random(80);
      const highest = Math.max(0, ...seen);
      const expected = number <= highest ? "earlier" : number === highest + 1 ? "next" : "gap";
      assert.equal(tracker.observe(number).kind, expected);
      seen.add(number);
      const missing = tracker.missing.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, at) => from + at));
      const all = Array.from({ length: Math.max(...seen) }, (_, at) => at + 1);
      assert.deepEqual(missing, all.filter((one) => !seen.has(one)));
    }
  }
  const bounded = new SequenceTracker();
  for (let number = 1; number <= 200; number += 2) bounded.observe(number);
  assert.equal(bounded.ranges.length, 64);
  assert.deepEqual(bounded.missing.at(-1), [198, 198]);
});

test("an explanation names the step that failed and what likely happened", () => {
  const sent = '{"id":"evt_1","type":"order.created","timestamp":"2026-01-01T00:00:00Z","organizationId":"org_1","sequence":3,"data":{"total":10}}';
  const signed = { ...headers, "webhook-signature": `v1,${code(sent)}` };
  for (const shape of [signed, Object.entries(signed), new Headers(signed), Object.entries(signed).flat()]) {
    assert.equal(explain({ headers: shape, body: Buffer.from(sent) }, secret).standard.code, "ok");
  }
  const received = JSON.stringify(JSON.parse(sent), null, 2);
  const explanation = explain({ headers: signed, body: received }, secret);
  assert.equal(explanation.standard.code, "no_match");
  assert.deepEqual(explanation.standard.steps.at(-1), { step: "signature", outcome: "failed" });
  assert.equal(explanation.findings[0].code, "json_reserialised");
  assert.match(explanation.findings[0].message, /raw bytes/);
  assert.ok(!JSON.stringify(explanation).includes(secret.slice(6)));
  const skewed = explain({ headers: signed, body: sent }, secret, { now: new Date(now.getTime() + 3_600_000) });
  assert.equal(skewed.findings[0].code, "delivery_too_old");
  const renamed = explain({ headers: { "HTTP_WEBHOOK_ID": 'evt"\n' }, body: sent }, secret);
  assert.ok(renamed.findings.some((finding) => finding.code === "header_renamed"));
});

test("CommonJS gets the same package", () => {
  const require = createRequire(import.meta.url);
  assert.equal(require(fileURLToPath(new URL("node.js", folder))).verify, verify);
});
