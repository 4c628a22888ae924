// Which rounds count, and their result. A peer's round is between two rounds of ours; if one of those is far from
// the median of ours, there was other load, and the round is discarded by this rule alone.

const DIRTY_BEYOND = 0.2;

/** Returns the median of `values`: the mean of the two middle ones if their number is even. */
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

/** Returns the values of the clean rounds, or all if none is clean. */
export const kept = (rounds, marks) => (marks.includes(true) ? rounds.filter((_, at) => marks[at]) : rounds);

/** Returns ours divided by the peer's for one figure: each round against the mean of ours before and after it, then the median. */
export function ratio(rounds, name) {
  const all = rounds
    .map(({ before, peer, after }) => (before[name] + after[name]) / 2 / peer[name])
    .filter((value) => Number.isFinite(value));
  return all.length > 0 ? median(all) : undefined;
}

/** Returns the median of one figure, over the rounds that have it. */
export function figure(found, name) {
  const values = found.map((one) => one[name]).filter((value) => value !== undefined);
  return values.length > 0 ? median(values) : undefined;
}
