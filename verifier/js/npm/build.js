// Builds the npm package into the folder named, by default target/npm/stormhook-verifier: three WebAssembly modules from ../wasm, the
// JavaScript of src/ without comments and spaces, the types and the README; and the debugger's page beside it. Prints every file's size, and fails above a budget.
//
//   node build.js [FOLDER]
//
// Needs cargo with the target wasm32-unknown-unknown, and `npm ci` before.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, deflateRawSync, gzipSync } from "node:zlib";
import { buildSync, transformSync } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../../..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const out = process.argv[2] ?? join(target, "npm/stormhook-verifier");
const work = join(target, "npm/work");

/** What the package's users were promised, in bytes. The debugger is counted apart: no page that verifies loads it. */
const BUDGET = { "core.wasm": 15_000, "core.wasm, brotli": 6_000, "explain.wasm.gz": 32_000, "package without it": 80_000 };
/** Every engine of the last years has these; named one by one, since Node 20 refuses a module that declares more. */
const FEATURES = ["simd", "bulk-memory", "sign-ext", "mutable-globals", "nontrapping-float-to-int", "multivalue"];

const run = (program, ...args) => execFileSync(program, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], env: environment });
const environment = { ...process.env, CARGO_TARGET_DIR: target, RUSTFLAGS: "" };
/** No path of the machine that built it ends up in the module. */
const home = process.env.CARGO_HOME ?? join(homedir(), ".cargo");
const WASM_FLAGS = `-C target-feature=+simd128 --remap-path-prefix=${home}=cargo --remap-path-prefix=${root}=stormhook`;
const cargo = (...args) => run("cargo", ...args, "--locked", "--quiet");

function buildModule(feature) {
  const triple = "wasm32-unknown-unknown";
  const built = join(target, triple, "wasm/stormhook_verifier_wasm.wasm");
  environment.RUSTFLAGS = WASM_FLAGS;
  cargo("build", "--profile", "wasm", "--target", triple, "--package", "stormhook-verifier-wasm", "--features", feature);
  environment.RUSTFLAGS = "";
  const folder = join(work, feature);
  mkdirSync(folder, { recursive: true });
  run(join(target, "debug/stormhook-verifier-pack"), built, folder);
  const small = join(folder, "small.wasm");
  const features = FEATURES.map((name) => `--enable-${name}`);
  const strip = ["--strip-debug", "--strip-producers", "--strip-target-features"];
  run(join(here, "node_modules/.bin/wasm-opt"), ...features, ...strip, "-Oz", "--converge", join(folder, "core_bg.wasm"), "-o", small);
  return readFileSync(small);
}

const base64Module = (bytes) => `export default "${bytes.toString("base64")}";\n`;

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
// As part of the whole workspace: what it depends on is then compiled as it is for the tests.
cargo("build", "--workspace", "--all-features", "--bin", "stormhook-verifier-pack");

const core = buildModule("hmac");
writeFileSync(join(out, "core.wasm"), core);
writeFileSync(join(out, "core.inline.js"), base64Module(core));
writeFileSync(join(out, "ed25519.inline.js"), base64Module(deflateRawSync(buildModule("ed25519"), { level: 9 })));
writeFileSync(join(out, "explain.wasm.gz"), gzipSync(buildModule("explain"), { level: 9 }));

// What every entrance needs is one file: each file more is time at the start.
const shared = ["api.js", "body.js", "error.js", "frameworks.js", "headers.js", "inline.js", "memory.js", "sequence.js"];
const text = { minifyWhitespace: true, charset: "utf8", format: "esm" };
buildSync({ ...text, minify: true, entryPoints: [join(here, "src/api.js")], bundle: true, outfile: join(out, "api.js"), logLevel: "error" });
for (const name of readdirSync(join(here, "src"))) {
  if (shared.includes(name)) continue;
  const source = readFileSync(join(here, "src", name), "utf8");
  writeFileSync(join(out, name), name.endsWith(".js") ? transformSync(source, text).code : source);
}
copyFileSync(join(here, "published.json"), join(out, "package.json"));
copyFileSync(join(here, "README.md"), join(out, "README.md"));
copyFileSync(join(root, "LICENSE-MIT"), join(out, "LICENSE-MIT"));

// The debugger's page: files to be put behind any web server.
const page = join(target, "npm/debugger");
rmSync(page, { recursive: true, force: true });
mkdirSync(page, { recursive: true });
for (const name of ["index.html", "page.css", "page.js"]) copyFileSync(join(here, "../page", name), join(page, name));
for (const name of ["api.js", "explain.js", "explain.web.js", "explain.wasm.gz"]) copyFileSync(join(out, name), join(page, name));

const brotli = brotliCompressSync(core, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: core.length } });
const sizes = Object.fromEntries(readdirSync(out).map((name) => [name, statSync(join(out, name)).size]));
sizes["core.wasm, brotli"] = brotli.length;
sizes.package = readdirSync(out).reduce((sum, name) => sum + sizes[name], 0);
sizes["package without it"] = sizes.package - sizes["explain.wasm.gz"];
for (const [name, bytes] of Object.entries(sizes)) {
  const budget = BUDGET[name];
  const note = budget === undefined ? "" : `  of ${budget}${bytes > budget ? ": TOO LARGE" : ""}`;
  console.log(`${String(bytes).padStart(7)} ${name}${note}`);
  if (bytes > budget) process.exitCode = 1;
}
