// Stormhook's schedule of retries as shipped, for peers that can be told it.

const MINUTE_MS = 60_000;

export const SCHEDULE_MS = [1, 5, 30, 120, 1_440].map((minutes) => minutes * MINUTE_MS);

/** Part of a delay that is added at most, at random. */
export const JITTER = 0.1;
