// Stormhook's default retry schedule, for peers that can be configured with it.

const MINUTE_MS = 60_000;

export const SCHEDULE_MS = [1, 5, 30, 120, 1_440].map((minutes) => minutes * MINUTE_MS);

/** The largest random addition to a delay, as a share of it. */
export const JITTER = 0.1;
