// Which rounds count and what they come to. A peer's round lies between two rounds of ours; if one of those is far from
// the median of ours, neighbours were at work, and the round is thrown away by this rule alone.

const DIRTY_BEYOND = 0.2;

/** The middle of `values`, the mean of the two middle ones if their number is even. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Marks each round `{ before, peer, after }` as clean or not, by the rates of ours around it. */
export function clean(rounds, ours) {
  const middle = median(ours.map((found) => found.rate));
  const fine = (found) => Math.abs(found.rate - middle) <= middle * DIRTY_BEYOND;
  return rounds.map(({ before, after }) => fine(before) && fine(after));
}

/** The values of clean rounds, or all if none is. */
export const kept = (rounds, marks) => (marks.includes(true) ? rounds.filter((_, at) => marks[at]) : rounds);

/** Ours by the peer's for one figure: each round against the mean of ours before and after it, then the median. */
export function ratio(rounds, name) {
  const all = rounds
    .map(({ before, peer, after }) => (before[name] + after[name]) / 2 / peer[name])
    .filter((value) => Number.isFinite(value));
  return all.length > 0 ? median(all) : undefined;
}

/** The median of one figure, over what has it. */
export function figure(found, name) {
  const values = found.map((one) => one[name]).filter((value) => value !== undefined);
  return values.length > 0 ? median(values) : undefined;
}
