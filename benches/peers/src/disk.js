// The time of the disk's own sync, measured beside each lane, for comparison with figures that include a commit.

import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { median } from "./rounds.js";

const SYNCS = 100;

/** Median of 4 KiB writes with fdatasync, in milliseconds. */
export function syncMs(folder) {
  const path = join(folder, "sync");
  const file = openSync(path, "w");
  const block = Buffer.alloc(4_096, 7);
  const times = [];
  try {
    for (let at = 0; at < SYNCS; at += 1) {
      const started = performance.now();
      writeSync(file, block, 0, block.length, 0);
      fdatasyncSync(file);
      times.push(performance.now() - started);
    }
  } finally {
    closeSync(file);
    rmSync(path);
  }
  return median(times);
}
