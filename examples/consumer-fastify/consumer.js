// Receives stormhook deliveries with Fastify, verifies them and drops repeats.
//
//   npm install fastify stormhook-verifier
//   STORMHOOK_SECRET=whsec_… PORT=9011 node consumer.js
//
// In the scope where `fastifyWebhook` is registered, bodies stay bytes; routes elsewhere keep their parsers. Answer 2xx only once you have
// stored the event, within 15 seconds: anything else is sent again.
import Fastify from "fastify";
import { SequenceTracker, fastifyWebhook } from "stormhook-verifier";

const app = Fastify();
// In a service: a table with a unique key, written in the transaction that does the work.
const seen = new Set();
const IDS_KEPT = 100_000;
const sequence = new SequenceTracker();

app.addHook("onResponse", async (request, reply) => {
  if (reply.statusCode === 401) console.log("refused a request");
});

app.register(async (hooks) => {
  await hooks.register(fastifyWebhook(process.env.STORMHOOK_SECRET));

  hooks.post("/hooks", async (request) => {
    const { webhook } = request;
    if (seen.has(webhook.id)) {
      console.log(`repeat ${webhook.id}`);
      return "seen before\n";
    }
    const event = webhook.json();
    const observed = sequence.observe(event.sequence);
    if (observed.kind === "gap") console.log(`not here yet: ${observed.from} to ${observed.to}`);
    seen.add(webhook.id);
    if (seen.size > IDS_KEPT) seen.delete(seen.values().next().value);
    console.log(`accepted ${webhook.id} ${event.type}`);
    return "thank you\n";
  });
});

const address = await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT ?? 9011) });
console.log(`listening on ${address}/hooks`);
