// The package as it would be published, in every runtime and bundler that can be had here: all cases of the tables in each of them.
//
//   node run.js        after `npm ci` here and `node ../build.js`
//
// What is not installed (chromium alone may be missing) is named and passed over.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const verifier = join(here, "../../..");
const target = process.env.CARGO_TARGET_DIR ?? join(verifier, "../target");
const built = join(target, "npm/stormhook-verifier");
const work = mkdtempSync(join(tmpdir(), "stormhook-runtimes-"));
const tables = ["vectors.json", "vectors-v1a.json"];
const bin = (name) => join(here, "node_modules/.bin", name);
const started = [];
const chromium = ["chromium", "chromium-browser", "google-chrome"].find((name) => spawnSync(name, ["--version"]).status === 0);
const CHROMIUM_FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** Installs what `npm pack` makes, as a partner would have it. */
function install() {
  const [packed] = JSON.parse(execFileSync("npm", ["pack", built, "--json", "--pack-destination", work], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  mkdirSync(join(work, "node_modules"), { recursive: true });
  execFileSync("tar", ["-xzf", join(work, packed.filename), "-C", work]);
  cpSync(join(work, "package"), join(work, "node_modules/stormhook-verifier"), { recursive: true });
  cpSync(join(here, "../test/cases.js"), join(work, "cases.js"));
  for (const table of tables) cpSync(join(verifier, table), join(work, table));
  writeFileSync(join(work, "package.json"), '{"type":"module"}');
  console.log(`npm pack: ${packed.files.length} files, ${packed.size} bytes packed, ${packed.unpackedSize} unpacked`);
}

const program = (tail) => `import * as api from "stormhook-verifier";
import * as curve from "stormhook-verifier/ed25519";
import { run } from "./cases.js";
import table from "./vectors.json" with { type: "json" };
import asymmetric from "./vectors-v1a.json" with { type: "json" };
const wrong = [...run(api, table), ...run(curve, table), ...run(curve, asymmetric)];
${tail}
`;
const PRINT = 'console.log(JSON.stringify({ wrong, cases: 2 * table.vectors.length + asymmetric.vectors.length }));';

function passes(name, text, atLeast = 300) {
  const { wrong, cases } = JSON.parse(text.trim().split("\n").at(-1));
  assert.deepEqual(wrong, [], name);
  assert.ok(cases >= atLeast, `${name}: only ${cases} cases`);
  console.log(`${name}: ${cases} cases as expected`);
}

function tried(name, command, args) {
  const { stdout, stderr, status } = spawnSync(command, args, { cwd: work, encoding: "utf8", timeout: 120_000, env: { ...process.env, NO_COLOR: "1" } });
  assert.equal(status, 0, `${name}: ${stderr}`);
  passes(name, stdout);
}

/** Each bundler with its defaults, for a browser and where it can for Node; what comes out is run by Node. */
async function bundlers() {
  const resolve = createRequire(import.meta.url);
  writeFileSync(join(work, "bundled.js"), program(PRINT).replaceAll(' with { type: "json" }', ""));
  const esbuild = createRequire(join(here, "../package.json"))("esbuild");
  for (const platform of ["browser", "node"]) {
    const outfile = join(work, `esbuild-${platform}.mjs`);
    await esbuild.build({ entryPoints: [join(work, "bundled.js")], bundle: true, format: "esm", platform, outfile, logLevel: "error" });
    tried(`esbuild for ${platform}`, process.execPath, [outfile]);
  }
  const { build } = await import("vite");
  const outDir = join(work, "vite");
  await build({ root: work, logLevel: "error", build: { outDir, lib: { entry: join(work, "bundled.js"), formats: ["es"], fileName: "vite" }, minify: false } });
  tried("vite", process.execPath, [join(outDir, readdirSync(outDir).find((name) => name.startsWith("vite")))]);
  const webpack = resolve("webpack");
  const stats = await new Promise((done, fail) =>
    webpack(
      {
        context: work, entry: "./bundled.js", mode: "production", target: "web", performance: { hints: false },
        experiments: { outputModule: true }, output: { path: work, filename: "webpack.mjs", module: true, library: { type: "module" } },
      },
      (error, stats) => (error ? fail(error) : done(stats)),
    ),
  );
  assert.ok(!stats.hasErrors(), String(stats));
  tried("webpack", process.execPath, [join(work, "webpack.mjs")]);
}

/** A server of files that is told how it went. */
async function serve(files, headers) {
  const types = { ".js": "text/javascript", ".json": "application/json", ".html": "text/html", ".gz": "application/octet-stream" };
  let told;
  const answer = new Promise((done) => (told = done));
  const server = createServer((request, response) => {
    if (request.method === "POST") {
      let text = "";
      request.on("data", (piece) => (text += piece)).on("end", () => (response.end(), told(text)));
      return;
    }
    const file = join(files, request.url.split("?")[0]);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": types[extname(file)] ?? "application/octet-stream", ...headers }).end(readFileSync(file));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { port: server.address().port, answer, close: () => server.close() };
}

async function browser() {
  if (!chromium) return console.log("chromium: not installed, passed over");
  const map = { imports: { "stormhook-verifier": "/package/index.js", "stormhook-verifier/ed25519": "/package/ed25519.js" } };
  const tail = 'await fetch("/told", { method: "POST", body: JSON.stringify({ wrong, cases: 2 * table.vectors.length + asymmetric.vectors.length }) });';
  writeFileSync(join(work, "page.js"), program(tail));
  writeFileSync(join(work, "page.html"), `<!doctype html><script type="importmap">${JSON.stringify(map)}</script><script type="module" src="/page.js"></script>`);
  const policy = "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'";
  const server = await serve(work, { "content-security-policy": policy });
  const child = spawn(chromium, [...CHROMIUM_FLAGS, `--user-data-dir=${join(work, "chromium")}`, `http://127.0.0.1:${server.port}/page.html`], { stdio: "ignore" });
  started.push(child);
  passes("chromium, under a content security policy", await within(60_000, "chromium", server.answer));
  child.kill();
  server.close();
}

/** The debugger's page explains its own example: JSON that was written anew. */
async function debuggerPage() {
  if (!chromium) return;
  const server = await serve(join(target, "npm/debugger"), {});
  const url = `http://127.0.0.1:${server.port}/index.html#example`;
  const args = [...CHROMIUM_FLAGS, `--user-data-dir=${join(work, "chromium-page")}`, "--virtual-time-budget=10000", "--dump-dom", url];
  const child = spawn(chromium, args, { stdio: ["ignore", "pipe", "ignore"] });
  started.push(child);
  let dom = "";
  child.stdout.on("data", (piece) => (dom += piece));
  await within(60_000, "chromium with the debugger", new Promise((done) => child.on("exit", done)));
  for (const said of ["This delivery is refused.", "json reserialised", "no_match"]) assert.ok(dom.includes(said), `the debugger does not say ${said}`);
  assert.ok(!/class="ok"/.test(dom), "the debugger accepts a body that was written anew");
  console.log("the debugger's page explains a body that was written anew");
  server.close();
}

async function workers() {
  const names = readdirSync(join(work, "package")).filter((name) => /\.js$/.test(name) && !/node|web|inline|explain|index|ed25519/.test(name));
  const modules = names.map((name) => `(name = "package/${name}", esModule = embed "package/${name}")`);
  writeFileSync(
    join(work, "worker.js"),
    `import * as api from "./package/workerd.js";
import { run } from "./cases.js";
import table from "./vectors.json";
export default { async fetch() { return Response.json({ wrong: run(api, table), cases: table.vectors.length }); } };`,
  );
  writeFileSync(
    join(work, "worker.capnp"),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2025-06-01",
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "cases.js", esModule = embed "cases.js"),
    (name = "vectors.json", json = embed "vectors.json"),
    (name = "package/core.wasm", wasm = embed "package/core.wasm"),
    ${modules.join(",\n    ")},
  ],
);
`,
  );
  const child = spawn(join(here, "node_modules/@cloudflare/workerd-linux-64/bin/workerd"), ["serve", "worker.capnp", "--control-fd=3"], { cwd: work, stdio: ["ignore", "inherit", "inherit", "pipe"] });
  started.push(child);
  const port = await within(30_000, "workerd", new Promise((done) => {
    let text = "";
    child.stdio[3].on("data", (piece) => {
      text += piece;
      const listening = /"event":\s*"listen".*"port":\s*(\d+)/.exec(text);
      if (listening) done(listening[1]);
    });
  }));
  passes("workerd", await (await fetch(`http://127.0.0.1:${port}/`)).text(), 147);
  child.kill();
}

function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, fail) => (timer = setTimeout(() => fail(new Error(`${what} did not answer in ${ms} ms`)), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

try {
  install();
  writeFileSync(join(work, "main.js"), program(PRINT));
  writeFileSync(join(work, "main.cjs"), `
const { run } = require("./cases.js"); const api = require("stormhook-verifier"); const curve = require("stormhook-verifier/ed25519");
const [table, asymmetric] = [require("./vectors.json"), require("./vectors-v1a.json")];
const wrong = [...run(api, table), ...run(curve, table), ...run(curve, asymmetric)];
${PRINT}`);
  tried("Node, modules", process.execPath, ["--no-warnings", "main.js"]);
  tried("Node, CommonJS", process.execPath, ["--no-warnings", "main.cjs"]);
  tried("Deno", bin("deno"), ["run", "--no-lock", "--node-modules-dir=manual", "--allow-read", "--allow-env", "main.js"]);
  tried("Bun", join(here, "node_modules/@oven/bun-linux-x64/bin/bun"), ["run", "main.js"]);
  await bundlers();
  await workers();
  await browser();
  await debuggerPage();
} finally {
  for (const child of started) {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await new Promise((done) => child.on("exit", done));
  }
  rmSync(work, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
