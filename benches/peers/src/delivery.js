// A worker's handling of a job, the same for every peer: builds the body, signs it as stormhook does and POSTs it over
// persistent connections. A success is 2xx.

import { createHash, createHmac, createSecretKey, randomUUID } from "node:crypto";
import { Pool } from "undici";

const PREFIX = "whsec_";
// The most connections; each lane's concurrency decides how many are used in parallel.
const CONNECTIONS = 64;
const TIMEOUT_MS = 15_000;

/** The headers of one delivery. */
export function signer(secret) {
  const standardKey = createSecretKey(Buffer.from(secret.slice(PREFIX.length), "base64"));
  const stormcomKey = createSecretKey(Buffer.from(secret));
  return (id, nowS, body) => ({
    "content-type": "application/json",
    "webhook-id": id,
    "webhook-timestamp": String(nowS),
    "webhook-signature": `v1,${createHmac("sha256", standardKey).update(`${id}.${nowS}.`).update(body).digest("base64")}`,
    "x-stormcom-signature": `sha256=${createHmac("sha256", stormcomKey).update(body).digest("hex")}`,
    "content-digest": `sha-256=:${createHash("sha256").update(body).digest("base64")}:`,
    "x-stormcom-delivery": `dlv_${randomUUID()}`,
  });
}

/** Returns the function that delivers a job `{ id, path, event }`; it throws if the job must be retried. */
export function deliverer(origin, secret) {
  const pool = new Pool(origin, {
    connections: CONNECTIONS,
    pipelining: 1,
    keepAliveTimeout: 60_000,
    headersTimeout: TIMEOUT_MS,
    bodyTimeout: TIMEOUT_MS,
  });
  const sign = signer(secret);
  return async ({ id, path, event }) => {
    const now = new Date();
    const { organizationId, type, data } = event;
    const body = JSON.stringify({ id, type, timestamp: now.toISOString(), organizationId, data });
    const headers = sign(id, Math.floor(now.getTime() / 1000), body);
    const response = await pool.request({ method: "POST", path, headers, body });
    await response.body.dump();
    if (response.statusCode < 200 || response.statusCode > 299) throw new Error(`status ${response.statusCode}`);
  };
}
