//! The search for the reason: which findings the refusals, the headers and the signatures support. For each scheme it
//! only explains the step that failed, and never guesses about unchecked steps.

use alloc::string::String;
use alloc::vec::Vec;

use super::finding::{BodyChange, Finding};
use super::{ContentDigest, Step, rewrite, search, step_of};
use crate::error::VerifyError;
use crate::headers::{Field, Headers, JoinBuffer, joined, shown};
use crate::items::Grammar;
use crate::mac::sha256_base64;
use crate::public_key::PublicKey;
use crate::secret::STANDARD_PREFIX;
use crate::verify::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};

const DIGEST_HEADER: &str = "content-digest";

/// The search for the reason.
pub(super) struct Inquiry<'r, H: ?Sized> {
    pub(super) headers: &'r H,
    pub(super) body: &'r [u8],
    pub(super) content_digest: ContentDigest,
    pub(super) findings: Vec<Finding>,
}

impl<H: Headers + ?Sized> Inquiry<'_, H> {
    fn note(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Finds what needs no key.
    pub(super) fn without_a_key(
        &mut self,
        standard: Result<(), VerifyError>,
        stormcom: Result<(), VerifyError>,
        stormcom_header: &str,
    ) {
        let names = [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER];
        for (name, is_signature) in names
            .into_iter()
            .map(|name| (name, name == SIGNATURE_HEADER))
            .chain([(stormcom_header, true)])
        {
            let is_wanted = if name == stormcom_header {
                stormcom
            } else {
                standard
            }
            .is_err();
            if is_wanted && Field::of(self.headers, name).is_missing() {
                self.renamed(name, is_signature, stormcom_header);
            }
        }
        match standard {
            Err(VerifyError::TimestampTooOld { age_s, .. }) => {
                self.note(Finding::ClockBehindSender { age_s });
            }
            Err(VerifyError::TimestampTooNew { ahead_s, .. }) => {
                self.note(Finding::ClockAheadOfSender { ahead_s });
            }
            Err(VerifyError::MalformedId) => self.repeated_or(ID_HEADER, |id| {
                id.contains(&b'.').then_some(Finding::DotInId)
            }),
            Err(VerifyError::MalformedTimestamp) => self.repeated_or(TIMESTAMP_HEADER, |text| {
                let is_ms = text.len() == 13 && text.iter().all(u8::is_ascii_digit);
                is_ms.then_some(Finding::TimestampInMilliseconds)
            }),
            _ => {}
        }
    }

    /// Finds a public key that can't be used: with the StormCom scheme, with `v1`, or in a build without the feature.
    pub(super) fn public_key(
        &mut self,
        standard: Result<(), VerifyError>,
        stormcom: Result<(), VerifyError>,
        secret: &str,
    ) {
        if !PublicKey::is_meant_by(secret.trim_start()) {
            return;
        }
        let is_unusable = match standard {
            Err(VerifyError::InvalidSecret { .. }) => !cfg!(feature = "ed25519"),
            Err(VerifyError::UnsupportedSignature) => {
                let value = value_of(self.headers, SIGNATURE_HEADER);
                value.is_some_and(|value| search::holds_hmac_item(&value))
            }
            _ => false,
        };
        if is_unusable || stormcom.is_err_and(|error| error == VerifyError::NoMatch) {
            self.note(Finding::SecretIsPublicKey);
        }
    }

    fn repeated_or(&mut self, name: &'static str, judge: impl Fn(&[u8]) -> Option<Finding>) {
        match Field::of(self.headers, name) {
            Field::Repeated => self.note(Finding::HeaderRepeated { name }),
            Field::Once(value) => {
                if let Some(finding) = judge(value) {
                    self.note(finding);
                }
            }
            Field::Absent => {}
        }
    }

    /// Looks for a missing header under a name that proxies, CGI or other senders' libraries give it.
    fn renamed(&mut self, expected: &str, is_signature: bool, stormcom_header: &str) {
        let mut found = None;
        self.headers.each(&mut |name, value| {
            let is_own = [
                ID_HEADER,
                TIMESTAMP_HEADER,
                SIGNATURE_HEADER,
                stormcom_header,
            ]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own));
            if found.is_none() && !is_own && is_alias(name, expected) {
                found = Some((name, value));
            }
        });
        if let Some((name, value)) = found
            && (!is_signature || search::holds_signature(value))
        {
            self.note(Finding::HeaderRenamed {
                expected: String::from(expected),
                found: shown(name),
            });
        }
    }

    /// Finds what needs a key: only for a scheme whose check reached its signatures, or failed because of the secret or
    /// the form of the signatures. Findings about other steps are proven by a match.
    pub(super) fn signatures(
        &mut self,
        standard: Result<(), VerifyError>,
        stormcom: Result<(), VerifyError>,
        secret: &str,
        stormcom_header: &str,
    ) {
        let rewritten = rewrite::originals(self.body);
        let bodies: Vec<(Option<BodyChange>, &[u8])> = core::iter::once((None, self.body))
            .chain(rewritten.iter().map(|(how, body)| (Some(*how), &**body)))
            .collect();
        let id = value_of(self.headers, ID_HEADER).unwrap_or_default();
        let timestamp = value_of(self.headers, TIMESTAMP_HEADER).unwrap_or_default();
        let prefix: [&[u8]; 4] = [&id, b".", &timestamp, b"."];
        let schemes: [(Grammar, _, &str, &[&[u8]]); 2] = [
            (Grammar::Standard, standard, SIGNATURE_HEADER, &prefix),
            (Grammar::Stormcom, stormcom, stormcom_header, &[]),
        ];
        let mut is_explained = standard.is_ok() || stormcom.is_ok();
        let mut is_refused = false;
        for (grammar, result, name, prefix) in schemes {
            let Some(error) = result.err().filter(|error| is_searched(*error)) else {
                continue;
            };
            let Some(value) = value_of(self.headers, name) else {
                continue;
            };
            let keys = search::keys(grammar, secret);
            if keys.is_empty() {
                continue;
            }
            match search::fit(grammar, &keys, &value, prefix, &bodies) {
                Some(fit) => {
                    is_explained |= fit.is_body_as_signed;
                    let is_proven = !fit.findings.is_empty();
                    for finding in fit.findings {
                        self.note(finding);
                    }
                    is_refused |= is_proven && !fit.is_body_as_signed;
                }
                None => is_refused |= error == VerifyError::NoMatch,
            }
        }
        // A `whsec_` secret without a key is wrong by itself, whatever the other scheme makes of its text.
        let is_broken = secret.starts_with(STANDARD_PREFIX)
            && standard.is_err_and(|error| step_of(error) == Step::Secret);
        if is_refused && !is_explained && !is_broken {
            self.body_or_secret(&bodies);
        }
    }

    /// Decides between secret and body if no key matches the body as it is.
    fn body_or_secret(&mut self, bodies: &[(Option<BodyChange>, &[u8])]) {
        let is_known = |finding: &Finding| matches!(finding, Finding::BodyRewritten(_));
        let is_proven = self.findings.iter().any(is_known);
        match self.content_digest {
            ContentDigest::Fits => return self.note(Finding::WrongSecret),
            ContentDigest::Differs => self.note(Finding::BodyChanged),
            ContentDigest::Absent if !is_proven => self.note(Finding::WrongSecretOrBody),
            ContentDigest::Absent => {}
        }
        if is_proven {
            return;
        }
        let by_digest = bodies.iter().find_map(|(how, body)| {
            let is_sent = digest_of(self.headers, body) == ContentDigest::Fits;
            how.filter(|_| is_sent)
        });
        if let Some(how) = by_digest {
            // The digest shows that the body is unchanged, and still no key matches.
            self.note(Finding::BodyRewritten(how));
            return self.note(Finding::WrongSecret);
        }
        if self.body.is_empty() {
            self.note(Finding::BodyConsumed);
        } else if self.body.windows(3).any(|bytes| bytes == b"\xEF\xBF\xBD") {
            self.note(Finding::BodyDecodedLossily);
        } else if rewrite::looks_reserialised(self.body) {
            self.note(Finding::LooksReserialised);
        }
    }
}

/// Whether a name is one of `HTTP_WEBHOOK_ID`, `x-original-webhook-id`, `svix-id`, `x-webhook-id`, `webhook_id`; for
/// the StormCom header, any that ends in `signature` or `signature-256`.
fn is_alias(name: &str, expected: &str) -> bool {
    const NAME_MAX_BYTES: usize = 128;
    if name.len() > NAME_MAX_BYTES {
        return false;
    }
    let name = name.to_ascii_lowercase().replace('_', "-");
    let expected = expected.to_ascii_lowercase();
    if name.ends_with(&expected) {
        return true;
    }
    match expected.strip_prefix("webhook-") {
        Some(kind) => name.strip_prefix("svix-") == Some(kind),
        None => {
            let is_signature = name.ends_with("signature") || name.ends_with("signature-256");
            is_signature && !name.contains("webhook") && !name.starts_with("svix")
        }
    }
}

/// Whether a search for the matching key, body and spelling may explain this failure. Earlier failures of the scheme
/// come before any signature is looked at, so the search would explain what was never checked.
fn is_searched(error: VerifyError) -> bool {
    match step_of(error) {
        Step::Secret | Step::Signature => true,
        Step::SignatureForm => error != VerifyError::TooManySignatures,
        _ => false,
    }
}

/// Compares `content-digest` with this body.
pub(super) fn digest_of<H: Headers + ?Sized>(headers: &H, body: &[u8]) -> ContentDigest {
    let Some(value) = value_of(headers, DIGEST_HEADER) else {
        return ContentDigest::Absent;
    };
    let expected = sha256_base64(body);
    // A dictionary of RFC 8941: it may hold other algorithms too.
    let digest = value
        .split(|byte| *byte == b',')
        .find_map(|member| member.trim_ascii().strip_prefix(b"sha-256=:"));
    match digest.and_then(|digest| digest.strip_suffix(b":")) {
        Some(digest) if expected.matches(digest) => ContentDigest::Fits,
        Some(_) => ContentDigest::Differs,
        None => ContentDigest::Absent,
    }
}

/// Returns a header's value, joined if it was repeated; `None` if it is absent, empty or too long.
fn value_of<H: Headers + ?Sized>(headers: &H, name: &str) -> Option<Vec<u8>> {
    let mut buffer = JoinBuffer::default();
    joined(headers, name, &mut buffer)
        .filter(|value| !value.is_empty())
        .map(<[u8]>::to_vec)
}
