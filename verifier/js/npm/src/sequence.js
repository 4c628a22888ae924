// Detects gaps in an endpoint's deliveries, by the sequence number in the body alone. It doesn't detect repeats: use `webhook-id`
// for that, since numbers may be assigned again after a backup is restored.

/** The maximum number of ranges that a tracker keeps. */
const RANGES_MAX = 64;

const isNumber = (value) => Number.isSafeInteger(value) && value >= 0;

export class SequenceTracker {
  /** First and last number of each range: ascending, with a gap between any two. */
  #ranges = [];

  /** Restores a stored state: the value of `ranges` or `toJSON`. */
  constructor(ranges = []) {
    if (ranges.length > RANGES_MAX) throw new RangeError(`at most ${RANGES_MAX} ranges are allowed; restore the stored state`);
    for (const [from, to] of ranges) {
      if (!isNumber(from) || !isNumber(to) || from < 1 || to < from || from <= this.highest) {
        throw new RangeError(`ranges must ascend without overlap, found ${from}-${to} after ${this.highest}; restore the stored state`);
      }
      const last = this.#ranges.at(-1);
      if (last && last[1] + 1 === from) last[1] = to;
      else this.#ranges.push([from, to]);
    }
  }

  /** Starts in the middle: the next number is `next`, and the earlier ones count as seen. */
  static startingAt(next) {
    return new SequenceTracker(next > 1 ? [[1, next - 1]] : []);
  }

  /** Restores the text from `toString`. */
  static parse(text) {
    if (text === "") return new SequenceTracker();
    return new SequenceTracker(
      text.split(",", RANGES_MAX + 1).map((range) => {
        const numbers = /^(\d{1,16})-(\d{1,16})$/.exec(range);
        if (!numbers) throw new RangeError("expected ranges like 1-40,42-50; restore the stored state");
        return [Number(numbers[1]), Number(numbers[2])];
      }),
    );
  }

  /** Records a verified delivery's number and returns how it relates to the earlier ones. */
  observe(sequence) {
    if (!isNumber(sequence)) throw new TypeError("a sequence number is the whole number in the body's `sequence`");
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

  /** The state, for storage. */
  get ranges() {
    return this.#ranges.map((range) => [...range]);
  }

  toJSON() {
    return this.ranges;
  }

  toString() {
    return this.#ranges.map((range) => range.join("-")).join(",");
  }

  /** Inserts a number at or below the highest, and joins ranges that become adjacent. */
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

  /** Enforces the bound. One observation adds at most one range. */
  #forgetLowestGap() {
    if (this.#ranges.length <= RANGES_MAX) return;
    const [lowest] = this.#ranges.shift();
    this.#ranges[0][0] = lowest;
  }
}
