// Node, Deno and Bun: large bodies are hashed by the platform.
import { Memory, create } from "./api.js";
import base64 from "./core.inline.js";

/** From this size on the platform's HMAC is faster than the core's, including the calls into it. */
const LARGE_BYTES = 900;
/** Loading it takes as long as the core needs for this much. */
const LOADING_BYTES = 1 << 20;

let createHmac;
let hashed = 0;

const hmac = {
  takes(bytes) {
    if (bytes < LARGE_BYTES) return false;
    if (createHmac === undefined) {
      hashed += bytes;
      if (hashed < LOADING_BYTES) return false;
      ({ createHmac } = process.getBuiltinModule("node:crypto"));
    }
    return true;
  },
  code(key, prefix, body) {
    const hmac = createHmac("sha256", key);
    // As text: a third faster than as a Buffer.
    return (prefix === "" ? hmac : hmac.update(prefix)).update(body).digest("latin1");
  },
};
const macs = new Memory(new WebAssembly.Module(Buffer.from(base64, "base64")));

/** For the other entry points of this package. */
export const withCurve = (curve) => create(macs, { hmac, curve });
export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = create(macs, { hmac });
export { SequenceTracker, WebhookVerificationError } from "./api.js";
