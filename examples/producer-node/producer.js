// Accepts an order and sends stormhook an event for it once the order is committed.
//
//   node producer.js ORDERS_FOLDER ORDER_ID AMOUNT
//
// The transaction here is a file: written under another name, flushed, then renamed, which either
// happens or doesn't. Put your database's COMMIT there. The order of the steps is what matters:
//
//   1. commit the order. If this fails, no event may be sent;
//   2. send the event with an idempotency key derived from the order;
//   3. record that it was sent.
//
// A crash between 1 and 3 leaves an order without its mark; the next run sends its event again.
// The key makes that harmless: stormhook answers 200 instead of 202 and delivers nothing twice.

"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { request } = require("node:http");
const { setTimeout: pause } = require("node:timers/promises");

const socketPath = process.env.STORMHOOK_SOCKET ?? "/run/stormhook/stormhook.sock";

function commitOrder(orders, order) {
  fs.mkdirSync(orders, { recursive: true });
  const aside = path.join(orders, `${order.orderId}.new`);
  fs.writeFileSync(aside, JSON.stringify(order), { flush: true });
  fs.renameSync(aside, path.join(orders, `${order.orderId}.json`));
}

/** One POST over the daemon's socket. */
function post(event) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(event) };
    const options = { socketPath, path: "/v1/events", method: "POST", headers, timeout: 10_000 };
    const call = request(options, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (chunk) => { text += chunk; });
      answer.on("end", () => resolve({ status: answer.statusCode, retryAfter: answer.headers["retry-after"], text }));
      answer.on("error", reject);
    });
    call.on("timeout", () => call.destroy(new Error("no answer within 10 s")));
    call.on("error", reject);
    call.end(event);
  });
}

/** Sends an event until it is known to be stored: 202 means new, 200 means stored earlier. */
async function send(event) {
  for (let tries = 1; tries <= 5; tries += 1) {
    let answer;
    try {
      answer = await post(event);
    } catch (error) {
      answer = { status: 0, text: error.message }; // the daemon is restarting
    }
    if (answer.status === 202 || answer.status === 200) return answer.text;
    if (answer.status !== 503 && answer.status !== 0) throw new Error(`${answer.status} ${answer.text}`);
    await pause(1000 * Number(answer.retryAfter ?? tries));
  }
  throw new Error("stormhook does not accept events now; run again later");
}

async function main() {
  const [orders, orderId, amount] = process.argv.slice(2);
  if (!/^[A-Za-z0-9-]+$/.test(orderId ?? "") || !/^[0-9]+$/.test(amount ?? "")) {
    throw new Error("usage: producer.js ORDERS_FOLDER ORDER_ID AMOUNT");
  }
  commitOrder(orders, { orderId, amount: Number(amount) });
  for (const file of fs.readdirSync(orders).filter((name) => name.endsWith(".json"))) {
    const id = path.basename(file, ".json");
    const mark = path.join(orders, `${id}.sent`);
    if (fs.existsSync(mark)) continue;
    const data = fs.readFileSync(path.join(orders, file), "utf8");
    const event = `{"organizationId":"shop","type":"order.created","idempotencyKey":"order-${id}-created","data":${data}}`;
    console.log(await send(event));
    fs.writeFileSync(mark, "");
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
