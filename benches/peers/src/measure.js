// The measurements of one lane, the same for ours and for a peer, on fresh state each time. Fails if an event is
// lost, duplicated or wrongly signed, or isn't marked done; never because a figure is poor.

import { sleep, Wrong } from "./processes.js";

// Deliveries that the sink refuses, to check that the queue keeps them for a retry.
const REFUSED = 16;
const KEEP_TIMEOUT_MS = 5_000;

const perSecond = (count, startedNs, endedNs) => count / ((endedNs - startedNs) / 1e9);

/** Sends, and waits until everything has arrived and is marked done. Rates are from the first submit until the sink has all. */
async function delivered(run, lane, send, count) {
  const ledger = run.sink.ledger();
  const sent = await send(ledger);
  const endedNs = await run.sink.arrived(ledger, sent.accepted);
  if (sent.accepted !== count) throw new Wrong(`${count} events sent, ${sent.accepted} accepted`);
  const got = await run.sink.checked(ledger, sent);
  await lane.settled(sent.accepted);
  return { rate: perSecond(count, sent.started_ns, endedNs), verified: got.verified, latency: got.latency };
}

const saturated = (run, lane, count) => delivered(run, lane, (ledger) => lane.saturate(ledger, count), count);

/** Sends some to an endpoint that answers 503: all must arrive, and all must wait for a retry afterwards. */
async function refused(run, lane) {
  const ledger = run.sink.ledger();
  const sent = await lane.refuse(ledger, REFUSED);
  await run.sink.arrived(ledger, sent.accepted);
  const untilMs = performance.now() + KEEP_TIMEOUT_MS;
  // The answer reaches the queue shortly after the sink has counted; until then they are open too.
  await sleep(200);
  for (;;) {
    const left = await lane.waiting();
    if (left === REFUSED) return;
    if (performance.now() > untilMs) throw new Wrong(`${REFUSED} deliveries refused, ${left} wait for a retry`);
    await sleep(50);
  }
}

/** Returns the memory of everything except the load, in bytes. */
export const held = ({ producer: _, ...parts }) => Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);

/** Rate of one variant, with a warm-up. */
export async function tried(run, lane, count) {
  await saturated(run, lane, Math.ceil(count / 4));
  return (await saturated(run, lane, count)).rate;
}

/** Measures everything of a lane; if `waiting` is given, that many events wait at the end. */
export async function measured(run, lane, { count, steadyRate, steadyS, waiting }) {
  await saturated(run, lane, Math.ceil(count / 10));
  const { rate, verified } = await saturated(run, lane, count);
  const memory = lane.memory();
  const steadyCount = steadyRate * steadyS;
  const steady = await delivered(run, lane, (ledger) => lane.steady(ledger, steadyCount, steadyRate), steadyCount);
  await refused(run, lane);
  await lane.park();
  const accepted = await lane.accept(count);
  const found = {
    rate,
    accept_rate: perSecond(accepted.accepted, accepted.started_ns, accepted.ended_ns),
    p50_ms: steady.latency.p50_us / 1e3,
    p99_ms: steady.latency.p99_us / 1e3,
    memory_bytes: held(memory),
    memory_parts: memory,
    verified: verified + steady.verified,
  };
  if (waiting) {
    if (waiting > count) await lane.accept(waiting - count);
    found.waiting_parts = lane.memory();
    found.waiting_bytes = held(found.waiting_parts);
  }
  const left = await lane.waiting();
  const wanted = Math.max(count, waiting ?? 0) + REFUSED;
  if (left !== wanted) throw new Wrong(`${wanted} events accepted with the worker off, ${left} wait`);
  return found;
}
