// The signature debugger's page: reads the form, calls the WebAssembly core, shows the result. Stores nothing and sends nothing.
import { load } from "./explain.web.js";

const element = (id) => document.getElementById(id);
const [secret, headers, body, file, now] = ["secret", "headers", "body", "file", "now"].map(element);

const STEPS = {
  secret: "The secret is valid",
  headers_present: "The headers are present",
  id_form: "webhook-id is well formed",
  timestamp_form: "webhook-timestamp is well formed",
  timestamp_window: "The time is close enough",
  signature_form: "The signatures are well formed",
  signature: "A signature matches key and body",
};
const MARKS = { passed: "✓", failed: "✗", not_reached: "·" };
const SAID = { passed: "passed", failed: "failed", not_reached: "not reached" };

/** A delivery whose body a framework parsed and serialized again. Its secret is public and protects nothing. */
const EXAMPLE = {
  secret: "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=",
  at: "2026-01-01T12:00:05",
  headers: `content-type: application/json
webhook-id: evt_01KDVHGJ00EXAMPLE00000000
webhook-timestamp: 1767268800
webhook-signature: v1,@SIGNATURE@`,
  body: `{
  "id": "evt_01KDVHGJ00EXAMPLE00000000",
  "type": "order.created",
  "timestamp": "2026-01-01T12:00:00Z",
  "organizationId": "org_42",
  "sequence": 7,
  "data": {
    "order": 4711,
    "total": 1999
  }
}`,
};

const explain = await load(new Uint8Array(await (await fetch("explain.wasm.gz")).arrayBuffer()));

/** `name: value`, one per line. */
const pairsOf = (text) =>
  text
    .split("\n")
    .map((line) => /^\s*([^:\s]+)\s*:[ \t]*(.*?)\s*$/.exec(line))
    .filter(Boolean)
    .map(([, name, value]) => [name, value]);

function item(tag, text, className) {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

function report(title, { code, steps }) {
  const box = item("article", "", code === "ok" ? "ok" : "refused");
  box.append(item("h2", title), item("p", code === "ok" ? "accepted" : code, "code"));
  const list = item("ul", "");
  for (const { step, outcome } of steps) {
    const line = item("li", "", outcome);
    const mark = item("span", MARKS[outcome], "mark");
    mark.setAttribute("aria-label", SAID[outcome]);
    line.append(mark, item("span", STEPS[step] ?? step));
    list.append(line);
  }
  box.append(list);
  return box;
}

async function check() {
  const pairs = pairsOf(headers.value);
  element("schemes").replaceChildren();
  element("findings").replaceChildren();
  if (secret.value === "" || pairs.length === 0) {
    element("verdict").textContent = "Nothing to check yet.";
    element("verdict").className = "";
    return;
  }
  const bytes = file.files.length > 0 ? new Uint8Array(await file.files[0].arrayBuffer()) : body.value;
  const options = now.value === "" ? {} : { now: new Date(`${now.value}Z`) };
  const found = explain({ headers: pairs, body: bytes }, secret.value, options);
  const isAccepted = found.standard.code === "ok" || found.stormcom.code === "ok";
  element("verdict").textContent = isAccepted ? "This delivery is genuine." : "This delivery is refused.";
  element("verdict").className = isAccepted ? "ok" : "refused";
  const names = new Set(pairs.map(([name]) => name.toLowerCase()));
  const schemes = [["webhook-signature", found.standard]];
  // The other scheme is shown if its header is present, or if no other is.
  if (names.has("x-stormcom-signature") || !names.has("webhook-signature")) schemes.push(["x-stormcom-signature", found.stormcom]);
  element("schemes").append(...schemes.map(([title, one]) => report(title, one)));
  element("findings").append(
    ...found.findings.map(({ code, message }) => {
      const line = item("li", "");
      line.append(item("strong", code.replaceAll("_", " ")), item("span", `: ${message}.`));
      return line;
    }),
  );
}

/** The example as the sender would have written it: the same JSON without the added spaces. */
async function example() {
  const sent = JSON.stringify(JSON.parse(EXAMPLE.body));
  const bytes = Uint8Array.from(atob(EXAMPLE.secret.slice(6)), (unit) => unit.charCodeAt(0));
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const [, id, timestamp] = /webhook-id: (\S+)\nwebhook-timestamp: (\S+)/.exec(EXAMPLE.headers);
  const code = new Uint8Array(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(`${id}.${timestamp}.${sent}`)));
  secret.value = EXAMPLE.secret;
  headers.value = EXAMPLE.headers.replace("@SIGNATURE@", btoa(String.fromCharCode(...code)));
  body.value = EXAMPLE.body;
  file.value = "";
  now.value = EXAMPLE.at;
  await check();
}

element("delivery").addEventListener("input", () => void check());
element("delivery").addEventListener("submit", (event) => event.preventDefault());
element("example").addEventListener("click", () => void example());
element("clear").addEventListener("click", () => {
  element("delivery").reset();
  void check();
});
if (location.hash === "#example") await example();
document.documentElement.dataset.ready = "";
