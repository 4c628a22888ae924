// The peer's worker, a process of its own: gets jobs from the peer's library, delivers them, and lets the library
// mark them done. It can be stopped without ending the process, so that jobs wait.

import { deliverer } from "./delivery.js";
import { serve } from "./serve.js";

const config = JSON.parse(process.argv[2]);
const adapter = await import(`./adapters/${config.adapter}.js`);
const deliver = deliverer(config.origin, config.secret);
const worker = await adapter.worker(config, deliver);

await serve({
  stop: async () => {
    await worker.stop();
    return {};
  },
});
