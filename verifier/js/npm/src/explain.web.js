// The signature debugger elsewhere. The caller passes its module, `explain.wasm.gz` in this directory.
import { over } from "./explain.js";
import { unpack } from "./api.js";

/** Creates `explain` from the bytes of `stormhook-verifier/explain.wasm.gz`, or of the module unpacked. */
export async function load(bytes) {
  const isPacked = new Uint8Array(bytes.buffer ?? bytes)[0] === 0x1f;
  const module = new WebAssembly.Module(isPacked ? await unpack(bytes, "gzip") : bytes);
  return over(() => new WebAssembly.Instance(module).exports);
}
