// Receives stormhook deliveries with Express, verifies them and drops repeats.
//
//   npm install express stormhook-verifier
//   STORMHOOK_SECRET=whsec_… PORT=9010 node consumer.js
//
// `expressWebhook` reads the raw body itself: mount it on the route, before any body parser. Answer 2xx only once you have
// stored the event, within 15 seconds: anything else is sent again.
import express from "express";
import { SequenceTracker, expressWebhook } from "stormhook-verifier";

const app = express();
// In a service: a table with a unique key, written in the transaction that does the work.
const seen = new Set();
const IDS_KEPT = 100_000;
const sequence = new SequenceTracker();

const report = (request, response, next) => {
  response.on("finish", () => response.statusCode === 401 && console.log("refused a request"));
  next();
};

app.post("/hooks", report, expressWebhook(process.env.STORMHOOK_SECRET), (request, response) => {
  const { webhook } = request;
  if (seen.has(webhook.id)) {
    console.log(`repeat ${webhook.id}`);
    return response.send("seen before\n");
  }
  const event = webhook.json();
  const observed = sequence.observe(event.sequence);
  if (observed.kind === "gap") console.log(`not here yet: ${observed.from} to ${observed.to}`);
  seen.add(webhook.id);
  if (seen.size > IDS_KEPT) seen.delete(seen.values().next().value);
  console.log(`accepted ${webhook.id} ${event.type}`);
  return response.send("thank you\n");
});

const server = app.listen(Number(process.env.PORT ?? 9010), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/hooks`);
});
