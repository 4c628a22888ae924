// Every case of the shared tables, in whatever runtime this is loaded. Gives what went wrong, as lines of text.

const bytesOf = (base64) => Uint8Array.from(atob(base64), (unit) => unit.charCodeAt(0));

export function run(api, table) {
  const wrong = [];
  for (const one of table.vectors) {
    let found = "ok";
    try {
      api.verify({ headers: one.headers, body: bytesOf(one.body_base64) }, one.secret, {
        scheme: one.scheme === "storm" ? "stormcom" : "standard",
        tolerance: one.tolerance_s ?? "unchecked",
        now: new Date(one.now_s * 1000),
      });
    } catch (error) {
      found = error.code ?? String(error);
    }
    if (found !== one.expect) wrong.push(`${one.name}: expected ${one.expect}, found ${found}`);
  }
  return wrong;
}
