// Receives stormhook deliveries with Deno, verifies them and drops repeats.
//
//   deno add npm:stormhook-verifier
//   STORMHOOK_SECRET=whsec_… PORT=9012 deno run --allow-net --allow-env --allow-read consumer.ts
//
// In Bun, use `Bun.serve({ port, fetch })`. Answer 2xx only once you have stored the event, within 15 seconds:
// anything else is sent again.
import { fetchWebhook, SequenceTracker } from "stormhook-verifier";

type Event = { type: string; sequence: number };

// In a service: a table with a unique key, written in the transaction that does the work.
const seen = new Set<string>();
const IDS_KEPT = 100_000;
const sequence = new SequenceTracker();

const receive = fetchWebhook(Deno.env.get("STORMHOOK_SECRET")!, (webhook) => {
  const id = webhook.id!;
  if (seen.has(id)) {
    console.log(`repeat ${id}`);
    return new Response("seen before\n");
  }
  const event = webhook.json<Event>();
  const observed = sequence.observe(event.sequence);
  if (observed.kind === "gap") console.log(`not here yet: ${observed.from} to ${observed.to}`);
  seen.add(id);
  if (seen.size > IDS_KEPT) seen.delete(seen.values().next().value!);
  console.log(`accepted ${id} ${event.type}`);
  return new Response("thank you\n");
});

Deno.serve({
  hostname: "127.0.0.1",
  port: Number(Deno.env.get("PORT") ?? 9012),
  onListen: ({ port }) => console.log(`listening on http://127.0.0.1:${port}/hooks`),
}, async (request) => {
  const response = await receive(request);
  if (response.status === 401) console.log("refused a request");
  return response;
});
