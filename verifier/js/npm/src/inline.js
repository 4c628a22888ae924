// Modules that stand in text.

export const bytesOfBase64 = (text) => Uint8Array.from(atob(text), (unit) => unit.charCodeAt(0));

/** Bytes that are compressed. */
export async function unpack(bytes, format) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  return new Response(stream).arrayBuffer();
}
