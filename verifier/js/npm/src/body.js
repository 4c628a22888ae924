// The body as bytes: only those were signed.
import { refuse } from "./error.js";

const encoder = new TextEncoder();

export const BODY_MAX_BYTES = 1 << 20;

const RAW_BODY =
  "pass the raw body: the bytes as received (Uint8Array, Buffer, ArrayBuffer or text), not a parsed value; " +
  "parse after verifying";

/** A body as bytes. */
export function bytesOf(body) {
  if (body instanceof Uint8Array) return body;
  if (typeof body === "string") return encoder.encode(body);
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  throw new TypeError(RAW_BODY);
}

/** The body of a Fetch `Request` or of a Node request, up to a bound. */
export async function readBody(request, max) {
  if (request.bodyUsed || request.readableEnded) refuse("body_used");
  const stream = typeof request.arrayBuffer === "function" ? (request.body ?? []) : request;
  const pieces = [];
  let length = 0;
  for await (const piece of piecesOf(stream)) {
    length += piece.length;
    if (length > max) refuse("body_too_large");
    pieces.push(piece);
  }
  if (pieces.length === 1) return pieces[0];
  const body = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    body.set(piece, at);
    at += piece.length;
  }
  return body;
}

/** Not every runtime's `ReadableStream` can be iterated over. */
async function* piecesOf(stream) {
  if (typeof stream.getReader !== "function") {
    yield* stream;
    return;
  }
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
