// The signature debugger in Node, Deno and Bun.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { over } from "./explain.js";

const file = new URL("./explain.wasm.gz", import.meta.url);

let module;

export const explain = over(() => {
  module ??= new WebAssembly.Module(gunzipSync(readFileSync(file)));
  return new WebAssembly.Instance(module).exports;
});
