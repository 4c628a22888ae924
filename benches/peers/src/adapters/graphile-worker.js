// graphile-worker on PostgreSQL, with and without the options of its performance page: the local queue, which fetches
// jobs in batches, and completion in batches. New jobs are announced by LISTEN/NOTIFY.

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";
import { SCHEDULE_MS } from "../schedule.js";

const TASK = "deliver";

export const settings =
  "localQueue and batched completion by variant, maxPoolSize concurrentJobs + 2, maxAttempts 6 (its delays are exponential and can't be set to our schedule)";

/** The variants; `localQueue` is its size (0: none), `batchMs` the completeJobBatchDelay (-1: none). */
export const variants = [
  { concurrentJobs: 24, localQueue: 0, batchMs: -1, pool: 16 },
  { concurrentJobs: 24, localQueue: 500, batchMs: 0, pool: 16 },
  { concurrentJobs: 24, localQueue: 500, batchMs: 250, pool: 16 },
  { concurrentJobs: 64, localQueue: 500, batchMs: 0, pool: 16 },
  { concurrentJobs: 64, localQueue: 500, batchMs: 0, pool: 64 },
  { concurrentJobs: 64, localQueue: 2_000, batchMs: 250, pool: 16 },
];

const silent = new Logger(() => (level, message) => {
  if (level === "error") console.error(message);
});

function pool({ socket, database, user }, max) {
  const pool = new pg.Pool({ host: socket, database, user, max });
  pool.on("error", (error) => console.error(error));
  pool.on("connect", (client) => client.on("error", (error) => console.error(error)));
  return pool;
}

export async function prepare(config) {
  const pgPool = pool(config, 2);
  await runMigrations({ pgPool, logger: silent });
  await pgPool.end();
}

export async function producer(config) {
  const pgPool = pool(config, config.variant.pool);
  const utils = await makeWorkerUtils({ pgPool, logger: silent });
  const maxAttempts = SCHEDULE_MS.length + 1;
  return {
    add: (job) => utils.addJob(TASK, job, { maxAttempts }),
    addMany: (jobs) => utils.addJobs(jobs.map((payload) => ({ identifier: TASK, payload, maxAttempts }))),
    waiting: async () => {
      const { rows } = await pgPool.query("select count(*)::int as waiting from graphile_worker.jobs");
      return rows[0].waiting;
    },
  };
}

export async function worker(config, deliver) {
  const { concurrentJobs, localQueue, batchMs } = config.variant;
  const runner = await run({
    pgPool: pool(config, concurrentJobs + 2),
    logger: silent,
    noHandleSignals: true,
    taskList: { [TASK]: (job) => deliver(job) },
    preset: {
      worker: {
        concurrentJobs,
        pollInterval: 2_000,
        ...(localQueue > 0 ? { localQueue: { size: localQueue } } : {}),
        ...(batchMs >= 0 ? { completeJobBatchDelay: batchMs, failJobBatchDelay: batchMs } : {}),
      },
    },
  });
  return { stop: () => runner.stop() };
}
