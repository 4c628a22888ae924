// The same functions with ed25519: `whpk_` public keys in addition to `whsec_` secrets.
import base64 from "./ed25519.inline.js";
import { withCurve } from "./index.js";
import { Memory, bytesOfBase64, unpack } from "./api.js";

const module = new WebAssembly.Module(await unpack(bytesOfBase64(base64), "deflate-raw"));

export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = withCurve(new Memory(module));
export { SequenceTracker, WebhookVerificationError } from "./index.js";
