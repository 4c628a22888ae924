// Why a delivery was refused: the codes are those of the Rust crate and stable across versions.

const PROXY = "check that the proxy in front passes it";
const MESSAGES = {
  invalid_secret: "the secret is invalid: pass the endpoint's secret as it is shown (`whsec_…`), without quotes, spaces or line ends",
  secret_too_short: "the secret decodes to fewer than 24 bytes: pass the whole secret",
  missing_id: `the header webhook-id is missing; ${PROXY}`,
  missing_timestamp: `the header webhook-timestamp is missing; ${PROXY}`,
  missing_signature: `the signature header is missing or empty; ${PROXY}, and under this name`,
  malformed_id: "the header webhook-id must appear once, with 1 to 256 visible ASCII characters other than `,` and `.`",
  malformed_timestamp: "the header webhook-timestamp must appear once, as Unix seconds of at most 12 digits",
  timestamp_too_old: "the delivery was signed longer ago than allowed; check this machine's clock, or refuse it as a replay",
  timestamp_too_new: "the delivery was signed further in the future than allowed; check this machine's clock",
  malformed_signature: "the signature header holds a signature that was truncated, re-encoded or extended",
  unsupported_signature: "the signature header holds no signature of a version that the key can verify",
  too_many_signatures: "the signature header has more than 32 items or 4,096 bytes, which no sender produces",
  no_match: "no signature matches: the body is not the raw bytes that were received, or the secret is another endpoint's or an old one",
  body_too_large: "the body is larger than maxBodyBytes",
  body_used: "the body has already been read: verify the request first, or pass the raw body to verify()",
};
export class WebhookVerificationError extends Error {
  constructor(code, message = MESSAGES[code]) {
    super(message);
    this.name = "WebhookVerificationError";
    this.code = code;
  }
}

export const refuse = (code) => {
  throw new WebhookVerificationError(code);
};
