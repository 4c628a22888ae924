// The same functions with ed25519, in Node, Deno and Bun: `whpk_` public keys in addition to `whsec_` secrets.
import { inflateRawSync } from "node:zlib";
import base64 from "./ed25519.inline.js";
import { Memory } from "./api.js";
import { withCurve } from "./node.js";

const module = new WebAssembly.Module(inflateRawSync(Buffer.from(base64, "base64")));

export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = withCurve(new Memory(module));
export { SequenceTracker, WebhookVerificationError } from "./node.js";
