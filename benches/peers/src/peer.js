// A peer as a lane: its service, its producer's process and its worker's processes, each new and empty. Its memory
// is that of the service and the workers; the producer is the load, and its memory is reported separately.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pssBytes, sleep, Wrong } from "./processes.js";
import { postgres, redis } from "./services.js";

const LOAD_TIMEOUT_MS = 1_800_000;
const SETTLE_TIMEOUT_MS = 60_000;
const here = fileURLToPath(new URL(".", import.meta.url));

/** The peers by name, each with its library and service. */
export const PEERS = {
  "bullmq-everysec": { adapter: "bullmq", service: (run) => redis(run, "everysec") },
  "bullmq-always": { adapter: "bullmq", service: (run) => redis(run, "always") },
  "pg-boss": { adapter: "pg-boss", service: postgres },
  "graphile-worker": { adapter: "graphile-worker", service: postgres },
};

export const adapterOf = (name) => import(`./adapters/${PEERS[name].adapter}.js`);

export class Peer {
  #run;
  #service;
  #producer;
  #workers = [];

  static async open(run, name, variant) {
    const peer = new Peer();
    peer.#run = run;
    const { adapter, service } = PEERS[name];
    peer.#service = await service(run);
    const { origin } = run.sink;
    const shared = { adapter, variant, origin, secret: run.secret, events: run.eventsFile };
    const config = { ...shared, ...peer.#service.connection };
    const start = (role) => {
      const program = join(here, `${role}.js`);
      const options = { env: { ...process.env, NODE_ENV: "production" } };
      return run.processes.talk(`${name} ${role}`, process.execPath, [program, JSON.stringify(config)], options);
    };
    await (await adapterOf(name)).prepare(config);
    peer.#workers = Array.from({ length: variant.processes ?? 1 }, () => start("worker"));
    peer.#producer = start("producer");
    for (const child of [...peer.#workers, peer.#producer]) await child.hear();
    return peer;
  }

  #produce(command) {
    return this.#producer.ask(JSON.stringify(command), LOAD_TIMEOUT_MS);
  }

  saturate(ledger, count) {
    return this.#produce({ do: "saturate", count, inFlight: this.#run.inFlight, path: `/ok/${ledger}/0` });
  }

  steady(ledger, count, rate) {
    return this.#produce({ do: "steady", count, rate, path: `/timed/${ledger}/0` });
  }

  refuse(ledger, count) {
    return this.#produce({ do: "saturate", count, inFlight: this.#run.inFlight, path: `/503/${ledger}/0` });
  }

  /** Waits until the queue is empty. */
  async settled() {
    const untilMs = performance.now() + SETTLE_TIMEOUT_MS;
    for (;;) {
      const waiting = await this.waiting();
      if (waiting === 0) return;
      if (performance.now() > untilMs) throw new Wrong(`${waiting} jobs delivered, but not marked done`);
      await sleep(20);
    }
  }

  /** Stops the workers; their processes stay. */
  async park() {
    for (const worker of this.#workers) await worker.ask('{"do":"stop"}');
  }

  accept(count) {
    return this.#produce({ do: "saturate", count, inFlight: this.#run.inFlight, path: "/ok/0/0" });
  }

  async waiting() {
    return (await this.#produce({ do: "waiting" })).waiting;
  }

  memory() {
    return {
      service: pssBytes(this.#service.pid),
      worker: this.#workers.reduce((sum, worker) => sum + pssBytes(worker.pid), 0),
      producer: pssBytes(this.#producer.pid),
    };
  }

  async close() {
    const { processes } = this.#run;
    // The service last: its clients would only try to reconnect.
    await Promise.all([this.#producer, ...this.#workers].map((child) => processes.end(child.running, "SIGKILL")));
    await this.#service.stop();
  }
}
