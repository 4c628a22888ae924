// Everywhere else: the module is embedded in the text of this package, so that nothing is fetched.
import { Memory, bytesOfBase64, create } from "./api.js";
import base64 from "./core.inline.js";

const macs = new Memory(new WebAssembly.Module(bytesOfBase64(base64)));

/** For the other entry points of this package. */
export const withCurve = (curve) => create(macs, { curve });
export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = create(macs);
export { SequenceTracker, WebhookVerificationError } from "./api.js";
