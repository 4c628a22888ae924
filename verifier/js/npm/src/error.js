// Why a delivery was refused: the codes are those of the Rust crate and stay the same over versions.

const PROXY = "see that the proxy in front passes it on";
const MESSAGES = {
  invalid_secret: "the secret is not usable: pass the endpoint's secret as it is shown (`whsec_…`), without quotes, spaces or line ends",
  secret_too_short: "the secret decodes to fewer than 24 bytes: pass the whole of it",
  missing_id: `the header webhook-id is missing; ${PROXY}`,
  missing_timestamp: `the header webhook-timestamp is missing; ${PROXY}`,
  missing_signature: `the signature header is missing or empty; ${PROXY}, and under this name`,
  malformed_id: "the header webhook-id must be there once, with 1 to 256 visible ASCII characters other than `,` and `.`",
  malformed_timestamp: "the header webhook-timestamp must be there once, as unix seconds of at most 12 digits",
  timestamp_too_old: "the delivery was signed longer ago than allowed; check this machine's clock, else refuse it as a replay",
  timestamp_too_new: "the delivery was signed further in the future than allowed; check this machine's clock",
  malformed_signature: "the signature header holds a signature that is cut, re-encoded or has something added",
  unsupported_signature: "the signature header holds no signature of a version that there is a key for",
  too_many_signatures: "the signature header has over 32 items or 4,096 bytes, more than any sender makes",
  no_match: "no signature matches: the body is not the raw bytes that were received, or the secret is another endpoint's or an old one",
  body_too_large: "the body is larger than maxBodyBytes",
  body_used: "the body was read before: verify the request first, or pass the raw body to verify()",
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
