// Where the built package lies.
import { pathToFileURL } from "node:url";

const target = process.env.CARGO_TARGET_DIR ?? new URL("../../../../target", import.meta.url).pathname;

export const folder = pathToFileURL(`${target}/npm/stormhook-verifier/`);
export const load = (name) => import(new URL(name, folder));
