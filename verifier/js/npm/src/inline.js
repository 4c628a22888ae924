// Modules that are embedded as text.

export const bytesOfBase64 = (text) => Uint8Array.from(atob(text), (unit) => unit.charCodeAt(0));

/** Compressed bytes. */
export async function unpack(bytes, format) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  return new Response(stream).arrayBuffer();
}
