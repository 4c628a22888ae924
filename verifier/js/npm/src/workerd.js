// Cloudflare Workers and runtimes like it, which compile only modules that were uploaded with the code.
import module from "./core.wasm";
import { Memory, create } from "./api.js";

export const { Verifier, verify, verifyRequest, expressWebhook, fastifyWebhook, fetchWebhook } = create(new Memory(module));
export { SequenceTracker, WebhookVerificationError } from "./api.js";
