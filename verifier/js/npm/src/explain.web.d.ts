import type { Explain } from "./explain.js";

/** Makes `explain` from the bytes of `stormhook-verifier/explain.wasm.gz`, or of the module unpacked. */
export function load(bytes: Uint8Array | ArrayBuffer): Promise<Explain>;
