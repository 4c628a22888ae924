// Headers in any container.

/** The pairs of a record, of pairs, of Node's rawHeaders, of a Map. */
export function* pairsOf(headers) {
  if (headers === null || typeof headers !== "object") throw new TypeError("headers must be an object, pairs or a Headers");
  if (Array.isArray(headers) && typeof headers[0] === "string") {
    for (let at = 0; at + 1 < headers.length; at += 2) yield [headers[at], headers[at + 1]];
  } else if (typeof headers[Symbol.iterator] === "function") {
    yield* headers;
  } else {
    for (const name in headers) yield [name, headers[name]];
  }
}

/** The values under these lower-case names, several lines joined as Node and Fetch join them; empty where absent. */
export function valuesOf(headers, names) {
  if (typeof headers?.get === "function" && !(headers instanceof Map)) return names.map((name) => headers.get(name) ?? "");
  const found = new Array(names.length).fill("");
  if (headers !== null && typeof headers === "object" && headers[Symbol.iterator] === undefined) {
    // The form that most frameworks use, without a generator.
    for (const name in headers) {
      const at = placeOf(name, names);
      if (at >= 0) note(found, at, names, headers[name]);
    }
  } else {
    for (const [name, value] of pairsOf(headers)) {
      const at = placeOf(name, names);
      if (at >= 0) note(found, at, names, value);
    }
  }
  return found;
}

function placeOf(name, names) {
  const length = name.length;
  for (let at = 0; at < names.length; at += 1) {
    const wanted = names[at];
    if (length === wanted.length && (name === wanted || name.toLowerCase() === wanted)) return at;
  }
  return -1;
}

function note(found, at, names, value) {
  if (value === undefined || value === null) return;
  const text = Array.isArray(value) ? value.join(", ") : value;
  if (typeof text !== "string") throw new TypeError(`the header ${names[at]} must be text`);
  found[at] = found[at] === "" ? text : `${found[at]}, ${text}`;
}
