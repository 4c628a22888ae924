// One run: tries each peer's variants, then measures ours and the peers in turns (ours, peer, ours, next peer, ours …),
// and prints figures, ratios and settings. Exits with 1 if something was wrong, never because a
// figure is poor. Started by `run.sh`, which finds the programs and cleans up.

import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { syncMs } from "./src/disk.js";
import { caught, hasStamp } from "./src/events.js";
import { measured, tried } from "./src/measure.js";
import * as oursLane from "./src/ours.js";
import { adapterOf, Peer, PEERS } from "./src/peer.js";
import { Processes, within } from "./src/processes.js";
import { clean, figure, kept, median, ratio } from "./src/rounds.js";
import { POSTGRES_SETTINGS, REDIS_SETTINGS } from "./src/services.js";
import { Sink } from "./src/sink.js";
import { table } from "./src/table.js";

// The secret of every lane, so that the sink knows it: base64 of 32 bytes. It protects nothing.
const SECRET = "whsec_c3Rvcm1ob29rLWJlbmNoLXNlY3JldC0zMi1ieXRlcyE=";
const IN_FLIGHT = 64;
const STEADY_RATE = 200;
// How many of the best variants are tried again.
const FINALISTS = 2;
const LANE_TIMEOUT_MS = 2_400_000;
const FIGURES = ["rate", "accept_rate", "p50_ms", "p99_ms", "memory_bytes", "waiting_bytes"];
// Faster lanes get more events, so that no measurement is too short.
const TIMES_EVENTS = { ours: 4, "bullmq-everysec": 2, "bullmq-always": 2 };

function options() {
  const { values } = parseArgs({
    options: {
      events: { type: "string", default: "5000" },
      waiting: { type: "string", default: "20000" },
      rounds: { type: "string", default: "3" },
      "tune-events": { type: "string", default: "2000" },
      "steady-seconds": { type: "string", default: "10" },
      peers: { type: "string", default: Object.keys(PEERS).join(",") },
      json: { type: "string" },
      minutes: { type: "string", default: "60" },
      folder: { type: "string" },
      daemon: { type: "string" },
      benches: { type: "string" },
      redis: { type: "string" },
      initdb: { type: "string" },
      postgres: { type: "string" },
    },
  });
  const number = (name) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${name}: expected a number from 1, got ${values[name]}`);
    return value;
  };
  const peers = values.peers.split(",");
  const unknown = peers.find((name) => !PEERS[name]);
  if (unknown) throw new Error(`--peers: unknown peer ${unknown}; expected some of ${Object.keys(PEERS).join(", ")}`);
  return {
    events: number("events"),
    waiting: number("waiting"),
    rounds: number("rounds"),
    tuneEvents: number("tune-events"),
    steadyS: number("steady-seconds"),
    steadyRate: STEADY_RATE,
    minutes: number("minutes"),
    peers,
    json: values.json,
    folder: values.folder,
    programs: values,
  };
}

/** As whom PostgreSQL runs: itself as root it refuses. */
function owner() {
  if (process.getuid() !== 0) return {};
  const id = (flag) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

/** What all lanes share. */
async function opened(processes, { folder, programs }) {
  const run = {
    processes,
    programs,
    owner: programs.postgres ? owner() : {},
    secret: SECRET,
    inFlight: IN_FLIGHT,
    eventsFile: join(folder, "events.json"),
    folder: (name) => {
      const made = mkdtempSync(join(folder, `${name}-`));
      // PostgreSQL's user needs access.
      chmodSync(made, 0o755);
      return made;
    },
  };
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o755);
  const bodies = await caught(processes, programs.benches);
  if (!bodies.every((body) => Buffer.byteLength(body) === 1_024 && hasStamp(body))) {
    throw new Error("unexpected events of the load generator: they must have 1,024 bytes and a place for the time");
  }
  writeFileSync(run.eventsFile, JSON.stringify(bodies));
  run.sink = await Sink.start(processes, programs.benches, SECRET);
  return run;
}

/** Opens a lane, uses it within its time, closes it whatever comes. */
async function using(open, use) {
  const lane = await open();
  try {
    return await within(use(lane), LANE_TIMEOUT_MS, "measuring");
  } finally {
    await lane.close();
  }
}

const settingsOf = (name, adapter) =>
  `${adapter.settings}; ${name.startsWith("bullmq") ? `Redis: ${REDIS_SETTINGS}, appendfsync ${name.slice(7)}` : `PostgreSQL: ${POSTGRES_SETTINGS}`}`;

/** Returns the peer's best variant by accepted and delivered events per second: tries all once, then the best again. */
async function tuned(run, name, options) {
  const { variants } = await adapterOf(name);
  const results = variants.map((variant) => ({ variant, rates: [] }));
  const attempt = async (result) => {
    const rate = await using(
      () => Peer.open(run, name, result.variant),
      (lane) => tried(run, lane, options.tuneEvents),
    );
    result.rates.push(rate);
    console.error(`${name} ${JSON.stringify(result.variant)}: ${rate.toFixed(0)}/s`);
  };
  const best = (result) => Math.max(...result.rates);
  for (const result of results) await attempt(result);
  results.sort((a, b) => best(b) - best(a));
  for (const result of results.slice(0, FINALISTS)) await attempt(result);
  results.sort((a, b) => best(b) - best(a));
  return results;
}

/** One measurement of a lane, told as it comes. */
async function one(run, options, name, open, last) {
  const count = options.events * (TIMES_EVENTS[name] ?? 1);
  const { steadyRate, steadyS, waiting } = options;
  const plan = { count, steadyRate, steadyS, waiting: last ? Math.max(waiting, count) : undefined };
  const sync_ms = syncMs(options.folder);
  const found = { sync_ms, ...(await using(open, (lane) => measured(run, lane, plan))) };
  console.error(
    `${name}: ${found.rate.toFixed(0)}/s, worker off ${found.accept_rate.toFixed(0)}/s, ` +
      `${found.p50_ms.toFixed(1)} · ${found.p99_ms.toFixed(1)} ms`,
  );
  return found;
}

/** All of it. What goes wrong with a peer is written down, and the others go on. */
async function measure(run, options, report) {
  const peers = [];
  const attempt = async (name, act) => {
    try {
      await act();
      return true;
    } catch (error) {
      report.wrong.push(`${name}: ${error.message}`);
      console.error(`WRONG ${name}: ${error.stack}`);
      return false;
    }
  };
  for (const name of options.peers) {
    await attempt(name, async () => {
      const tries = await tuned(run, name, options);
      peers.push({ name, tries, variant: tries[0].variant, adapter: await adapterOf(name), rounds: [] });
    });
  }
  const ours = [];
  const measureOurs = async (last) => ours.push(await one(run, options, "ours", () => oursLane.Ours.open(run), last));
  const alive = new Set(peers);
  if (!(await attempt("ours", () => measureOurs(false)))) return;
  for (let round = 1; round <= options.rounds; round += 1) {
    const last = round === options.rounds;
    for (const peer of alive) {
      const open = () => Peer.open(run, peer.name, peer.variant);
      const fine = await attempt(peer.name, async () => {
        const before = ours.at(-1);
        const found = await one(run, options, peer.name, open, last);
        await measureOurs(last);
        peer.rounds.push({ before, peer: found, after: ours.at(-1) });
      });
      if (!fine) alive.delete(peer);
    }
  }
  summarize(ours, peers, report);
}

function summarize(ours, peers, report) {
  const figures = (found) => Object.fromEntries(FIGURES.map((name) => [name, figure(found, name)]));
  report.lanes.push({ name: "ours", figures: figures(ours), settings: oursLane.settings, rounds: ours });
  for (const { name, tries, variant, adapter, rounds } of peers.filter((peer) => peer.rounds.length > 0)) {
    const marks = clean(rounds, ours);
    const good = kept(rounds, marks);
    const dirty = marks.filter((mark) => !mark).length;
    if (dirty === marks.length) report.notes.push(`${name}: no round is clean (ours varied by more than 20 %), all are shown`);
    else if (dirty > 0) report.notes.push(`${name}: ${dirty} of ${marks.length} rounds discarded, ours varied by more than 20 %`);
    const rates = rounds.map(({ peer }) => peer.rate.toFixed(0)).join(", ");
    report.notes.push(`${name}: rounds ${rates}`);
    // Memory is that of the last round, clean or not: it doesn't depend on other load.
    const waiting = rounds.at(-1);
    const ratios = Object.fromEntries(FIGURES.map((figure) => [figure, ratio(good, figure)]));
    const waitingOurs = figure(ours, "waiting_bytes");
    ratios.waiting_bytes = waiting.peer.waiting_bytes && waitingOurs / waiting.peer.waiting_bytes;
    const shown = { ...figures(good.map(({ peer }) => peer)), waiting_bytes: waiting.peer.waiting_bytes };
    report.lanes.push({ name, variant, settings: settingsOf(name, adapter), figures: shown, ratios, clean: marks, tries, rounds });
  }
  report.notes.push(`ours: rounds ${ours.map(({ rate }) => rate.toFixed(0)).join(", ")}`);
  const syncs = [...ours, ...peers.flatMap(({ rounds }) => rounds.map(({ peer }) => peer))].map((found) => found.sync_ms);
  const [least, middle, most] = [Math.min(...syncs), median(syncs), Math.max(...syncs)].map((ms) => ms.toFixed(2));
  report.notes.push(`the disk's own sync of 4 KiB, median before each measurement: ${middle} ms (${least} to ${most})`);
}

function machine() {
  const manifest = JSON.parse(readFileSync(new URL("./package.json", import.meta.url), "utf8"));
  const version = (program) => program && execFileSync(program, ["--version"], { encoding: "utf8" }).trim();
  return {
    versions: { node: process.version, ...manifest.dependencies },
    processor: `${cpus()[0]?.model}, ${cpus().length} cores, Linux ${release()}`,
    load_average: loadavg(),
    version,
  };
}

async function main() {
  let chosen;
  try {
    chosen = options();
  } catch (error) {
    console.error(error.message);
    process.exit(2);
  }
  const { version, ...about } = machine();
  for (const name of ["redis", "postgres"]) about.versions[name] = version(chosen.programs[name]);
  const report = { machine: about, options: { ...chosen, programs: undefined, folder: undefined }, lanes: [], notes: [], wrong: [] };
  const processes = new Processes(join(chosen.folder, "pids"));
  const stop = async (signal) => {
    await processes.endAll();
    process.exit(signal === "SIGINT" ? 130 : 143);
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  try {
    const all = async () => measure(await opened(processes, chosen), chosen, report);
    await within(all(), chosen.minutes * 60_000, "the whole run");
  } catch (error) {
    report.wrong.push(error.message);
    console.error(error.stack);
  } finally {
    await processes.endAll();
  }
  about.load_average_after = loadavg();
  console.log(`${about.processor}; load average ${about.load_average.map((load) => load.toFixed(1)).join(" ")} before`);
  console.log(`${JSON.stringify(about.versions)}\n\n${table(report)}`);
  if (chosen.json) writeFileSync(chosen.json, `${JSON.stringify(report, null, 2)}\n`);
  process.exit(report.wrong.length > 0 ? 1 : 0);
}

await main();
