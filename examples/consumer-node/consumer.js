// Receives stormhook deliveries with plain Node, verifies them and drops repeats.
//
//   STORMHOOK_SECRET=whsec_… PORT=9002 node consumer.js
//
// Three things matter, whatever the framework:
//
// - verify the bytes as received, before any JSON parsing: with Express, mount
//   express.raw({ type: "application/json" }) on the route, not express.json();
// - answer within 15 seconds, and 2xx only once you have stored the event: anything else is sent
//   again;
// - drop repeats by webhook-id. A delivery may arrive more than once, with the same id. Here
//   the ids are in memory. In a service, insert the id into a table with a unique key in the same
//   transaction that does the work.

"use strict";
const { createHmac, timingSafeEqual } = require("node:crypto");
const { createServer } = require("node:http");

// Events are at most 256 KiB unless the daemon is configured otherwise; the envelope adds some bytes.
const BODY_BYTES_MAX = 512 * 1024;
const TOLERANCE_S = 300;
const IDS_KEPT = 100_000;

/** The key of `webhook-signature`: the bytes that the secret encodes. */
function keyOf(secret) {
  const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret ?? "");
  const key = Buffer.from(encoded?.[1] ?? "", "base64");
  if (key.length < 24) throw new Error("set STORMHOOK_SECRET to the endpoint's secret (whsec_…)");
  return key;
}

/** Returns null if the delivery is genuine and recent, else the reason. */
function refusalOf(headers, body, key, nowS) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures } = headers;
  if (!id || !timestamp || !signatures) return "missing header";
  // An id with a dot would let an old delivery pass as a new one: `{id}.{timestamp}.{body}`
  // could then be split in two ways.
  if (!/^[A-Za-z0-9_-]{1,256}$/.test(id)) return "malformed webhook-id";
  if (!/^(0|[1-9][0-9]{0,11})$/.test(timestamp)) return "malformed webhook-timestamp";
  if (Math.abs(nowS - Number(timestamp)) > TOLERANCE_S) return "timestamp too far from now";
  if (signatures.length > 4096) return "too many signatures";

  const mac = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest("base64");
  const expected = Buffer.from(`v1,${mac}`);
  // During a rotation there is one signature per secret; one match is enough.
  const matches = signatures.split(" ").some((item) => {
    const given = Buffer.from(item);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
  return matches ? null : "no signature matches";
}

const key = keyOf(process.env.STORMHOOK_SECRET);
const seen = new Set(); // in order of insertion, so the first is the oldest

function receive(headers, body) {
  const refusal = refusalOf(headers, body, key, Math.floor(Date.now() / 1000));
  if (refusal !== null) {
    console.log(`refused ${refusal}`);
    return [401, "signature not accepted\n"];
  }
  const id = headers["webhook-id"];
  if (seen.has(id)) {
    console.log(`repeat ${id}`);
    return [200, "seen before\n"];
  }
  // Verified, so the body is stormhook's own JSON; validate `data` yourself.
  const event = JSON.parse(body.toString("utf8"));
  seen.add(id);
  if (seen.size > IDS_KEPT) seen.delete(seen.values().next().value);
  console.log(`accepted ${id} ${event.type}`);
  return [200, "thank you\n"];
}

const server = createServer((request, response) => {
  const answer = (status, text) => response.writeHead(status, { "content-type": "text/plain" }).end(text);
  if (request.method !== "POST" || request.url !== "/hooks") return answer(404, "POST /hooks\n");
  const chunks = [];
  let bytes = 0;
  request.on("data", (chunk) => {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return request.destroy();
    chunks.push(chunk);
  });
  request.on("end", () => {
    try {
      answer(...receive(request.headers, Buffer.concat(chunks)));
    } catch (error) {
      console.error(error);
      answer(500, "try again\n"); // stormhook will
    }
  });
});

server.listen(Number(process.env.PORT ?? 9002), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/hooks`);
});
