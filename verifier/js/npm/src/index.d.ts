/** Text, or the bytes as received. Never a parsed value. */
export type RawBody = Uint8Array | ArrayBuffer | ArrayBufferView | string;

/** Headers as frameworks provide them: a `Headers`, a record, pairs, or Node's `rawHeaders`. Names in any case. */
export type HeadersLike =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>
  | Iterable<readonly [string, string]>
  | readonly string[];

export interface Delivery {
  headers: HeadersLike;
  /** The raw body. Parsed and serialized again it is different bytes, which no signature matches. */
  body: RawBody;
}

export interface VerifierOptions {
  /** `standard` (default): `webhook-id`, `webhook-timestamp` and `webhook-signature`. `stormcom`: `x-stormcom-signature`, which covers only the body. */
  scheme?: "standard" | "stormcom";
  /** How far the timestamp may differ from now, in seconds; 300 by default. `"unchecked"` accepts replays. */
  tolerance?: number | "unchecked";
  /** The header of the scheme `stormcom`, if the sender uses another one. */
  header?: string;
}

export interface VerifyOptions extends VerifierOptions {
  /** The time to compare with; the system clock by default. */
  now?: Date;
}

export interface RequestOptions extends VerifyOptions {
  /** The largest body that is read; 1 MiB by default. */
  maxBodyBytes?: number;
}

/** A genuine delivery. Skip it if you have already processed `id`: a delivery may arrive more than once. */
export interface Verified {
  /** The event's id, the same on every attempt. Undefined with the scheme `stormcom`, which does not sign it. */
  readonly id: string | undefined;
  /** When this attempt was signed. Undefined with the scheme `stormcom`. */
  readonly timestamp: Date | undefined;
  /** The bytes that were verified. */
  readonly body: Uint8Array;
  /** The body, parsed. */
  json<T = unknown>(): T;
}

/** Stable across versions, and the same in Rust. */
export type ErrorCode =
  | "invalid_secret"
  | "secret_too_short"
  | "missing_id"
  | "missing_timestamp"
  | "missing_signature"
  | "malformed_id"
  | "malformed_timestamp"
  | "timestamp_too_old"
  | "timestamp_too_new"
  | "malformed_signature"
  | "unsupported_signature"
  | "too_many_signatures"
  | "no_match"
  | "body_too_large"
  | "body_used";

/** The delivery is not genuine, or the receiver's secret is invalid (`invalid_secret`, `secret_too_short`). */
export class WebhookVerificationError extends Error {
  readonly code: ErrorCode;
}

/** Keeps prepared keys: create one at startup if you receive many deliveries. */
export class Verifier {
  /**
   * @param secrets The endpoint's secret as it is shown, or up to 16 during a rotation; `whpk_` public keys with `stormhook-verifier/ed25519`.
   * @throws {WebhookVerificationError} if a secret is invalid.
   */
  constructor(secrets: string | readonly string[], options?: VerifierOptions);
  /** @throws {WebhookVerificationError} if the delivery is not genuine. @throws {TypeError} if the body is not a raw body. */
  verify(delivery: Delivery, options?: { now?: Date }): Verified;
}

/**
 * Verifies a delivery, synchronously.
 *
 * @throws {WebhookVerificationError} if it is not genuine. @throws {TypeError} if the body is not a raw body.
 */
export function verify(delivery: Delivery, secrets: string | readonly string[], options?: VerifyOptions): Verified;

/** Reads the body of a Fetch `Request` or a Node request, and verifies it. */
export function verifyRequest(
  request: Request | (AsyncIterable<Uint8Array> & { headers: HeadersLike }),
  secrets: string | readonly string[],
  options?: RequestOptions,
): Promise<Verified>;

/** Express middleware: `request.webhook` is the verified delivery. Mount it before any body parser, or after `express.raw({ type: "*\/*" })`. */
export function expressWebhook(
  secrets: string | readonly string[],
  options?: RequestOptions,
): (request: any, response: any, next: (error?: unknown) => void) => Promise<unknown>;

/** A Fastify plugin: in the scope where it is registered, bodies stay bytes, and `request.webhook` is the verified delivery. */
export function fastifyWebhook(secrets: string | readonly string[], options?: RequestOptions): (scope: any) => Promise<void>;

/** A handler of Fetch requests: a Next.js route, a Worker, `Deno.serve`, `Bun.serve`. If `handle` returns nothing, the response is 204. */
export function fetchWebhook<Rest extends unknown[]>(
  secrets: string | readonly string[],
  handle: (webhook: Verified, request: Request, ...rest: Rest) => Response | void | Promise<Response | void>,
  options?: RequestOptions,
): (request: Request, ...rest: Rest) => Promise<Response>;

/** How a sequence number relates to the earlier ones. `earlier` is late or a repeat: `webhook-id` shows which. */
export type Observed = { kind: "next" } | { kind: "earlier" } | { kind: "gap"; from: number; to: number };

/** Keeps which of an endpoint's sequence numbers have arrived, as at most 64 ranges that the receiver stores where it likes. */
export class SequenceTracker {
  constructor(ranges?: readonly (readonly [number, number])[]);
  static startingAt(next: number): SequenceTracker;
  static parse(text: string): SequenceTracker;
  observe(sequence: number): Observed;
  readonly highest: number;
  /** The gaps below the highest number, lowest first. */
  readonly missing: [from: number, to: number][];
  /** The state, for storage. */
  readonly ranges: [from: number, to: number][];
  toJSON(): [from: number, to: number][];
  toString(): string;
}
