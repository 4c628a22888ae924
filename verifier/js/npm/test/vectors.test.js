// The built package against the tables that the Rust crate is tested with, on each way that a code can be computed.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { run } from "./cases.js";
import { folder, load } from "./package.js";

const read = (name) => JSON.parse(readFileSync(new URL(`../../../${name}`, import.meta.url)));
const table = read("vectors.json");
const asymmetric = read("vectors-v1a.json");

const node = await load("node.js");
const web = await load("index.js");
const curve = await load("ed25519.node.js");
const webCurve = await load("ed25519.js");

test("the tables are whole", () => {
  assert.equal(table.vectors.length, 147);
  assert.ok(asymmetric.vectors.length >= 30);
});

for (const [name, api] of Object.entries({ node, web, curve, webCurve })) {
  test(`HMAC: ${name}`, () => assert.deepEqual(run(api, table), []));
}
for (const [name, api] of Object.entries({ curve, webCurve })) {
  test(`ed25519: ${name}`, () => assert.deepEqual(run(api, asymmetric), []));
}

test("HMAC by the platform, from the first byte on", async () => {
  const { Memory, create } = await load("api.js");
  const macs = new Memory(new WebAssembly.Module(readFileSync(new URL("core.wasm", folder))));
  let calls = 0;
  const hmac = {
    takes: () => true,
    code(key, prefix, body) {
      calls += 1;
      return createHmac("sha256", key).update(prefix).update(body).digest("latin1");
    },
  };
  assert.deepEqual(run(create(macs, { hmac }), table), []);
  assert.ok(calls > 50, `only ${calls} codes were computed by the platform`);
});

test("HMAC in pieces agrees with HMAC at once, around every boundary", () => {
  const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
  for (const size of [0, 1, 55, 56, 63, 64, 65, 1023, 1024, 65535, 65536, 65537, 131072, 1 << 20]) {
    const body = Buffer.alloc(size, "x");
    const code = createHmac("sha256", Buffer.alloc(32, 7)).update(`evt_1.1750000000.`).update(body).digest("base64");
    const headers = { "webhook-id": "evt_1", "webhook-timestamp": "1750000000", "webhook-signature": `v1,${code}` };
    const options = { now: new Date(1_750_000_000_000) };
    for (const api of [node, web]) {
      assert.equal(api.verify({ headers, body }, secret, options).id, "evt_1");
      const changed = Buffer.concat([body, Buffer.from("y")]);
      assert.throws(() => api.verify({ headers, body: changed }, secret, options), { code: "no_match" });
    }
  }
});

test("a signature that fitted before is no help to another body", () => {
  // The platform's code of the last delivery must not stand where the next one's is looked for.
  const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
  const large = Buffer.alloc(4096, "x");
  const code = createHmac("sha256", Buffer.alloc(32, 7)).update("evt_1.1750000000.").update(large).digest("base64");
  const headers = { "webhook-id": "evt_1", "webhook-timestamp": "1750000000", "webhook-signature": `v1,${code}` };
  const options = { now: new Date(1_750_000_000_000) };
  node.verify({ headers, body: large }, secret, options);
  for (const body of ["", "x", Buffer.alloc(4096, "y")]) {
    assert.throws(() => node.verify({ headers, body }, secret, options), { code: "no_match" });
    assert.throws(() => curve.verify({ headers, body }, secret, options), { code: "no_match" });
  }
});

test("two entrances of the package keep their keys apart", () => {
  const options = { now: new Date(1_750_000_000_000) };
  const [first, second] = [1, 2].map((byte) => {
    const key = Buffer.alloc(32, byte);
    const code = createHmac("sha256", key).update("evt_1.1750000000.{}").digest("base64");
    const headers = { "webhook-id": "evt_1", "webhook-timestamp": "1750000000", "webhook-signature": `v1,${code}` };
    return { secret: `whsec_${key.toString("base64")}`, delivery: { headers, body: "{}" } };
  });
  for (const [one, other] of [[node, curve], [web, webCurve]]) {
    const [ours, theirs] = [new one.Verifier(first.secret), new other.Verifier(second.secret)];
    for (const [verifier, own, foreign] of [[ours, first, second], [theirs, second, first], [ours, first, second]]) {
      assert.equal(verifier.verify(own.delivery, options).id, "evt_1");
      assert.throws(() => verifier.verify(foreign.delivery, options), { code: "no_match" });
    }
  }
});

test("the license of what is published is there", () => {
  for (const name of ["LICENSE-MIT", "README.md", "package.json"]) assert.ok(existsSync(fileURLToPath(new URL(name, folder))), name);
});
