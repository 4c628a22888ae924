// BullMQ on Redis, configured as its documentation recommends for speed: one worker with a high concurrency, finished
// jobs removed by the script that finishes them, no metrics. Its backoff is our schedule.

import { Queue, Worker } from "bullmq";
import Redis from "ioredis";
import { JITTER, SCHEDULE_MS } from "../schedule.js";

const QUEUE = "deliveries";

export const settings =
  "ioredis over the Unix socket; worker removeOnComplete {count: 0}; attempts 6 with our schedule as its backoffStrategy";

/** The variants; `processes` are worker processes. */
export const variants = [
  { concurrency: 32, processes: 1, autoPipelining: false },
  { concurrency: 64, processes: 1, autoPipelining: false },
  { concurrency: 128, processes: 1, autoPipelining: false },
  { concurrency: 32, processes: 1, autoPipelining: true },
  { concurrency: 64, processes: 1, autoPipelining: true },
  { concurrency: 128, processes: 1, autoPipelining: true },
  { concurrency: 32, processes: 2, autoPipelining: false },
  { concurrency: 64, processes: 2, autoPipelining: true },
];

function connect({ socket, variant }) {
  return new Redis({ path: socket, maxRetriesPerRequest: null, enableAutoPipelining: variant.autoPipelining });
}

export async function prepare() {}

export async function producer(config) {
  const queue = new Queue(QUEUE, {
    connection: connect(config),
    defaultJobOptions: { attempts: SCHEDULE_MS.length + 1, backoff: { type: "schedule" } },
  });
  await queue.waitUntilReady();
  return {
    add: (job) => queue.add("deliver", job),
    waiting: async () => {
      const counts = await queue.getJobCounts();
      return Object.values(counts).reduce((sum, count) => sum + count, 0);
    },
  };
}

export async function worker(config, deliver) {
  const worker = new Worker(QUEUE, (job) => deliver(job.data), {
    connection: connect(config),
    concurrency: config.variant.concurrency,
    removeOnComplete: { count: 0 },
    settings: {
      backoffStrategy: (attempt) => SCHEDULE_MS[attempt - 1] * (1 + Math.random() * JITTER),
    },
  });
  worker.on("error", (error) => console.error(error));
  await worker.waitUntilReady();
  return { stop: () => worker.close() };
}
