// The run's own Redis and PostgreSQL: on Unix sockets in its temporary folder, never the machine's services. As
// durable as their documentation allows, except if the lane's name says otherwise (`everysec` may lose a second).

import { execFile } from "node:child_process";
import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { sleep, Wrong } from "./processes.js";

const execute = promisify(execFile);
const START_TIMEOUT_MS = 30_000;
const DATABASE = "peers";

export const REDIS_SETTINGS = "appendonly yes, save \"\", noeviction, no TCP port";
const POSTGRES_OPTIONS = {
  fsync: "on",
  synchronous_commit: "on",
  shared_buffers: "128MB",
  max_wal_size: "2GB",
  max_connections: "200",
  jit: "off",
  listen_addresses: "",
};
export const POSTGRES_SETTINGS = Object.entries(POSTGRES_OPTIONS)
  .map(([name, value]) => `${name}=${value || "''"}`)
  .join(", ");

/** Retries until it succeeds: a starting server gives no other sign. */
async function ready(running, attempt) {
  const untilMs = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > untilMs || running.child.exitCode !== null) {
        throw new Wrong(`the ${running.name} didn't start: ${error.message}\n${running.stderr}`);
      }
    }
    await sleep(20);
  }
}

function answersPing(socket) {
  return new Promise((done, fail) => {
    const client = connect(socket, () => client.write("PING\r\n"));
    client.setTimeout(1_000, () => client.destroy(new Error("no answer")));
    client.on("error", fail);
    client.on("data", (data) => {
      client.destroy();
      if (String(data).startsWith("+PONG")) done();
      else fail(new Error(String(data)));
    });
  });
}

/** A Redis with an empty folder. */
export async function redis(run, appendfsync) {
  const folder = run.folder("redis");
  const socket = join(folder, "s");
  const config = join(folder, "redis.conf");
  const lines = [
    "port 0",
    `unixsocket ${socket}`,
    `dir ${folder}`,
    "daemonize no",
    'save ""',
    "appendonly yes",
    `appendfsync ${appendfsync}`,
    "maxmemory-policy noeviction",
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const running = run.processes.start("redis", run.programs.redis, [config]);
  running.child.stdout.resume();
  await ready(running, () => answersPing(socket));
  return { pid: running.pid, connection: { socket }, stop: () => run.processes.end(running) };
}

/** A PostgreSQL with a cluster of its own and an empty database. It refuses to run as root: `run.owner` is its user. */
export async function postgres(run) {
  const folder = run.folder("postgres");
  const owner = run.owner;
  const sockets = join(folder, "s");
  mkdirSync(sockets);
  if (owner.uid !== undefined) {
    for (const path of [folder, sockets]) chownSync(path, owner.uid, owner.gid);
  }
  const data = join(folder, "data");
  const { initdb, postgres } = run.programs;
  const ids = { uid: owner.uid, gid: owner.gid, cwd: folder };
  await execute(initdb, ["-D", data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"], ids);
  const options = Object.entries(POSTGRES_OPTIONS).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const running = run.processes.start("postgres", postgres, ["-D", data, "-k", sockets, ...options], ids);
  running.child.stdout.resume();
  await ready(running, async () => {
    const client = new pg.Client({ host: sockets, user: "bench", database: "postgres" });
    client.on("error", () => {});
    await client.connect();
    await client.query(`create database ${DATABASE}`);
    await client.end();
  });
  return {
    pid: running.pid,
    connection: { socket: sockets, user: "bench", database: DATABASE },
    stop: () => run.processes.end(running, "SIGINT"),
  };
}
