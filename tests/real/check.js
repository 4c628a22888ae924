// Feeds every real GitHub payload of @octokit/webhooks-examples through the daemon's Unix socket,
// delivers each to three receivers with different subscriptions, and compares what arrived with
// what went in, byte for byte. Signatures are verified by node:crypto (x-stormcom-signature) and
// by npm's standardwebhooks (webhook-signature), neither of which is the project's code.
//
// Exits non-zero on any difference. The daemon is TESTED_BINARY, else the workspace's debug build.

import { spawn } from "node:child_process";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Webhook } from "standardwebhooks";

const here = dirname(fileURLToPath(import.meta.url));
const binary = process.env.TESTED_BINARY ?? join(here, "../../target/debug/stormhook");
const timeLimitMs = 120_000;
const organizationId = "github";

/** The raw texts of all examples of one index file, as they stand in it, with their event type. */
function examplesOf(path) {
  const text = readFileSync(path, "utf8");
  const parsed = JSON.parse(text);
  const slices = sliceExamples(text);
  const found = parsed.flatMap((kind) => kind.examples.map((example) => ({ kind, example })));
  if (found.length !== slices.length) throw new Error(`${path}: sliced ${slices.length} of ${found.length}`);
  return found.map(({ kind, example }, n) => {
    if (JSON.stringify(JSON.parse(slices[n])) !== JSON.stringify(example)) {
      throw new Error(`${path}: example ${n} is sliced wrongly`);
    }
    const action = typeof example.action === "string" ? `.${example.action}` : "";
    // The contract's characters for a type: anything else becomes a hyphen.
    return { type: (kind.name + action).replace(/[^A-Za-z0-9_.-]/g, "-"), text: slices[n] };
  });
}

/** Cuts `[ { "examples": [ {…}, … ] } ]` into its examples' own bytes. */
function sliceExamples(text) {
  const slices = [];
  let depth = 0, start = -1, key = "";
  for (let at = 0; at < text.length; at += 1) {
    const c = text[at];
    if (c === '"') {
      const open = at;
      for (at += 1; text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
      if (depth === 2 && /^\s*:/.test(text.slice(at + 1, at + 20))) key = text.slice(open + 1, at);
    } else if (c === "{" || c === "[") {
      if (depth === 3 && key === "examples") start = at;
      depth += 1;
    } else if (c === "}" || c === "]") {
      depth -= 1;
      if (depth === 3 && start >= 0) {
        slices.push(text.slice(start, at + 1));
        start = -1;
      }
    }
  }
  return slices;
}

/** One call over the Unix socket. */
function call(socketPath, method, path, body, contentType = "application/json") {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { "content-type": contentType };
    const outgoing = request({ socketPath, method, path, headers }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ status: answer.statusCode, text: Buffer.concat(chunks).toString() }));
      answer.on("error", reject);
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

async function expectCall(status, ...rest) {
  const answer = await call(...rest);
  if (answer.status !== status) throw new Error(`${rest[1]} ${rest[2]}: ${answer.status} ${answer.text}`);
  return answer.text === "" ? null : JSON.parse(answer.text);
}

/** A partner that records what it is sent and answers 200. */
class Receiver {
  constructor(name, eventTypes) {
    Object.assign(this, { name, eventTypes, requests: [], waiting: [] });
    this.server = createServer((incoming, answer) => {
      const chunks = [];
      incoming.on("data", (chunk) => chunks.push(chunk));
      incoming.on("end", () => {
        this.requests.push({ headers: incoming.headers, body: Buffer.concat(chunks) });
        answer.end();
        this.waiting.forEach((check) => check());
      });
    });
  }

  async start() {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.url = `http://127.0.0.1:${this.server.address().port}/hooks`;
  }

  wants(type) {
    return this.eventTypes.some((pattern) => {
      if (pattern === "*") return true;
      return pattern.endsWith(".*") ? type.startsWith(pattern.slice(0, -1)) : type === pattern;
    });
  }

  got(count) {
    return new Promise((resolve, reject) => {
      const failure = () => reject(new Error(`${this.name}: ${this.requests.length} of ${count} within ${timeLimitMs} ms`));
      const timer = setTimeout(failure, timeLimitMs);
      const check = () => {
        if (this.requests.length < count) return;
        clearTimeout(timer);
        resolve();
      };
      this.waiting.push(check);
      check();
    });
  }
}

const problems = [];
function must(truth, what) {
  if (!truth) problems.push(what);
}

/** Everything that a partner can check of one delivery. */
function checkDelivery(receiver, { headers, body }, events) {
  const id = headers["webhook-id"];
  const event = events.get(id);
  const where = `${receiver.name} ${id}`;
  if (event === undefined) return must(false, `${where}: never accepted`);
  const parsed = JSON.parse(body.toString());
  const expected = `{"id":"${id}","type":"${event.type}","timestamp":"${event.timestamp}",` +
    `"organizationId":"${organizationId}","sequence":${parsed.sequence},"data":${event.data}}`;
  must(body.equals(Buffer.from(expected)), `${where}: the body differs from what went in`);
  must(headers["x-stormcom-event"] === event.type, `${where}: type`);

  const mac = `sha256=${createHmac("sha256", receiver.secret).update(body).digest("hex")}`;
  const got = Buffer.from(headers["x-stormcom-signature"] ?? "");
  must(got.length === mac.length && timingSafeEqual(got, Buffer.from(mac)), `${where}: x-stormcom-signature`);
  try {
    new Webhook(receiver.secret).verify(body, headers);
  } catch (error) {
    must(false, `${where}: webhook-signature: ${error.message}`);
  }
  const digest = `sha-256=:${createHash("sha256").update(body).digest("base64")}:`;
  must(headers["content-digest"] === digest, `${where}: content-digest`);
  event.receivers.push(receiver.name);
  return parsed.sequence;
}

async function startDaemon(folder) {
  const socket = join(folder, "s.sock");
  const config = join(folder, "stormhook.toml");
  writeFileSync(config, [
    `data_dir = ${JSON.stringify(join(folder, "data"))}`,
    `socket = ${JSON.stringify(socket)}`,
    'listen = "off"',
    "[target]", 'allow = ["127.0.0.0/8"]', "allow_http = true",
    "[limits]", 'disk_reserve = "1MiB"', "",
  ].join("\n"));
  const child = spawn(binary, ["serve", "--config", config], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const ready = once(lines, "line");
  const ended = once(child, "exit");
  const failed = once(child, "error").then(([error]) => { throw error; });
  const early = ended.then(([code]) => { throw new Error(`the daemon ended with ${code} before it was ready`); });
  early.catch(() => {});
  failed.catch(() => {});
  await Promise.race([ready, early, failed]);
  return { child, socket, ended };
}

/** Feeds all payloads: as they stand in the file by single calls, compact by the NDJSON stream. */
async function feed(socket, payloads) {
  const events = new Map();
  const remember = (id, timestamp, type, data) => events.set(id, { type, timestamp, data, receivers: [] });
  for (const { type, text } of payloads) {
    const body = `{"organizationId":"${organizationId}","type":"${type}","data":${text}}`;
    const accepted = await expectCall(202, socket, "POST", "/v1/events", body);
    remember(accepted.id, accepted.timestamp, type, text);
  }
  const timestamp = "2026-01-02T03:04:05.678Z";
  const compact = payloads.map(({ type, text }) => ({ type, data: JSON.stringify(JSON.parse(text)) }));
  const stream = compact.map(({ type, data }) =>
    `{"organizationId":"${organizationId}","type":"${type}","timestamp":"${timestamp}","data":${data}}\n`);
  const answer = await call(socket, "POST", "/v1/events/batch", stream.join(""), "application/x-ndjson");
  const lines = answer.text.trimEnd().split("\n").map((line) => JSON.parse(line));
  must(answer.status === 200 && lines.length === compact.length, `the stream answered ${lines.length} of ${compact.length}`);
  lines.forEach((line, n) => {
    must(line.status === "accepted" && line.line === n + 1, `line ${n + 1}: ${JSON.stringify(line)}`);
    remember(line.id, timestamp, compact[n].type, compact[n].data);
  });
  return events;
}

async function run(folder) {
  const packageFolder = join(here, "node_modules/@octokit/webhooks-examples");
  const sources = readdirSync(packageFolder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const payloads = sources
    .map((entry) => join(packageFolder, entry.name, "index.json"))
    .flatMap((path) => examplesOf(path));
  const receivers = [
    new Receiver("all", ["*"]),
    new Receiver("prefixes", ["issues.*", "pull_request.*", "check_run.*"]),
    new Receiver("exact", ["issues.opened", "push", "release.published", "pull_request.closed"]),
  ];
  const { child, socket, ended } = await startDaemon(folder);
  try {
    for (const receiver of receivers) {
      await receiver.start();
      const body = { organizationId, url: receiver.url, eventTypes: receiver.eventTypes };
      const made = await expectCall(201, socket, "POST", "/v1/endpoints", JSON.stringify(body));
      receiver.secret = made.secret;
    }
    const events = await feed(socket, payloads);
    const all = [...events.values()];
    for (const receiver of receivers) {
      const expected = all.filter((event) => receiver.wants(event.type)).length;
      must(expected > 0, `${receiver.name} is subscribed to nothing`);
      await receiver.got(expected);
    }
    child.kill("SIGTERM");
    const [code] = await ended;
    must(code === 0, `the daemon ended with ${code}`);
    for (const receiver of receivers) {
      const sequences = receiver.requests.map((delivery) => checkDelivery(receiver, delivery, events));
      sequences.sort((a, b) => a - b);
      must(sequences.every((sequence, n) => sequence === n + 1), `${receiver.name}: the sequence has a gap or a repeat`);
      console.log(`${receiver.name.padEnd(9)} ${String(receiver.requests.length).padStart(5)} deliveries of ${receiver.eventTypes.join(" ")}`);
    }
    for (const [id, event] of events) {
      const expected = receivers.filter((receiver) => receiver.wants(event.type)).map((receiver) => receiver.name);
      must(event.receivers.sort().join() === expected.sort().join(), `${id} ${event.type}: went to [${event.receivers}], not [${expected}]`);
    }
    const bytes = payloads.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    const types = new Set(payloads.map(({ type }) => type)).size;
    console.log(`${payloads.length} real payloads (${bytes} bytes, ${types} types) sent as ${events.size} events`);
  } finally {
    if (child.exitCode === null) child.kill("SIGKILL");
    receivers.forEach(({ server }) => { server.close(); server.closeAllConnections(); });
  }
}

const folder = mkdtempSync(join(tmpdir(), "sh-real-"));
try {
  await run(folder);
} catch (error) {
  problems.push(error.stack);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
problems.slice(0, 20).forEach((problem) => console.error(problem));
if (problems.length > 20) console.error(`… and ${problems.length - 20} more`);
console.log(problems.length === 0 ? "every byte and every signature as expected" : `${problems.length} differences`);
process.exitCode = problems.length === 0 ? 0 : 1;
