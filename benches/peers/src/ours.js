// Stormhook as a lane: the daemon as shipped on a new store, its events one POST each over its Unix socket by the load
// generator of `stormhook-benches`. In place of a stopped worker, the endpoint never answers: some attempts
// are in flight, everything behind them waits.

import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { pssBytes, sleep, within, Wrong } from "./processes.js";

const START_TIMEOUT_MS = 30_000;
const LOAD_TIMEOUT_MS = 1_800_000;
const SETTLE_TIMEOUT_MS = 60_000;

export const settings =
  "as shipped (32 attempts in flight per endpoint) except for plain HTTP to the loopback and retries after 12 h, which no run reaches; 64 connections over the Unix socket";

/** One call of the daemon's API. */
function call(socketPath, method, path, body) {
  const text = body && JSON.stringify(body);
  const headers = { host: "localhost", ...(text && { "content-type": "application/json" }) };
  return within(
    new Promise((done, fail) => {
      const asked = request({ socketPath, method, path, headers }, async (response) => {
        let answer = "";
        for await (const chunk of response) answer += chunk;
        if (response.statusCode < 300) done(answer);
        else fail(new Wrong(`${method} ${path}: ${response.statusCode} ${answer}`));
      });
      asked.on("error", fail);
      asked.end(text);
    }),
    START_TIMEOUT_MS,
    `${method} ${path}`,
  );
}

async function started(run) {
  const folder = run.folder("ours");
  const socket = join(folder, "s");
  const config = join(folder, "stormhook.toml");
  const lines = [
    `data_dir = ${JSON.stringify(join(folder, "data"))}`,
    `socket = ${JSON.stringify(socket)}`,
    'listen = "127.0.0.1:0"',
    "[retry]",
    'schedule = ["12h", "12h", "12h"]',
    "[target]",
    'allow = ["127.0.0.0/8"]',
    "allow_http = true",
    "[log]",
    'level = "warn"',
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const running = run.processes.start("daemon", run.programs.daemon, ["serve", "--config", config], { env: {} });
  running.child.stdout.resume();
  const untilMs = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      await call(socket, "GET", "/readyz");
      return { running, socket };
    } catch (error) {
      if (performance.now() > untilMs || running.child.exitCode !== null) {
        throw new Wrong(`the daemon didn't start: ${error.message}\n${running.stderr}`);
      }
    }
    await sleep(5);
  }
}

export class Ours {
  #run;
  #running;
  #socket;
  #received = 0;

  static async open(run) {
    const ours = new Ours();
    ours.#run = run;
    const { running, socket } = await started(run);
    ours.#running = running;
    ours.#socket = socket;
    return ours;
  }

  async #load(way, behaviour, ledger, events, more = []) {
    const { processes, programs, sink } = this.#run;
    const organizationId = `org_run${ledger}`;
    const url = `${sink.origin}/${behaviour}/${ledger}/0`;
    const endpoint = { organizationId, url, eventTypes: ["*"], secret: this.#run.secret };
    await call(this.#socket, "POST", "/v1/endpoints", endpoint);
    const args = ["load", way, "--to", `unix:${this.#socket}`, "--path", "/v1/events", "--events", String(events)];
    args.push("--connections", String(this.#run.inFlight), "--organization", organizationId, ...more);
    const load = processes.talk("load", programs.benches, args);
    await load.hear();
    return load.ask("go", LOAD_TIMEOUT_MS);
  }

  saturate(ledger, count) {
    return this.#load("post", "ok", ledger, count);
  }

  steady(ledger, count, rate) {
    return this.#load("steady", "timed", ledger, count, ["--rate", String(rate)]);
  }

  refuse(ledger, count) {
    return this.#load("post", "503", ledger, count);
  }

  /** Waits until everything that arrived is settled as a success. */
  async settled(count) {
    this.#received += count;
    const untilMs = performance.now() + SETTLE_TIMEOUT_MS;
    for (;;) {
      const stats = JSON.parse(await call(this.#socket, "GET", "/v1/stats?window=all"));
      if (stats["delivery.success.count"] === this.#received && stats["queue.pending"] === 0) return;
      if (performance.now() > untilMs) throw new Wrong(`not all settled: ${JSON.stringify(stats)}`);
      await sleep(20);
    }
  }

  async park() {}

  accept(count) {
    return this.#load("post", "hang", this.#run.sink.ledger(), count);
  }

  async waiting() {
    const stats = JSON.parse(await call(this.#socket, "GET", "/v1/stats?window=all"));
    return stats["queue.pending"] + stats["queue.retrying"];
  }

  memory() {
    return { daemon: pssBytes(this.#running.pid) };
  }

  async close() {
    await this.#run.processes.end(this.#running, "SIGKILL");
  }
}
