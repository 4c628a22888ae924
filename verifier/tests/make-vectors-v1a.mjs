// Makes `verifier/vectors-v1a.json`: every edge of checking `v1a` (ed25519) signatures. Writes to stdout; the same at each run.
//
//     node verifier/tests/make-vectors-v1a.mjs > verifier/vectors-v1a.json
//
// What is signed is signed by node:crypto, and each case is tried with node:crypto before it is written. OpenSSL checks less strictly than
// RFC 8032 allows: where that matters, the case says what OpenSSL answers, and that is held too.

import { createHash, createHmac, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';

const NOW_S = 1750000000;
const ID = 'evt_01JXS7V2F3Q8Z5N4M6K7P9R0TA';
const BODY = Buffer.from('{"type":"order.paid","data":{"id":42}}');
const HMAC_SECRET = 'whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=';

// --- keys and signatures

const digest = (name, ...parts) => {
  const hash = createHash(name);
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const SEED_DER = Buffer.from('302e020100300506032b657004220420', 'hex');
const POINT_DER = Buffer.from('302a300506032b6570032100', 'hex');
const publicKey = (point) => createPublicKey({ key: Buffer.concat([POINT_DER, point]), format: 'der', type: 'spki' });

function keyOf(name) {
  const seed = digest('sha256', `stormhook v1a ${name}`);
  const key = createPrivateKey({ key: Buffer.concat([SEED_DER, seed]), format: 'der', type: 'pkcs8' });
  const point = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(POINT_DER.length);
  return { seed, key, point, text: `whpk_${point.toString('base64')}` };
}

const content = (id, time, body) => Buffer.concat([Buffer.from(`${id}.${time}.`), body]);
const raw = (key, { id = ID, time = NOW_S, body = BODY } = {}) => sign(null, content(id, time, body), key.key);
const token = (bytes) => `v1a,${bytes.toString('base64')}`;
const signed = (key, of) => token(raw(key, of));
const hmac = ({ id = ID, time = NOW_S, body = BODY } = {}) => {
  const key = Buffer.from(HMAC_SECRET.slice('whsec_'.length), 'base64');
  return `v1,${createHmac('sha256', key).update(content(id, time, body)).digest('base64')}`;
};

// --- the curve, as far as its edges need it (RFC 8032, section 5.1)

const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const little = (bytes) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex') || '0'}`);
const bytes32 = (number) => Buffer.from(number.toString(16).padStart(64, '0'), 'hex').reverse();
const power = (base, exponent) => {
  let result = 1n;
  for (let square = base % P, rest = exponent; rest > 0n; rest >>= 1n, square = (square * square) % P) {
    if (rest & 1n) result = (result * square) % P;
  }
  return result;
};
const D = ((P - 121665n) * power(121666n, P - 2n)) % P;

// Whether there is an x for this y: (y² − 1) / (dy² + 1) is a square.
function isOnCurve(y) {
  const square = (y * y) % P;
  const quotient = ((square - 1n + P) * power((D * square + 1n) % P, P - 2n)) % P;
  return quotient === 0n || power(quotient, (P - 1n) / 2n) === 1n;
}

const secretScalar = (key) => {
  const half = digest('sha512', key.seed).subarray(0, 32);
  half[0] &= 248;
  half[31] = (half[31] & 127) | 64;
  return little(half);
};

// Fits the equation with R of our choice from among the points of small order: s = k·a, where R adds nothing.
function identityR(key) {
  const r = bytes32(1n);
  const k = little(digest('sha512', r, key.point, content(ID, NOW_S, BODY))) % L;
  return Buffer.concat([r, bytes32((k * secretScalar(key)) % L)]);
}

const withS = (signature, change) => Buffer.concat([signature.subarray(0, 32), bytes32(change(little(signature.subarray(32))))]);
const whpk = (bytes) => `whpk_${bytes.toString('base64')}`;

// The eight points of small order, as their encodings; and spellings of y that are not below p.
const smallOrder = [
  ['identity', '0100000000000000000000000000000000000000000000000000000000000000'],
  ['order-2', 'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
  ['order-4', '0000000000000000000000000000000000000000000000000000000000000000'],
  ['order-4-negative', '0000000000000000000000000000000000000000000000000000000000000080'],
  ['order-8-a', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'],
  ['order-8-b', '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85'],
  ['order-8-c', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'],
  ['order-8-d', 'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa'],
  ['identity-with-a-sign', '0100000000000000000000000000000000000000000000000000000000000080'],
  ['identity-as-p-plus-1', 'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'],
];
const nonCanonical = [];
for (let above = 2n; above < 19n; above += 1n) if (isOnCurve(above)) nonCanonical.push(P + above);
const offCurve = [2n, 3n, 4n, 5n, 6n, 7n, 8n].find((y) => !isOnCurve(y));

// --- the cases

const vectors = [];
const A = keyOf('a');
const B = keyOf('b');

const headersOf = (signature, { id = ID, time = String(NOW_S) } = {}) => [
  ['webhook-id', id],
  ['webhook-timestamp', time],
  ['webhook-signature', signature],
];

function add(name, expect, { secret = A.text, signature = signed(A), headers, body = BODY, now = NOW_S, tolerance = 300, openssl, note, ...rest }) {
  const vector = {
    name: `v1a/${name}`,
    scheme: 'standard',
    secret,
    headers: headers ?? headersOf(signature, rest),
    body_base64: body.toString('base64'),
    now_s: now,
    tolerance_s: tolerance,
    expect,
  };
  if (note) vector.note = note;
  vectors.push(vector);
  check(vector, openssl ?? (expect === 'ok' ? true : expect === 'no_match' ? false : undefined));
}

// What OpenSSL says of the first four `v1a` items that are 64 bytes of base64. Undefined: of a form it is never asked about.
function check({ name, secret, headers, body_base64: body }, expected) {
  if (expected === undefined || !secret.startsWith('whpk_')) return;
  const value = (wanted) => headers.filter(([found]) => found.toLowerCase() === wanted).map(([, text]) => text).join(', ');
  const key = publicKey(Buffer.from(secret.slice('whpk_'.length), 'base64'));
  const message = content(value('webhook-id'), value('webhook-timestamp'), Buffer.from(body, 'base64'));
  const items = value('webhook-signature').split(' ').map((item) => item.replace(/,$/, ''));
  const points = items.filter((item) => /^v1a,[A-Za-z0-9+/]{85}[AQgw]==$/.test(item)).slice(0, 4);
  const found = points.some((item) => verify(null, message, key, Buffer.from(item.slice('v1a,'.length), 'base64')));
  if (found !== expected) throw new Error(`${name}: OpenSSL says ${found}, expected ${expected}`);
}

add('valid', 'ok', {});
add('valid-unpadded-key', 'ok', { secret: A.text.replace(/=+$/, '') });
add('valid-empty-body', 'ok', { body: Buffer.alloc(0), signature: signed(A, { body: Buffer.alloc(0) }) });
const binary = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
add('valid-every-byte', 'ok', { body: binary, signature: signed(A, { body: binary }) });
const large = Buffer.alloc(5000, 'stormhook ');
add('valid-body-of-many-blocks', 'ok', { body: large, signature: signed(A, { body: large }) });
add('valid-other-key', 'ok', { secret: B.text, signature: signed(B) });
add('valid-after-v1', 'ok', { signature: `${hmac()} ${signed(A)}` });
add('valid-before-v1', 'ok', { signature: `${signed(A)} ${hmac()}` });
add('valid-among-four-v1', 'ok', { signature: `${hmac()} ${hmac()} ${signed(A)} ${hmac()} ${hmac()}`, note: 'v1 items are not counted among the four that are tried' });
add('valid-after-unknown-versions', 'ok', { signature: `v2,abc v1b,${'A'.repeat(86)}== ${signed(A)}` });
add('valid-header-names-in-capitals', 'ok', { headers: headersOf(signed(A)).map(([name, value]) => [name.toUpperCase(), value]) });
add('valid-spaces-around', 'ok', { signature: `  ${signed(A)}  ` });
const others = (count) => Array.from({ length: count }, (_, at) => signed(keyOf(`other ${at}`)));
for (const [at, ordinal] of ['second', 'third', 'fourth'].entries()) {
  add(`valid-${ordinal}-of-several`, 'ok', { signature: [...others(at + 1), signed(A)].join(' ') });
}
add('the-fifth-is-not-tried', 'no_match', { signature: [...others(4), signed(A)].join(' '), note: 'each v1a item costs much more than a v1 item: four are tried' });
add('the-fifth-is-not-tried-of-32', 'no_match', { signature: [...others(4), ...Array(28).fill(signed(A))].join(' ') });
add('32-items-and-the-first-fits', 'ok', { signature: [signed(A), ...Array(31).fill('v2,a')].join(' ') });
add('32-items-and-the-last-fits', 'ok', { signature: [...Array(31).fill('v2,a'), signed(A)].join(' ') });
add('malformed-ones-are-not-counted', 'ok', { signature: [...Array(6).fill('v1a,AAAA'), signed(A)].join(' ') });

const lines = (...values) => [...headersOf('').slice(0, 2), ...values.map((value) => ['webhook-signature', value])];
add('two-lines-first-fits', 'ok', { headers: lines(signed(A), signed(B)) });
add('two-lines-second-fits', 'ok', { headers: lines(signed(B), signed(A)) });
add('joined-by-a-comma', 'ok', { signature: `${signed(A)}, ${hmac()}` });
add('joined-by-a-comma-without-a-space', 'malformed_signature', { signature: `${signed(A)},${hmac()}` });
add('two-commas-at-the-end', 'malformed_signature', { signature: `${signed(A)},,` });

add('wrong-key', 'no_match', { secret: B.text });
add('changed-body', 'no_match', { body: Buffer.from('{"type":"order.paid","data":{"id":43}}') });
add('added-line-end', 'no_match', { body: Buffer.concat([BODY, Buffer.from('\n')]) });
add('changed-id', 'no_match', { id: `${ID}1` });
add('changed-timestamp', 'no_match', { time: String(NOW_S + 1) });
add('id-and-time-swapped', 'no_match', { id: String(NOW_S), time: String(NOW_S), signature: signed(A, { id: ID }) });
add('signed-body-alone', 'no_match', { signature: token(sign(null, BODY, A.key)) });
for (const [name, at] of [['r', 0], ['s', 40]]) {
  const bent = Buffer.from(raw(A));
  bent[at] ^= 1;
  add(`one-bit-of-${name}`, 'no_match', { signature: token(bent) });
}
add('halves-swapped', 'no_match', { signature: token(Buffer.concat([raw(A).subarray(32), raw(A).subarray(0, 32)])) });
add('all-zero-signature', 'no_match', { signature: token(Buffer.alloc(64)) });
add('signature-of-another-delivery', 'no_match', { signature: signed(A, { id: 'evt_other' }) });

const text = raw(A).toString('base64');
const bad = (name, value) => add(`malformed-${name}`, 'malformed_signature', { signature: `v1a,${value}` });
bad('empty', '');
bad('comma', ',');
bad('not-base64', 'not base64!');
bad('cut', text.slice(0, 40));
bad('63-bytes', raw(A).subarray(0, 63).toString('base64'));
bad('65-bytes', Buffer.concat([raw(A), Buffer.from([0])]).toString('base64'));
bad('66-bytes', Buffer.concat([raw(A), Buffer.from([0, 0])]).toString('base64'));
bad('32-bytes', raw(A).subarray(0, 32).toString('base64'));
bad('padding-missing', text.replace(/=+$/, ''));
bad('padding-half-missing', text.replace(/=$/, ''));
bad('padding-too-much', `${text}=`);
bad('padding-inside', `${text.slice(0, 44)}=${text.slice(45)}`);
const last = 'AQgw'.indexOf(text.at(85));
bad('stray-bits', `${text.slice(0, 85)}${'BRhx'[last]}==`);
const dashes = Buffer.alloc(64, 0xfb);
bad('url-safe-alphabet', dashes.toString('base64').replaceAll('+', '-').replaceAll('/', '_'));
bad('url-safe-unpadded', raw(A).toString('base64url'));
bad('hex', raw(A).toString('hex'));
bad('quoted', `"${text}"`);
bad('tab-after', `${text}\t`);
bad('nul-after', `${text}\0`);
bad('letter-after', `${text}A`);
add('malformed-beside-a-wrong-one', 'malformed_signature', { signature: `${signed(B)} v1a,AAAA` });
add('malformed-beside-a-right-one', 'ok', { signature: `v1a,AAAA ${signed(A)}` });
add('malformed-v1-beside-a-wrong-one', 'no_match', { signature: `v1,AAAA ${signed(B)}`, note: 'v1 is an unknown version where there is only a public key' });
add('version-in-capitals', 'unsupported_signature', { signature: signed(A).replace('v1a', 'V1A') });
add('version-without-comma', 'unsupported_signature', { signature: signed(A).replace(',', '=') });
add('bare-base64', 'unsupported_signature', { signature: text });

add('only-v1-for-a-public-key', 'unsupported_signature', { signature: hmac() });
add('only-unknown-versions', 'unsupported_signature', { signature: 'v2,abc v3,def' });
add('only-v1a-for-an-hmac-secret', 'unsupported_signature', { secret: HMAC_SECRET });
add('malformed-v1a-for-an-hmac-secret', 'unsupported_signature', { secret: HMAC_SECRET, signature: 'v1a,AAAA' });
add('v1-beside-v1a-for-an-hmac-secret', 'ok', { secret: HMAC_SECRET, signature: `${signed(B)} ${hmac()}` });
add('a-point-under-v1', 'unsupported_signature', { signature: `v1,${text}` });
add('a-code-under-v1a', 'malformed_signature', { signature: hmac().replace('v1,', 'v1a,') });
add('public-key-as-hmac-key', 'unsupported_signature', {
  signature: `v1,${createHmac('sha256', A.point).update(content(ID, NOW_S, BODY)).digest('base64')}`,
  note: 'a public key is no secret: what it signs by HMAC, anyone can sign',
});

add('s-not-reduced', 'no_match', { signature: token(withS(raw(A), (s) => s + L)), note: 's + L: RFC 8032, section 5.1.7 asks for s below L' });
add('s-is-l', 'no_match', { signature: token(withS(raw(A), () => L)) });
add('s-negated', 'no_match', { signature: token(withS(raw(A), (s) => L - s)) });
add('s-with-its-highest-bits', 'no_match', { signature: token(withS(raw(A), (s) => s + (7n << 253n))) });
add('r-of-small-order-that-fits', 'no_match', {
  signature: token(identityR(A)),
  openssl: true,
  note: 'R is the identity and the equation holds: OpenSSL takes it, a strict verifier does not',
});
for (const [name, hex] of smallOrder) {
  const r = Buffer.from(hex, 'hex');
  add(`r-is-${name}`, 'no_match', { signature: token(Buffer.concat([r, raw(A).subarray(32)])) });
}
add('r-not-canonical', 'no_match', { signature: token(Buffer.concat([bytes32(nonCanonical[0]), raw(A).subarray(32)])) });
add('r-not-on-the-curve', 'no_match', { signature: token(Buffer.concat([bytes32(offCurve), raw(A).subarray(32)])) });
for (const [name, hex] of smallOrder) add(`key-is-${name}`, 'invalid_secret', { secret: whpk(Buffer.from(hex, 'hex')) });
for (const [at, y] of nonCanonical.entries()) {
  add(`key-not-canonical-${at + 1}`, 'invalid_secret', { secret: whpk(bytes32(y)), note: 'y is not below p: RFC 8032, section 5.1.3' });
}
add('key-not-on-the-curve', 'invalid_secret', { secret: whpk(bytes32(offCurve)) });

const key = (name, secret) => add(`key-${name}`, 'invalid_secret', { secret });
key('empty', 'whpk_');
key('garbage', 'whpk_garbage!!');
key('31-bytes', whpk(A.point.subarray(0, 31)));
key('33-bytes', whpk(Buffer.concat([A.point, Buffer.from([0])])));
key('64-bytes', whpk(Buffer.concat([A.point, A.point])));
key('prefix-twice', `whpk_${A.text}`);
key('prefix-in-capitals', A.text.replace('whpk_', 'WHPK_'));
key('space-before', ` ${A.text}`);
key('space-after', `${A.text} `);
key('line-end-after', `${A.text}\n`);
key('quoted', `"${A.text}"`);
key('in-hex', `whpk_${A.point.toString('hex')}`);
key('url-safe', whpk(Buffer.alloc(32, 0xfb)).replaceAll('+', '-').replaceAll('/', '_'));
const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
key('stray-bits', A.text.replace(/.=$/, (end) => `${digits[digits.indexOf(end[0]) | 1]}=`));
key('padding-half', A.text.replace(/=$/, '=='));
key('private', `whsk_${A.seed.toString('base64')}`);
key('over-its-bound', `whpk_${'A'.repeat(1 << 10)}`);
add('short-hmac-secret', 'secret_too_short', { secret: 'whsec_c2hvcnQ=' });

add('33-items', 'too_many_signatures', { signature: Array(33).fill(signed(A)).join(' ') });
add('33-items-of-unknown-versions-and-one', 'too_many_signatures', { signature: [...Array(33).fill('v2,a'), signed(A)].join(' ') });
const ofBytes = (count) => `${signed(A)} v2,`.padEnd(count, 'a');
add('4096-bytes', 'ok', { signature: ofBytes(4096) });
add('4097-bytes', 'too_many_signatures', { signature: ofBytes(4097) });

add('exactly-old-enough', 'ok', { now: NOW_S + 300 });
add('too-old', 'timestamp_too_old', { now: NOW_S + 301 });
add('exactly-new-enough', 'ok', { now: NOW_S - 300 });
add('too-new', 'timestamp_too_new', { now: NOW_S - 301 });
add('no-tolerance', 'timestamp_too_old', { now: NOW_S + 1, tolerance: 0 });
add('time-unchecked', 'ok', { now: NOW_S + 10_000_000, tolerance: null });
add('old-and-wrong', 'timestamp_too_old', { now: NOW_S + 301, secret: B.text });
add('id-with-a-dot', 'malformed_id', { id: 'evt_1.2', signature: signed(A, { id: 'evt_1.2' }) });
add('timestamp-with-a-zero', 'malformed_timestamp', { time: `0${NOW_S}`, signature: signed(A, { time: `0${NOW_S}` }) });
add('timestamp-in-ms', 'malformed_timestamp', { time: `${NOW_S}000`, signature: signed(A, { time: `${NOW_S}000` }) });
add('id-twice', 'malformed_id', { headers: [['Webhook-Id', ID], ...headersOf(signed(A))] });
for (const [at, name] of ['id', 'timestamp', 'signature'].entries()) {
  add(`no-${name}`, `missing_${name}`, { headers: headersOf(signed(A)).filter((_, index) => index !== at) });
}
add('blank-signature', 'missing_signature', { signature: ' , ' });

const names = new Set(vectors.map((vector) => vector.name));
if (names.size !== vectors.length) throw new Error('a name stands twice');
const table = {
  version: 1,
  error_codes: [...new Set(vectors.map((vector) => vector.expect))].sort(),
  rules: 'as vectors.json; a secret that begins with whpk_ is a public key, and of the v1a items of the right form the first four are tried',
  vectors,
};
process.stdout.write(`${JSON.stringify(table, null, 1)}\n`);
