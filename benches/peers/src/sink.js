// The receiver of all lanes: the sink of `stormhook-benches`, controlled over its stdin. Decides when everything has
// arrived and whether it is what was accepted; its ledgers check headers, signatures, duplicates and sums of ids.

import { sleep, Wrong } from "./processes.js";

// Without progress for this long, missing deliveries count as lost.
const STALLED_MS = 60_000;
const POLL_MS = 2;

export class Sink {
  #talker;
  #ledgers = 0;

  static async start(processes, program, secret) {
    const sink = new Sink();
    const env = { ...process.env, BENCH_SECRET: secret };
    sink.#talker = processes.talk("sink", program, ["sink"], { env });
    sink.origin = `http://${await sink.#talker.hear()}`;
    return sink;
  }

  /** Returns an empty ledger. */
  ledger() {
    this.#ledgers += 1;
    return this.#ledgers;
  }

  /** Returns the time, on the monotonic clock, at which `wanted` deliveries had arrived. */
  async arrived(ledger, wanted) {
    let last = { count: -1, at: performance.now() };
    for (;;) {
      const { received } = await this.#talker.ask(`count ${ledger}`);
      if (received >= wanted) return Number(process.hrtime.bigint());
      if (received !== last.count) last = { count: received, at: performance.now() };
      if (performance.now() - last.at > STALLED_MS) {
        throw new Wrong(`${received} of ${wanted} deliveries arrived, then no progress`);
      }
      await sleep(POLL_MS);
    }
  }

  /** Compares a ledger with the accepted events: each must have arrived once, signed. */
  async checked(ledger, sent) {
    const got = await this.#talker.ask(`report ${ledger}`);
    if (got.bad > 0) throw new Wrong(`${got.bad} bad deliveries: ${got.first_bad}`);
    if (got.unique !== sent.accepted || got.received !== sent.accepted || got.id_sum !== sent.id_sum) {
      const ids = got.id_sum === sent.id_sum ? "" : ", and their ids aren't the accepted ones";
      throw new Wrong(`${sent.accepted} deliveries expected, ${got.received} arrived, ${got.unique} of them distinct${ids}`);
    }
    if (got.verified === 0) throw new Wrong("no delivery's signature was recomputed");
    return got;
  }
}
