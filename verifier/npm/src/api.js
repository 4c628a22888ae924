// What the package does, given a WebAssembly instance to decide. This file finds headers, moves bytes and names outcomes;
// whether a delivery is genuine is the Rust core's answer alone.

import { BODY_MAX_BYTES, bytesOf, readBody } from "./body.js";
import { WebhookVerificationError, refuse } from "./error.js";
import { receivers } from "./frameworks.js";
import { valuesOf } from "./headers.js";
import { bytesOfBase64 } from "./inline.js";

/** The core's outcomes by number. */
const CODES = [
  "ok", "invalid_secret", "secret_too_short", "missing_id", "missing_timestamp", "missing_signature", "malformed_id",
  "malformed_timestamp", "timestamp_too_old", "timestamp_too_new", "malformed_signature", "unsupported_signature",
  "too_many_signatures", "no_match",
];

/** Keys that the core keeps prepared, at once. */
const SLOTS = 16;
/** No slot: the core checks the headers and begins no code. */
const NONE = 0xffff;
/** Secrets of one verifier. */
const SECRETS_MAX = 16;
const PIECE_BYTES = 64 << 10;
/** Of HMAC-SHA256. */
const CODE_BYTES = 32;
/** What is read of each header: one byte more than the core takes, so that it sees what is too long. */
const [ID_MAX, TIMESTAMP_MAX, SIGNATURE_MAX, SECRET_MAX] = [257, 13, 4097, 400];
/** `v1` and `v1a`, as bits. */
const [HMAC, ED25519] = [1, 2];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A module's memory: where headers and body go. */
class Memory {
  constructor(exports) {
    this.core = exports;
    this.bytes = new Uint8Array(exports.memory.buffer);
    this.headAt = exports.head_at();
    this.bodyAt = exports.body_at();
    this.owners = new Array(SLOTS).fill(null);
    this.turn = 0;
  }

  /** Text as Latin-1, which headers are; what isn't becomes a byte that no header may hold. */
  write(text, at, max) {
    const length = Math.min(text.length, max);
    const bytes = this.bytes;
    for (let i = 0, to = this.headAt + at; i < length; i += 1) {
      const unit = text.charCodeAt(i);
      bytes[to + i] = unit < 0x100 ? unit : 0xff;
    }
    return length;
  }

  /** A secret's text, as UTF-8. */
  writeSecret(text) {
    const bytes = encoder.encode(text.slice(0, SECRET_MAX));
    this.bytes.set(bytes, this.headAt);
    return bytes.length;
  }

  feed(body) {
    const update = this.core.update;
    for (let at = 0; at < body.length; at += PIECE_BYTES) {
      const piece = body.length <= PIECE_BYTES ? body : body.subarray(at, at + PIECE_BYTES);
      this.bytes.set(piece, this.bodyAt);
      update(piece.length);
    }
  }
}

/** What a genuine delivery says of itself. */
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
function toleranceOf(tolerance = 300) {
  if (tolerance === "unchecked") return -1;
  if (typeof tolerance === "number" && tolerance >= 0 && tolerance <= Number.MAX_SAFE_INTEGER) return tolerance;
  throw new TypeError('tolerance must be seconds from 0, or "unchecked"');
}

function nowOf(now) {
  if (now === undefined) return Math.floor(Date.now() / 1000);
  if (now instanceof Date) return Math.floor(now.getTime() / 1000);
  throw new TypeError("now must be a Date");
}

const SCHEMES = ["standard", "stormcom"];
const STANDARD = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/**
 * The package's functions over a core.
 *
 * `hmac`, where the platform has a fast synchronous one, computes the code of large bodies: `takes(bytes)` says whether of one of this size,
 * `code(key, prefix, body)` gives it as Latin-1 text. `points` is the module for ed25519.
 */
export function create(core, { hmac, points } = {}) {
  const macs = new Memory(core);
  const curve = points && new Memory(points);
  const known = new Map();

  /** A secret made a key, or the error that it is. */
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
    slotOf(key);
    if (known.size >= 64) known.clear();
    known.set(name, key);
    return key;
  }

  /** The slot of a key, prepared anew where another took its place. */
  function slotOf(key) {
    const memory = key.isPublic ? curve : macs;
    if (memory.owners[key.slot] === key) return key.slot;
    const slot = memory.turn;
    const bytes = memory.writeSecret(key.text);
    const code = key.isPublic ? points.prepare(slot, bytes) : core.prepare(slot, key.scheme === "standard", bytes);
    if (code !== 0) refuse(CODES[code]);
    memory.turn = (slot + 1) % SLOTS;
    memory.owners[slot] = key;
    key.slot = slot;
    return slot;
  }

  /** The code of a large body, computed by the platform, to where the core looks for it. */
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
        // Preparing writes where the headers go: it comes first.
        const slot = slotOf(key);
        const idBytes = macs.write(id, 0, ID_MAX);
        const timeBytes = macs.write(timestamp, idBytes, TIMESTAMP_MAX);
        const at = idBytes + timeBytes;
        const bytes = macs.write(signatures, at, SIGNATURE_MAX);
        const begun = key.isPublic || isLarge ? NONE : slot;
        code = core.begin_standard(begun, idBytes, timeBytes, bytes, this.#bits, now, this.#tolerance);
        if (code !== 0) refuse(CODES[code]);
        if (key.isPublic) {
          // No code was begun: the core says what it is when nothing fits.
          code = isSignedBy(slot, id, timestamp, signatures, body) ? 0 : core.finish(at, bytes, true, this.#bits);
        } else if (isLarge) {
          codeElsewhere(key, `${id}.${timestamp}.`, body);
          code = core.finish_with(at, bytes, true, this.#bits);
        } else {
          macs.feed(body);
          code = core.finish(at, bytes, true, this.#bits);
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
        const slot = slotOf(key);
        const bytes = macs.write(signatures, 0, SIGNATURE_MAX);
        code = core.begin_stormcom(isLarge ? NONE : slot, bytes);
        if (code !== 0) refuse(CODES[code]);
        if (isLarge) {
          codeElsewhere(key, "", body);
          code = core.finish_with(0, bytes, false, HMAC);
        } else {
          macs.feed(body);
          code = core.finish(0, bytes, false, HMAC);
        }
        if (code === 0) return new Verified(undefined, undefined, body);
      }
      return refuse(CODES[code]);
    }
  }

  /** Whether one of the ed25519 signatures is the key's. */
  function isSignedBy(slot, id, timestamp, signatures, body) {
    const idBytes = curve.write(id, 0, ID_MAX);
    const timeBytes = curve.write(timestamp, idBytes, TIMESTAMP_MAX);
    const bytes = curve.write(signatures, idBytes + timeBytes, SIGNATURE_MAX);
    for (let number = 0; points.begin(slot, number, idBytes, timeBytes, bytes); number += 1) {
      curve.feed(body);
      if (points.finish()) return true;
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
export { bytesOfBase64, instantiate, unpack } from "./inline.js";
export { SequenceTracker } from "./sequence.js";
