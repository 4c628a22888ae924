// Verifications per CPU-second in Node, beside the packages that partners use today and beside node:crypto alone, which is the limit.
// Each peer is compared on its own duty: those that parse the body after verifying are compared with ours parsing it too.
//
//   node bench.js [--seconds S]      after `npm ci` here and `node ../build.js`; prints tables, and never fails
import { spawnSync } from "node:child_process";
import { createHmac, timingSafeEqual } from "node:crypto";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { verify as octokit } from "@octokit/webhooks-methods";
import { Webhook as Standard } from "standardwebhooks";
import Stripe from "stripe";
import { Webhook as Svix } from "svix";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(here, "../../../../target");
const package_ = join(target, "npm/stormhook-verifier");
const ours = await import(pathToFileURL(join(package_, "node.js")));
const option = process.argv.indexOf("--seconds");
const seconds = option < 0 ? 0.3 : Number(process.argv[option + 1]);
const ROUNDS = 5;

const key = Buffer.alloc(32, 7);
const secret = `whsec_${key.toString("base64")}`;
const now = Math.floor(Date.now() / 1000);


/** JSON of about this size, of strings and numbers as orders have them. */
function bodyOf(size) {
  const items = [];
  const empty = JSON.stringify({ id: "evt_1", type: "order.created", data: { items: [] } }).length;
  let length = empty;
  for (let at = 0; ; at += 1) {
    const item = { sku: `SKU-${at}`, quantity: (at % 7) + 1, price: 1999 + at };
    length += JSON.stringify(item).length + 1;
    if (length > size && at > 0) break;
    items.push(item);
  }
  const text = JSON.stringify({ id: "evt_1", type: "order.created", data: { items } });
  return text.length < size ? `${text.slice(0, -1)},"pad":"${"x".repeat(Math.max(0, size - text.length - 9))}"}` : text;
}

function contenders(body) {
  const text = body.toString();
  const code = createHmac("sha256", key).update(`evt_1.${now}.`).update(body).digest("base64");
  const headers = { host: "partner.example", "content-type": "application/json", "content-length": String(body.length), "user-agent": "x", "webhook-id": "evt_1", "webhook-timestamp": String(now), "webhook-signature": `v1,${code}` };
  const verifier = new ours.Verifier(secret);
  const standard = new Standard(secret);
  const svix = new Svix(secret);
  const stripe = new Stripe("sk_test_x").webhooks;
  const stripeHeader = `t=${now},v1=${createHmac("sha256", secret).update(`${now}.`).update(body).digest("hex")}`;
  const hub = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
  const stormcom = new ours.Verifier(secret, { scheme: "stormcom" });
  const hubHeaders = { ...headers, "x-stormcom-signature": hub };
  const expected = Buffer.from(code, "base64");
  return {
    "ours, verify": () => verifier.verify({ headers, body }),
    "ours, verify and parse": () => verifier.verify({ headers, body }).json(),
    "ours, x-stormcom-signature": () => stormcom.verify({ headers: hubHeaders, body }),
    standardwebhooks: () => standard.verify(text, headers),
    svix: () => svix.verify(text, headers),
    stripe: () => stripe.constructEvent(body, stripeHeader, secret),
    "@octokit/webhooks-methods": () => octokit(secret, text, hub),
    "node:crypto": () => {
      const found = createHmac("sha256", key).update(`evt_1.${now}.`).update(body).digest();
      if (!timingSafeEqual(found, expected)) throw new Error("no match");
    },
  };
}

const DUTY = { standardwebhooks: "ours, verify and parse", svix: "ours, verify and parse", stripe: "ours, verify and parse", "@octokit/webhooks-methods": "ours, x-stormcom-signature", "node:crypto": "ours, verify" };

async function rate(run, budget) {
  const isAsync = run() instanceof Promise;
  const start = process.cpuUsage();
  let count = 0;
  for (;;) {
    for (let at = 0; at < 16; at += 1) {
      if (isAsync) await run();
      else run();
    }
    count += 16;
    const { user, system } = process.cpuUsage(start);
    if (user + system > budget * 1e6) return (count * 1e6) / (user + system);
  }
}

const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];

console.log(`Node ${process.version}, ${cpus()[0].model}; verifications per CPU-second, median of ${ROUNDS} interleaved rounds of ${seconds} s\n`);
const rows = [];
for (const size of [256, 1 << 10, 16 << 10, 64 << 10, 1 << 20]) {
  const body = Buffer.from(bodyOf(size));
  const runs = contenders(body);
  const found = Object.fromEntries(Object.keys(runs).map((name) => [name, []]));
  for (const run of Object.values(runs)) await rate(run, seconds / 4);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, run] of Object.entries(runs)) found[name].push(await rate(run, seconds / ROUNDS));
  }
  for (const [name, rates] of Object.entries(found)) {
    const duty = DUTY[name];
    const own = duty && median([...found[duty]]) / median([...rates]);
    rows.push({ size: body.length, what: name, "per CPU-second": Math.round(median(rates)), "ours ÷ this": own ? own.toFixed(2) : "" });
  }
}
console.table(rows);

/** A fresh process each: the time that the import and the first verification take. */
const cold = {
  ours: `import { verify } from ${JSON.stringify(pathToFileURL(join(package_, "node.js")).href)}; const first = () => verify(delivery, secret);`,
  standardwebhooks: `import { Webhook } from "standardwebhooks"; const first = () => new Webhook(secret).verify(delivery.body, delivery.headers);`,
  svix: `import { Webhook } from "svix"; const first = () => new Webhook(secret).verify(delivery.body, delivery.headers);`,
  stripe: `import Stripe from "stripe"; const first = () => new Stripe("sk_test_x");`,
  "@octokit/webhooks-methods": `import { verify } from "@octokit/webhooks-methods"; const first = () => verify("x", "y", "sha256=00");`,
};
const text = bodyOf(1024);
const signed = createHmac("sha256", key).update(`evt_1.${now}.${text}`).digest("base64");
const delivery = { headers: { "webhook-id": "evt_1", "webhook-timestamp": String(now), "webhook-signature": `v1,${signed}` }, body: text };
const times = Object.entries(cold).map(([what, source]) => {
  const [head, ...tail] = source.split("; const");
  const module = `const start = performance.now(); const delivery = ${JSON.stringify(delivery)}; const secret = "${secret}";
    const { ${head.includes("* as") ? "" : "default: _, ...module"} } = await import(${/from (".*")/.exec(head)[1]});
    const imported = performance.now();`;
  const names = /import (.*) from/.exec(head)[1];
  const bind = names.startsWith("{") ? `const ${names} = module;` : `const ${names} = _;`;
  const program = `${module} ${bind} const${tail.join("; const")} await first(); console.log(JSON.stringify([imported - start, performance.now() - start]));`;
  const runs = Array.from({ length: 15 }, () => {
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { cwd: here, encoding: "utf8" });
    if (!stdout) throw new Error(stderr);
    return JSON.parse(stdout);
  });
  return { what, "import, ms": median(runs.map(([first]) => first)).toFixed(1), "import and first verification, ms": median(runs.map(([, both]) => both)).toFixed(1) };
});
console.table(times);
