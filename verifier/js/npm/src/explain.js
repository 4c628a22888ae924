// The signature debugger: why a delivery is refused. For interactive use, never for each request.
import { bytesOf, nowOf, pairsOf, toleranceOf } from "./api.js";

const encoder = new TextEncoder();
const MAX = 1 << 20;

/** Latin-1, which headers are. */
const latin1 = (text) => Uint8Array.from(text, (unit) => Math.min(unit.charCodeAt(0), 0xff));

/** Returns `explain` for the module that `load` returns. */
export function over(load) {
  return function explain({ headers, body }, secret, { tolerance, now, header = "x-stormcom-signature" } = {}) {
    // A new instance each time: its memory only grows.
    const core = load();
    const parts = [encoder.encode(secret), encoder.encode(header)];
    for (const [name, value] of pairsOf(headers)) {
      for (const line of Array.isArray(value) ? value : [value]) {
        if (typeof line === "string") parts.push(encoder.encode(name), latin1(line));
      }
    }
    parts.push(bytesOf(body));
    const length = parts.reduce((sum, part) => sum + 4 + part.length, 0);
    if (!(length <= 16 * MAX)) throw new RangeError("the delivery exceeds 16 MiB, which no sender produces");
    const at = core.input_at(length);
    const view = new DataView(core.memory.buffer, at, length);
    const bytes = new Uint8Array(core.memory.buffer, at, length);
    let to = 0;
    for (const part of parts) {
      view.setUint32(to, part.length, true);
      bytes.set(part, to + 4);
      to += 4 + part.length;
    }
    const answer = core.explain(nowOf(now), toleranceOf(tolerance));
    return JSON.parse(new TextDecoder().decode(new Uint8Array(core.memory.buffer, core.output_at(), answer)));
  };
}
