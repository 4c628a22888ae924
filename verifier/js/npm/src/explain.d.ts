import type { Delivery } from "./index.js";

export interface Step {
  step: "secret" | "headers_present" | "id_form" | "timestamp_form" | "timestamp_window" | "signature_form" | "signature";
  outcome: "passed" | "failed" | "not_reached";
}

export interface Report {
  /** `ok`, or why this scheme refuses the delivery. */
  code: string;
  steps: Step[];
}

/** Why a delivery is or isn't accepted. Holds nothing secret and no signature. */
export interface Explanation {
  standard: Report;
  stormcom: Report;
  /** What `content-digest` says of the body. */
  contentDigest: "fits" | "differs" | "absent";
  /** What likely happened, most certain first. Codes stay the same over versions; messages say what to do. */
  findings: { code: string; message: string }[];
}

export interface ExplainOptions {
  tolerance?: number | "unchecked";
  now?: Date;
  /** The header of the scheme `stormcom`, where the sender has another. */
  header?: string;
}

export type Explain = (delivery: Delivery, secret: string, options?: ExplainOptions) => Explanation;

/** Says which step refuses a delivery and why. Hashes a body many times: for a person at a desk, never for each request. */
export const explain: Explain;
