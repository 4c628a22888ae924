// A WebAssembly instance, its memory, the places for headers and bodies, and the registry of the keys that it keeps prepared.
import { refuse } from "./error.js";

/** The core's outcomes by number. */
export const CODES = [
  "ok", "invalid_secret", "secret_too_short", "missing_id", "missing_timestamp", "missing_signature", "malformed_id",
  "malformed_timestamp", "timestamp_too_old", "timestamp_too_new", "malformed_signature", "unsupported_signature",
  "too_many_signatures", "no_match",
];

/** How many keys the core keeps prepared. */
const SLOTS = 16;
const PIECE_BYTES = 64 << 10;
/** How much of a secret is read: more than the core accepts, so that it sees values that are too long. */
const SECRET_MAX = 400;

const encoder = new TextEncoder();

export class Memory {
  /** Also creates the instance: with two registries for one, a key would be prepared in a slot that the other registry uses. */
  constructor(module) {
    this.core = new WebAssembly.Instance(module).exports;
    this.bytes = new Uint8Array(this.core.memory.buffer);
    this.headAt = this.core.head_at();
    this.bodyAt = this.core.body_at();
    this.owners = new Array(SLOTS).fill(null);
    this.turn = 0;
  }

  /** Writes text as Latin-1, as headers are; other characters become a byte that no header may contain. */
  write(text, at, max) {
    const length = Math.min(text.length, max);
    const bytes = this.bytes;
    for (let i = 0, to = this.headAt + at; i < length; i += 1) {
      const unit = text.charCodeAt(i);
      bytes[to + i] = unit < 0x100 ? unit : 0xff;
    }
    return length;
  }

  /** Returns the slot of a key. If another key took its place, it is prepared again. */
  slot(key) {
    if (this.owners[key.slot] === key) return key.slot;
    const slot = this.turn;
    const text = encoder.encode(key.text.slice(0, SECRET_MAX));
    this.bytes.set(text, this.headAt);
    const isStandard = key.scheme === "standard";
    const code = key.isPublic ? this.core.prepare(slot, text.length) : this.core.prepare(slot, isStandard, text.length);
    if (code !== 0) refuse(CODES[code]);
    this.turn = (slot + 1) % SLOTS;
    this.owners[slot] = key;
    key.slot = slot;
    return slot;
  }

  /** Passes the body, piece by piece. */
  feed(body) {
    const update = this.core.update;
    for (let at = 0; at < body.length; at += PIECE_BYTES) {
      const piece = body.length <= PIECE_BYTES ? body : body.subarray(at, at + PIECE_BYTES);
      this.bytes.set(piece, this.bodyAt);
      update(piece.length);
    }
  }
}
