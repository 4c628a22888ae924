// The receiver of all lanes: the sink of `stormhook-benches`, asked over its stdin. Decides when all has come and
// whether what came is what was accepted; its ledgers look at headers, signatures, doubles and sums of ids.

import { sleep, Wrong } from "./processes.js";

// Without any progress for this long, what is missing is lost.
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

  /** A ledger that nobody has written to. */
  ledger() {
    this.#ledgers += 1;
    return this.#ledgers;
  }

  /** The time, on the monotonic clock, at which `wanted` deliveries were seen to have come. */
  async arrived(ledger, wanted) {
    let last = { count: -1, at: performance.now() };
    for (;;) {
      const { received } = await this.#talker.ask(`count ${ledger}`);
      if (received >= wanted) return Number(process.hrtime.bigint());
      if (received !== last.count) last = { count: received, at: performance.now() };
      if (performance.now() - last.at > STALLED_MS) {
        throw new Wrong(`${received} of ${wanted} deliveries arrived, then nothing`);
      }
      await sleep(POLL_MS);
    }
  }

  /** Compares a ledger with what was accepted: each event came once, signed. */
  async checked(ledger, sent) {
    const got = await this.#talker.ask(`report ${ledger}`);
    if (got.bad > 0) throw new Wrong(`${got.bad} bad deliveries: ${got.first_bad}`);
    if (got.unique !== sent.accepted || got.received !== sent.accepted || got.id_sum !== sent.id_sum) {
      const ids = got.id_sum === sent.id_sum ? "" : ", and their ids aren't the accepted ones";
      throw new Wrong(`${sent.accepted} deliveries expected, ${got.received} came, ${got.unique} different${ids}`);
    }
    if (got.verified === 0) throw new Wrong("no delivery's signature was computed again");
    return got;
  }
}
