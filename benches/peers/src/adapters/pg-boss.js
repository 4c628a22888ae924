// pg-boss on PostgreSQL: batches, polled as often as it allows (0.5 s), and polled again immediately by `notifyWorker`
// after a full batch. A batch is completed as a whole; failed jobs are failed by their id first, which removes them.

import PgBoss from "pg-boss";
import { SCHEDULE_MS } from "../schedule.js";

const QUEUE = "deliveries";
const POLL_S = 0.5;

export const settings =
  "batches by work(), polling 0.5 s and notifyWorker after a full batch, priority off; retryLimit 5, retryDelay 60 s with retryBackoff (which doubles; it can't be set to our schedule)";

/** The variants; `workers` are calls of `work()`, `pool` the producer's connections. */
export const variants = [
  { batchSize: 100, workers: 1, pool: 16 },
  { batchSize: 500, workers: 1, pool: 16 },
  { batchSize: 100, workers: 4, pool: 16 },
  { batchSize: 500, workers: 4, pool: 16 },
  { batchSize: 100, workers: 2, pool: 64 },
  { batchSize: 500, workers: 2, pool: 64 },
];

async function boss({ socket, database, user }, options) {
  const boss = new PgBoss({ host: socket, database, user, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

const queueOptions = { retryLimit: SCHEDULE_MS.length, retryDelay: SCHEDULE_MS[0] / 1_000, retryBackoff: true };

export async function prepare(config) {
  const first = await boss(config, { max: 2, supervise: false, schedule: false });
  await first.createQueue(QUEUE, { policy: "standard", ...queueOptions });
  await first.stop({ graceful: false, wait: true });
}

export async function producer(config) {
  // Only the worker's process maintains the tables.
  const queue = await boss(config, { max: config.variant.pool, supervise: false, schedule: false });
  return {
    add: (job) => queue.send(QUEUE, job),
    addMany: (jobs) => queue.insert(jobs.map((data) => ({ name: QUEUE, data }))),
    waiting: async () => queue.getQueueSize(QUEUE, { before: "completed" }),
  };
}

export async function worker(config, deliver) {
  const { batchSize, workers } = config.variant;
  const queue = await boss(config, { max: Math.max(10, workers * 2), schedule: false });
  for (let number = 0; number < workers; number += 1) {
    let id;
    id = await queue.work(QUEUE, { batchSize, pollingIntervalSeconds: POLL_S, priority: false }, async (jobs) => {
      if (jobs.length === batchSize) queue.notifyWorker(id);
      await Promise.all(jobs.map((job) => deliver(job.data).catch((error) => queue.fail(QUEUE, job.id, error))));
    });
  }
  return { stop: () => queue.stop({ graceful: true, wait: true, timeout: 10_000 }) };
}
