// The package's functions, given a WebAssembly instance. This file finds headers, moves bytes and names outcomes;
// only the Rust core decides whether a delivery is genuine.

import { BODY_MAX_BYTES, bytesOf, readBody } from "./body.js";
import { WebhookVerificationError, refuse } from "./error.js";
import { receivers } from "./frameworks.js";
import { valuesOf } from "./headers.js";
import { bytesOfBase64 } from "./inline.js";
import { CODES } from "./memory.js";

/** No slot: the core checks the headers and starts no code. */
const NONE = 0xffff;
/** Secrets of one verifier. */
const SECRETS_MAX = 16;
/** Length of an HMAC-SHA256. */
const CODE_BYTES = 32;
/** How much of each header is read: one byte more than the core accepts, so that it sees values that are too long. */
const [ID_MAX, TIMESTAMP_MAX, SIGNATURE_MAX] = [257, 13, 4097];
/** `v1` and `v1a`, as bits. */
const [HMAC, ED25519] = [1, 2];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A genuine delivery. */
class Verified {
  #body;

  constructor(id, timestamp, body) {
    this.id = id;
    this.timestamp = timestamp;
    this.#body = body;
  }

  get body() {
    return this.#body;
  }

  json() {
    return JSON.parse(decoder.decode(this.#body));
  }
}

/** Seconds, or -1 for no check, which must be asked for by name. */
export function toleranceOf(tolerance = 300) {
  if (tolerance === "unchecked") return -1;
  if (typeof tolerance === "number" && tolerance >= 0 && tolerance <= Number.MAX_SAFE_INTEGER) return tolerance;
  throw new TypeError('tolerance must be seconds from 0, or "unchecked"');
}

export function nowOf(now) {
  if (now === undefined) return Math.floor(Date.now() / 1000);
  if (now instanceof Date) return Math.floor(now.getTime() / 1000);
  throw new TypeError("now must be a Date");
}

const SCHEMES = ["standard", "stormcom"];
const STANDARD = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/**
 * The package's functions over a module's memory.
 *
 * `hmac`, if the platform has a fast synchronous one, computes the code of large bodies: `takes(bytes)` returns whether it handles this size,
 * `code(key, prefix, body)` returns the code as Latin-1 text. `curve` is the memory of the module for ed25519.
 */
export function create(macs, { hmac, curve } = {}) {
  const { core } = macs;
  const known = new Map();
  const memoryOf = (key) => (key.isPublic ? curve : macs);

  /** Turns a secret into a key, or returns the error. */
  function keyOf(text, scheme) {
    if (typeof text !== "string") throw new TypeError("a secret must be text: the endpoint's secret as it is shown");
    const name = scheme + text;
    let key = known.get(name);
    if (key !== undefined) return key;
    const isPublic = scheme === "standard" && text.startsWith("whpk_");
    if (isPublic && !curve) {
      const message = "a public key (`whpk_`) needs the ed25519 build: import from stormhook-verifier/ed25519";
      throw new WebhookVerificationError("invalid_secret", message);
    }
    key = { slot: 0, text, scheme, isPublic, external: undefined };
    memoryOf(key).slot(key);
    if (known.size >= 64) known.clear();
    known.set(name, key);
    return key;
  }

  /** Has the platform compute the code of a large body, and writes it where the core looks for it. */
  function codeElsewhere(key, prefix, body) {
    key.external ??=
      key.scheme === "standard" ? bytesOfBase64(key.text.replace(/^whsec_/, "")) : encoder.encode(key.text);
    macs.write(hmac.code(key.external, prefix, body), macs.bodyAt - macs.headAt, CODE_BYTES);
  }

  class Verifier {
    #keys;
    #scheme;
    #tolerance;
    #header;
    #bits = 0;

    constructor(secrets, { scheme = "standard", tolerance, header = "x-stormcom-signature" } = {}) {
      if (!SCHEMES.includes(scheme)) throw new TypeError('scheme must be "standard" or "stormcom"');
      const texts = Array.isArray(secrets) ? secrets : [secrets];
      if (texts.length === 0 || texts.length > SECRETS_MAX) refuse("invalid_secret");
      this.#scheme = scheme;
      this.#tolerance = toleranceOf(tolerance);
      this.#header = [header.toLowerCase()];
      this.#keys = texts.map((text) => keyOf(text, scheme));
      for (const key of this.#keys) this.#bits |= key.isPublic ? ED25519 : HMAC;
    }

    verify({ headers, body }, { now } = {}) {
      const bytes = bytesOf(body);
      return this.#scheme === "standard" ? this.#standard(headers, bytes, nowOf(now)) : this.#stormcom(headers, bytes);
    }

    #standard(headers, body, now) {
      const [id, timestamp, signatures] = valuesOf(headers, STANDARD);
      const isLarge = hmac !== undefined && hmac.takes(body.length);
      let code = 0;
      for (const key of this.#keys) {
        // Preparing writes where the headers go, so it comes first.
        const slot = memoryOf(key).slot(key);
        const idBytes = macs.write(id, 0, ID_MAX);
        const timeBytes = macs.write(timestamp, idBytes, TIMESTAMP_MAX);
        const at = idBytes + timeBytes;
        const bytes = macs.write(signatures, at, SIGNATURE_MAX);
        const begun = key.isPublic || isLarge ? NONE : slot;
        code = core.begin_standard(begun, idBytes, timeBytes, bytes, this.#bits, now, this.#tolerance);
        if (code !== 0) refuse(CODES[code]);
        if (key.isPublic) {
          // No code was started: the core returns the error for no match.
          code = isSignedBy(slot, id, timestamp, signatures, body) ? 0 : core.finish(at, bytes, true, this.#bits, false);
        } else {
          if (isLarge) codeElsewhere(key, `${id}.${timestamp}.`, body);
          else macs.feed(body);
          code = core.finish(at, bytes, true, this.#bits, isLarge);
        }
        if (code === 0) return new Verified(id, new Date(Number(timestamp) * 1000), body);
      }
      return refuse(CODES[code]);
    }

    #stormcom(headers, body) {
      const [signatures] = valuesOf(headers, this.#header);
      const isLarge = hmac !== undefined && hmac.takes(body.length);
      let code = 0;
      for (const key of this.#keys) {
        const slot = macs.slot(key);
        const bytes = macs.write(signatures, 0, SIGNATURE_MAX);
        code = core.begin_stormcom(isLarge ? NONE : slot, bytes);
        if (code !== 0) refuse(CODES[code]);
        if (isLarge) codeElsewhere(key, "", body);
        else macs.feed(body);
        code = core.finish(0, bytes, false, HMAC, isLarge);
        if (code === 0) return new Verified(undefined, undefined, body);
      }
      return refuse(CODES[code]);
    }
  }

  /** Whether one of the ed25519 signatures is valid for the key. */
  function isSignedBy(slot, id, timestamp, signatures, body) {
    const idBytes = curve.write(id, 0, ID_MAX);
    const timeBytes = curve.write(timestamp, idBytes, TIMESTAMP_MAX);
    const bytes = curve.write(signatures, idBytes + timeBytes, SIGNATURE_MAX);
    for (let number = 0; curve.core.begin(slot, number, idBytes, timeBytes, bytes); number += 1) {
      curve.feed(body);
      if (curve.core.finish()) return true;
    }
    return false;
  }

  const verify = (delivery, secrets, options = {}) => new Verifier(secrets, options).verify(delivery, options);

  async function verifyRequest(request, secrets, options = {}) {
    const verifier = new Verifier(secrets, options);
    const body = await readBody(request, options.maxBodyBytes ?? BODY_MAX_BYTES);
    return verifier.verify({ headers: request.headers, body }, options);
  }

  const functions = { Verifier, verify, verifyRequest };
  return { ...functions, ...receivers(functions) };
}

export { bytesOf } from "./body.js";
export { WebhookVerificationError } from "./error.js";
export { pairsOf } from "./headers.js";
export { bytesOfBase64, unpack } from "./inline.js";
export { Memory } from "./memory.js";
export { SequenceTracker } from "./sequence.js";
