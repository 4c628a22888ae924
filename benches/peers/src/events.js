// The events: bodies of stormhook's own load generator, captured once, so that all lanes send the same ones; and
// the ids that a producer assigns if no server does.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { once } from "node:events";

const POOL_EVENTS = 3_200;
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const AT_FIELD = '"at":"';
const AT_DIGITS = 20;

/** The load generator's bodies, as it sends them. */
export async function caught(processes, program) {
  const bodies = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    bodies.push(Buffer.concat(chunks).toString());
    response.writeHead(202, { "content-type": "application/json" });
    response.end(JSON.stringify({ id: newId().text }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const to = `tcp:127.0.0.1:${server.address().port}`;
  const args = ["load", "post", "--to", to, "--path", "/", "--events", POOL_EVENTS, "--connections", 1];
  const load = processes.talk("load", program, args.map(String));
  await load.hear();
  await load.ask("go");
  server.closeAllConnections();
  server.close();
  return bodies;
}

/** Returns the 128 bits of a ULID as text after `evt_`. */
export function idText(value) {
  let text = "";
  for (let shift = 125n; shift >= 0n; shift -= 5n) text += ALPHABET[Number((value >> shift) & 31n)];
  return `evt_${text}`;
}

/** Returns a new event id, as text and as the number that the ledgers sum. */
export function newId() {
  const random = BigInt(`0x${randomBytes(10).toString("hex")}`);
  const value = (BigInt(Date.now()) << 80n) | random;
  return { value, text: idText(value) };
}

/** Returns an event with the producer's time in its place; its length doesn't change. */
export function stamped(event, ns) {
  return { ...event, data: { ...event.data, at: String(ns).padStart(AT_DIGITS, "0") } };
}

/** Whether a body has the place that [`stamped`] writes to. */
export const hasStamp = (body) => body.includes(`${AT_FIELD}${"0".repeat(AT_DIGITS)}"`);
