// Compiled and not run: what a user writes has the types that the package promises, and what is wrong has none.
import { SequenceTracker, Verifier, WebhookVerificationError, expressWebhook, fetchWebhook, verify, verifyRequest } from "stormhook-verifier";
import type { ErrorCode, Verified } from "stormhook-verifier";
import { verify as verifyBoth } from "stormhook-verifier/ed25519";
import { explain } from "stormhook-verifier/explain";
import { load } from "stormhook-verifier/explain/web";

type Order = { sequence: number; data: { total: number } };

export async function receive(request: Request): Promise<Response> {
  try {
    const delivery: Verified = await verifyRequest(request, "whsec_x", { maxBodyBytes: 1 << 19 });
    const order = delivery.json<Order>();
    const observed = SequenceTracker.parse("1-2").observe(order.sequence);
    if (observed.kind === "gap") console.log(observed.from, observed.to);
    return new Response(String(order.data.total));
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    const code: ErrorCode = error.code;
    return new Response(code, { status: 401 });
  }
}

export const post = fetchWebhook(["whsec_new", "whsec_old"], async (webhook, request, context: { params: string }) => {
  console.log(webhook.id, request.url, context.params);
});
export const middleware = expressWebhook("whsec_x", { tolerance: "unchecked" });
const headers = { "webhook-id": "evt_1", "set-cookie": ["a", "b"], host: undefined };
verify({ headers, body: new Uint8Array() }, "whsec_x");
verify({ headers: new Headers(), body: "text" }, "whsec_x", { now: new Date(), scheme: "stormcom", header: "x-sig" });
verify({ headers: [["webhook-id", "evt_1"]], body: new ArrayBuffer(1) }, "whsec_x");
new Verifier("whsec_x").verify({ headers: ["webhook-id", "evt_1"], body: "" }).timestamp?.toISOString();
verifyBoth({ headers, body: "" }, ["whsec_x", "whpk_x"]);
console.log(explain({ headers, body: "" }, "whsec_x").findings[0]?.message, load(new Uint8Array()));

// @ts-expect-error a parsed body is no raw body
verify({ headers, body: { total: 10 } }, "whsec_x");
// @ts-expect-error the secret is not optional
verify({ headers, body: "" });
// @ts-expect-error "no check" must be asked for by name
verify({ headers, body: "" }, "whsec_x", { tolerance: null });
// @ts-expect-error there are two schemes
verify({ headers, body: "" }, "whsec_x", { scheme: "svix" });
