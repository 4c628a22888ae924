// npm `standardwebhooks` and `svix`: verifies our cases (stdin), signs them anew (stdout). Both take text alone, so a body that is not UTF-8 is left out.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [name, folder] = process.argv.slice(2);
const require = createRequire(join(folder, 'package.json'));
const { Webhook, WebhookVerificationError } = require(name);
const cases = JSON.parse(readFileSync(0)).filter((it) => it.is_utf8);

// They parse the body as JSON once the signature fits: that it is none is no refusal.
function accepts(peer, body, headers) {
  try {
    peer.verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return false;
    if (error instanceof SyntaxError) return true;
    throw error;
  }
}

const signed = cases.map((it) => {
  const body = Buffer.from(it.body_base64, 'base64').toString();
  const peer = new Webhook(it.secret);
  const headers = { 'webhook-id': it.id, 'webhook-timestamp': String(it.timestamp), 'webhook-signature': it.signature };
  if (!accepts(peer, body, headers)) throw new Error(`${name} refuses ${it.id}`);
  if (accepts(peer, `${body} `, headers)) throw new Error(`${name} accepts another body for ${it.id}`);
  return { ...it, signature: peer.sign(it.id, new Date(it.timestamp * 1000), body) };
});
console.error(`npm ${name}: ${cases.length} bodies that we signed verify there`);
console.log(JSON.stringify(signed));
