// Makes each fuzz target's first corpus from the vectors: requests as text, and the secrets in them.
//
//     node verifier/fuzz/make-seeds.mjs [folder]

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const here = import.meta.dirname;
const folder = process.argv[2] ?? join(here, 'corpus');
const tables = ['vectors.json', 'vectors-v1a.json'].map((name) => JSON.parse(readFileSync(join(here, '..', name))));
const vectors = tables.flatMap((table) => table.vectors);

function write(target, seeds) {
  mkdirSync(join(folder, target), { recursive: true });
  [...seeds].forEach((seed, at) => writeFileSync(join(folder, target, `seed-${at}`), seed));
}

const request = ({ secret, headers, body_base64: body }) => {
  const lines = headers.map(([name, value]) => `${name}: ${value}\n`).join('');
  return Buffer.concat([Buffer.from(`${secret}\n${lines}\n`), Buffer.from(body, 'base64')]);
};
const small = vectors.map(request).filter((bytes) => bytes.length <= 5000);
for (const target of ['headers', 'verify', 'explain']) write(target, small);

const keys = new Set(vectors.map(({ secret }) => secret).filter((secret) => secret.length <= 400));
keys.add(`whsk_${Buffer.alloc(32, 7).toString('base64')}`);
write('key_parsing', keys);
write('sequence', ['', '1-40,42-50\n', '1-1,3-3,5-5\n\x65\x66\x00\x80\xff\xff\xff', '0-1', '3-2', '1-5,5-9', '1-18446744073709551615\n\xff']);
