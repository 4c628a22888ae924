// Receives stormhook deliveries in a Cloudflare Worker, verifies them and drops repeats.
//
//   npm install stormhook-verifier; npx wrangler secret put STORMHOOK_SECRET; npx wrangler deploy
//
// Answer 2xx only once you have stored the event: anything else is sent again, as is what takes longer than 15 seconds.
import { fetchWebhook } from "stormhook-verifier";

// In a service: a Durable Object or a D1 table with a unique key. The memory of one isolate is not enough.
const seen = new Set();
const IDS_KEPT = 100_000;

let receive;

export default {
  async fetch(request, env) {
    receive ??= fetchWebhook(env.STORMHOOK_SECRET, (webhook) => {
      if (seen.has(webhook.id)) {
        console.log(`repeat ${webhook.id}`);
        return new Response("seen before\n");
      }
      const event = webhook.json();
      seen.add(webhook.id);
      if (seen.size > IDS_KEPT) seen.delete(seen.values().next().value);
      console.log(`accepted ${webhook.id} ${event.type}`);
      return new Response("thank you\n");
    });
    const response = await receive(request);
    if (response.status === 401) console.log("refused a request");
    return response;
  },
};
