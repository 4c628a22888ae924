// Whether an endpoint's deliveries came without a gap. Decides by the sequence number alone, which the body carries; never whether a
// delivery is a repeat: that is told by `webhook-id`, since numbers may be given again after a restored backup.

/** Most ranges that a tracker keeps. */
const RANGES_MAX = 64;

const isNumber = (value) => Number.isSafeInteger(value) && value >= 0;

export class SequenceTracker {
  /** First and last number of each range: ascending, with a gap between any two. */
  #ranges = [];

  /** Takes a stored state: what `ranges` or `toJSON` gave. */
  constructor(ranges = []) {
    if (ranges.length > RANGES_MAX) throw new RangeError(`at most ${RANGES_MAX} ranges are kept; restore the state that was stored`);
    for (const [from, to] of ranges) {
      if (!isNumber(from) || !isNumber(to) || from < 1 || to < from || from <= this.highest) {
        throw new RangeError(`ranges must ascend without overlap, found ${from}-${to} after ${this.highest}; restore the state that was stored`);
      }
      const last = this.#ranges.at(-1);
      if (last && last[1] + 1 === from) last[1] = to;
      else this.#ranges.push([from, to]);
    }
  }

  /** Begins in the middle: the next number is `next`, and those before it are taken as seen. */
  static startingAt(next) {
    return new SequenceTracker(next > 1 ? [[1, next - 1]] : []);
  }

  /** Takes the text that `toString` gave. */
  static parse(text) {
    if (text === "") return new SequenceTracker();
    return new SequenceTracker(
      text.split(",", RANGES_MAX + 1).map((range) => {
        const numbers = /^(\d{1,16})-(\d{1,16})$/.exec(range);
        if (!numbers) throw new RangeError("expected ranges like 1-40,42-50; restore the state that was stored");
        return [Number(numbers[1]), Number(numbers[2])];
      }),
    );
  }

  /** Takes note of a verified delivery's number and says how it stands to those before it. */
  observe(sequence) {
    if (!isNumber(sequence)) throw new TypeError("a sequence number is the whole number that the body carries as `sequence`");
    const highest = this.highest;
    if (sequence <= highest) {
      this.#fill(sequence);
      return { kind: "earlier" };
    }
    const last = this.#ranges.at(-1);
    if (last && sequence === highest + 1) last[1] = sequence;
    else this.#ranges.push([sequence, sequence]);
    this.#forgetLowestGap();
    return sequence === highest + 1 ? { kind: "next" } : { kind: "gap", from: highest + 1, to: sequence - 1 };
  }

  /** The highest number so far, 0 before the first. */
  get highest() {
    return this.#ranges.at(-1)?.[1] ?? 0;
  }

  /** The gaps below the highest number, lowest first. */
  get missing() {
    return this.#ranges
      .map(([from], at) => [(this.#ranges[at - 1]?.[1] ?? 0) + 1, from - 1])
      .filter(([from, to]) => from <= to);
  }

  /** The state, to be stored. */
  get ranges() {
    return this.#ranges.map((range) => [...range]);
  }

  toJSON() {
    return this.ranges;
  }

  toString() {
    return this.#ranges.map((range) => range.join("-")).join(",");
  }

  /** Puts a number at or below the highest where it belongs, joining what then touches. */
  #fill(sequence) {
    const ranges = this.#ranges;
    const at = ranges.findIndex(([, to]) => to >= sequence);
    if (sequence === 0 || ranges[at][0] <= sequence) return;
    const below = ranges[at - 1]?.[1] === sequence - 1 ? ranges[at - 1] : undefined;
    const above = ranges[at][0] === sequence + 1 ? ranges[at] : undefined;
    const joined = [below?.[0] ?? sequence, above?.[1] ?? sequence];
    ranges.splice(below ? at - 1 : at, (below ? 1 : 0) + (above ? 1 : 0), joined);
    this.#forgetLowestGap();
  }

  /** Keeps the bound. One observation makes at most one range more. */
  #forgetLowestGap() {
    if (this.#ranges.length <= RANGES_MAX) return;
    const [lowest] = this.#ranges.shift();
    this.#ranges[0][0] = lowest;
  }
}
