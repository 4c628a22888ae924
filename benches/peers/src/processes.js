// The run's child processes: their start, their line protocol, their memory, and their end.
// Every pid is recorded with its start time before anything else happens, so that `run.sh` can end the remaining
// processes even if this one dies. Nothing is ever ended by name.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const END_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 30_000;

/** A violated guarantee: a lost event, a wrong signature, an ended process. Never a slow figure. */
export class Wrong extends Error {}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Rejects when `promise` takes longer than `timeoutMs`. */
export async function within(promise, timeoutMs, doing) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Wrong(`${doing}: nothing within ${timeoutMs / 1000} s`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns parent and start time of a process (proc(5), `stat`, counted from after the name); nothing if it has ended. */
function stat(pid) {
  let text;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { parent: Number(fields[1]), started: fields[19] };
}

/** Returns `pid` and its descendants: PostgreSQL has a process per connection. */
function family(pid) {
  const children = new Map();
  for (const name of readdirSync("/proc")) {
    const parent = /^\d+$/.test(name) ? stat(name)?.parent : undefined;
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found = [pid];
  for (let at = 0; at < found.length; at += 1) found.push(...(children.get(found[at]) ?? []));
  return found;
}

/** Returns the proportional set size of a process and its descendants, in bytes. */
export function pssBytes(pid) {
  let total = 0;
  for (const member of family(pid)) {
    try {
      const rollup = readFileSync(`/proc/${member}/smaps_rollup`, "latin1");
      total += Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return total;
}

/** Starts children and ends them all. */
export class Processes {
  #pidsFile;
  #running = new Set();

  constructor(pidsFile) {
    this.#pidsFile = pidsFile;
  }

  /** Starts a program. At least the last lines of its stderr are kept, for the case that it fails. */
  start(name, program, args, { env = process.env, uid, gid, cwd } = {}) {
    const child = spawn(program, args, { env, uid, gid, cwd, stdio: ["pipe", "pipe", "pipe"] });
    const running = { name, child, pid: child.pid, stderr: "", ended: once(child, "close").catch(() => {}) };
    child.on("error", (error) => (running.stderr += String(error)));
    child.stdin.on("error", () => {});
    child.stderr.on("data", (data) => (running.stderr = (running.stderr + data).slice(-4_000)));
    if (child.pid !== undefined) {
      appendFileSync(this.#pidsFile, `${child.pid} ${stat(child.pid)?.started ?? 0}\n`);
      this.#running.add(running);
      running.ended.then(() => this.#running.delete(running));
    }
    return running;
  }

  /** The same for a program that answers lines with lines. */
  talk(name, program, args, options) {
    return new Talker(this.start(name, program, args, options));
  }

  /** Ends one child with `signal`, and with SIGKILL if that takes too long. */
  async end(running, signal = "SIGTERM") {
    running.child.kill(signal);
    const done = await Promise.race([running.ended.then(() => true), sleep(END_TIMEOUT_MS)]);
    if (!done) running.child.kill("SIGKILL");
    await running.ended;
  }

  async endAll() {
    // SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for its clients.
    await Promise.all([...this.#running].map((running) => this.end(running, "SIGINT")));
  }
}

/** A child that answers each line with a line. */
export class Talker {
  #lines;

  constructor(running) {
    this.running = running;
    this.pid = running.pid;
    running.child.stdout.setEncoding("utf8");
    this.#lines = createInterface({ input: running.child.stdout })[Symbol.asyncIterator]();
  }

  async hear(timeoutMs = ANSWER_TIMEOUT_MS) {
    const { name } = this.running;
    const { value, done } = await within(this.#lines.next(), timeoutMs, `waiting for the ${name}`);
    if (done) throw new Wrong(`the ${name} ended: ${this.running.stderr.trim() || "no output on stderr"}`);
    return value;
  }

  async ask(line, timeoutMs) {
    this.running.child.stdin.write(`${line}\n`);
    const answer = JSON.parse(await this.hear(timeoutMs));
    if (answer.error) throw new Wrong(`${this.running.name}: ${answer.error}`);
    return answer;
  }
}
