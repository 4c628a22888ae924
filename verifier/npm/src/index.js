// Everywhere else: the module stands in the text of this package, so that nothing is fetched.
import { bytesOfBase64, create, instantiate } from "./api.js";
import base64 from "./core.inline.js";

const core = instantiate(bytesOfBase64(base64));

/** For the other entrances of this package. */
export const withPoints = (points) => create(core, { points });
export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = create(core);
export { SequenceTracker, WebhookVerificationError } from "./api.js";
