// The same functions with ed25519: `whpk_` public keys beside `whsec_` secrets.
import base64 from "./ed25519.inline.js";
import { withPoints } from "./index.js";
import { bytesOfBase64, instantiate, unpack } from "./api.js";

const points = instantiate(await unpack(bytesOfBase64(base64), "deflate-raw"));

export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = withPoints(points);
export { SequenceTracker, WebhookVerificationError } from "./index.js";
