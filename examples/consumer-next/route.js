// Receives stormhook deliveries in a Next.js route handler: save as app/hooks/route.js.
//
//   npm install stormhook-verifier, and STORMHOOK_SECRET=whsec_… in .env.local
//
// Answer 2xx only once you have stored the event: anything else is sent again, as is what takes longer than 15 seconds.
import { fetchWebhook } from "stormhook-verifier";

// In a service: a table with a unique key, written in the transaction that does the work.
const seen = new Set();
const IDS_KEPT = 100_000;

export const POST = fetchWebhook(process.env.STORMHOOK_SECRET, async (webhook) => {
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
