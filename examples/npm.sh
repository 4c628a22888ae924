# Sourced by run.sh: starts the consumers that use the npm package, each in the runtime that it is written for.
# They are copied beside an installed package, as a user would have them. Sets `npm_consumers`.
npm_consumers=(consumer-express consumer-fastify consumer-next consumer-worker consumer-deno)
runtimes=$PWD/verifier/js/npm/runtimes/node_modules
package=${CARGO_TARGET_DIR:-$PWD/target}/npm/stormhook-verifier

place=$folder/npm
mkdir -p "$place/node_modules"
for module in "$runtimes"/*; do ln -s "$module" "$place/node_modules/"; done
cp -r "$package" "$place/node_modules/stormhook-verifier"
for name in "${npm_consumers[@]}"; do cp -r "examples/$name" "$place/"; done
echo '{"type":"module"}' >"$place/package.json"

start consumer-express node "$place/consumer-express/consumer.js"
start consumer-fastify node "$place/consumer-fastify/consumer.js"
start consumer-deno "$runtimes/.bin/deno" run --quiet --node-modules-dir=manual --no-lock --allow-net --allow-env --allow-read \
    "$place/consumer-deno/consumer.ts"

# What Next.js does with a route handler: a Fetch request in, a Response out.
cat >"$place/next.js" <<'END'
import { createServer } from "node:http";
import { POST } from "./consumer-next/route.js";

const server = createServer(async (incoming, outgoing) => {
  const request = new Request(`http://${incoming.headers.host}${incoming.url}`, { method: "POST", headers: incoming.headers, body: incoming, duplex: "half" });
  const response = await POST(request, { params: Promise.resolve({}) });
  if (response.status === 401) console.log("refused a request");
  outgoing.writeHead(response.status, Object.fromEntries(response.headers)).end(await response.text());
});
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}/hooks`));
END
start consumer-next node "$place/next.js"

worker_port=$(node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
cat >"$place/worker.capnp" <<END
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:$worker_port", http = (), service = "main")],
);
const main :Workerd.Worker = (
  compatibilityDate = "2025-06-01",
  bindings = [(name = "STORMHOOK_SECRET", text = "$STORMHOOK_SECRET")],
  modules = [
    (name = "worker.js", esModule = embed "consumer-worker/worker.js"),
    (name = "stormhook-verifier", esModule = embed "node_modules/stormhook-verifier/workerd.js"),
    (name = "api.js", esModule = embed "node_modules/stormhook-verifier/api.js"),
    (name = "core.wasm", wasm = embed "node_modules/stormhook-verifier/core.wasm"),
  ],
);
END
start consumer-worker bash -c 'echo "listening on $1/hooks"; exec "$2" serve "$3"' _ "http://127.0.0.1:$worker_port" \
    "$runtimes/@cloudflare/workerd-linux-64/bin/workerd" "$place/worker.capnp"
for _ in $(seq 200); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$worker_port") 2>/dev/null; then break; fi
    sleep 0.05
done
