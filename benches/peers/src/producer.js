// The application, a process of its own: adds events with the peer's library, with a number of calls in flight, each of
// one event or of a batch, or at a fixed rate. Reports what was accepted, how long that took, and how many wait in the peer's queue.

import { readFileSync } from "node:fs";
import { newId, stamped } from "./events.js";
import { serve } from "./serve.js";

const config = JSON.parse(process.argv[2]);
const adapter = await import(`./adapters/${config.adapter}.js`);
const events = JSON.parse(readFileSync(config.events, "utf8")).map((body) => JSON.parse(body));
const queue = await adapter.producer(config);
const now = () => process.hrtime.bigint();

/** Adds one event, and returns its id as a number. */
async function add(index, path, stamp) {
  const id = newId();
  const event = events[index % events.length];
  await queue.add({ id: id.text, path, event: stamp ? stamped(event, now()) : event });
  return id.value;
}

const told = (startedNs, accepted, sum) => ({
  started_ns: Number(startedNs),
  ended_ns: Number(now()),
  accepted,
  id_sum: String(sum & ((1n << 128n) - 1n)),
});

/** Adds `count` events with `inFlight` calls at a time. */
async function saturate({ count, inFlight, path }) {
  let next = 0;
  let accepted = 0;
  let sum = 0n;
  const startedNs = now();
  const one = async () => {
    while (next < count) {
      // Not `sum += await …`, which would read the sum before the others have added to it.
      const value = await add(next++, path, false);
      sum += value;
      accepted += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return told(startedNs, accepted, sum);
}

/** Adds `count` events in batches of `batch`, with `inFlight` calls at a time; each event goes to an endpoint of its own. */
async function batches({ count, batch, inFlight, path }) {
  let next = 0;
  let accepted = 0;
  let sum = 0n;
  const startedNs = now();
  const one = async () => {
    while (next < count) {
      const from = next;
      next = Math.min(count, from + batch);
      const jobs = [];
      for (let index = from; index < next; index += 1) {
        const { text, value } = newId();
        const event = events[index % events.length];
        jobs.push({ id: text, path: `${path}/${index % events.length}`, event });
        sum += value;
      }
      await queue.addMany(jobs);
      accepted += jobs.length;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return told(startedNs, accepted, sum);
}

/** Adds `count` events at `rate` per second, whatever the answers; each has the start time of its call. */
async function steady({ count, rate, path }) {
  const calls = [];
  const startedNs = now();
  const gapMs = 1_000 / rate;
  const startedMs = performance.now();
  while (calls.length < count) {
    const dueMs = startedMs + calls.length * gapMs;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await new Promise((done) => setTimeout(done, waitMs));
    calls.push(add(calls.length, path, true));
  }
  const values = await Promise.all(calls);
  return told(startedNs, values.length, values.reduce((sum, value) => sum + value, 0n));
}

await serve({
  saturate,
  batches,
  steady,
  waiting: async () => ({ waiting: await queue.waiting() }),
});
