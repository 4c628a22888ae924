//! `stormhook verify`: checks whether a captured delivery has valid signatures, and explains why if not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clap::Args;
use serde_json::json;
use stormhook_verifier::Tolerance;

use crate::failure::Failure;
use crate::input;
use crate::local;
use crate::signature::{Checker, Demand, Header, Judged, Verdict, all_good, findings};
use crate::terminal::{Screen, Tone};

/// Far above any delivery's body (`limits.event_bytes` is 256 KiB by default).
const BODY_BYTES: u64 = 64 * 1024 * 1024;

/// The variable that may hold the secret; no other command reads it.
const SECRET_VARIABLE: &str = "STORMHOOK_SECRET";

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook verify --secret-file secret.txt \\
    --header 'webhook-id: evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A' \\
    --header 'webhook-timestamp: 1767323045' \\
    --header 'webhook-signature: v1,…' \\
    --header 'content-digest: sha-256=:…:' body.json
  STORMHOOK_SECRET=whsec_… stormhook verify --tolerance none \\
    --header 'x-stormcom-signature: sha256=…' < body.json

Pass every received header: all signatures are checked, and content-digest
distinguishes a changed body from a wrong secret. With a public key (whpk_…)
only the v1a signatures in webhook-signature are checked. Status 0 means valid,
1 invalid, also if the secret can't be used.";

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The endpoint's secret or public key, from a file or - for stdin (or in STORMHOOK_SECRET)
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A header as received; repeat it for each header
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = input::header)]
    headers: Vec<(String, String)>,
    /// Allowed difference between webhook-timestamp and now, or none
    #[arg(long, value_name = "DURATION|none", default_value = "5m", value_parser = tolerance)]
    tolerance: ToleranceArg,
    /// The name of the StormCom signature header [default: x-stormcom-signature]
    #[arg(long, value_name = "NAME")]
    signature_header: Option<String>,
    /// The body as received [default: stdin]
    #[arg(value_name = "FILE")]
    body: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct ToleranceArg(Tolerance);

fn tolerance(text: &str) -> Result<ToleranceArg, String> {
    if text == "none" {
        return Ok(ToleranceArg(Tolerance::Unchecked));
    }
    input::duration(text).map(|duration| ToleranceArg(Tolerance::Seconds(duration.as_secs())))
}

pub(crate) fn run(args: &VerifyArgs, screen: &Screen) -> Result<(), Failure> {
    let stdin = Path::new("-");
    let body_file = args.body.as_deref().unwrap_or(stdin);
    if args.secret_file.as_deref() == Some(stdin) && body_file == stdin {
        return Err(Failure::Usage(
            "secret and body can't both come from stdin: pass one of them as a file".to_owned(),
        ));
    }
    let secret = secret_of(
        args.secret_file.as_deref(),
        std::env::var_os(SECRET_VARIABLE),
    )?;
    let checker = Checker::new(&secret, args.tolerance.0, args.signature_header.as_deref());
    let body = input::read_bounded(body_file, BODY_BYTES)?;
    let headers: Vec<Header> = args
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    let verdicts = checker.check(&headers, &body, now_s(), Demand::Carried);
    let valid = all_good(&verdicts);
    let header = args.signature_header.as_deref();
    let likely = if valid {
        Vec::new()
    } else {
        findings(&secret, &headers, &body, now_s(), args.tolerance.0, header)
    };
    if screen.json {
        let mut report = as_json(&verdicts);
        let likely: Vec<_> = likely
            .iter()
            .map(|(code, detail)| json!({"code": code, "detail": detail}))
            .collect();
        if let Some(report) = report.as_object_mut() {
            report.insert("findings".to_owned(), likely.into());
        }
        screen.line(&report.to_string())?;
    } else {
        for verdict in &verdicts {
            let explained = (!likely.is_empty()).then(|| checker.noun());
            screen.line(&in_words(&brief(verdict, explained), screen))?;
        }
        for (code, detail) in &likely {
            screen.line(&format!(
                "{}  {code}: {detail}",
                screen.paint(Tone::Warn, "likely ")
            ))?;
        }
    }
    if valid { Ok(()) } else { Err(Failure::Shown) }
}

/// Returns the secret, from the file or else from the variable. An empty one, or one in quotes, is passed on: the
/// verdict says that it is unusable.
fn secret_of(file: Option<&Path>, variable: Option<OsString>) -> Result<String, Failure> {
    match (file, variable) {
        (Some(file), _) => input::secret_as_it_is(file),
        (None, Some(variable)) => {
            let text = variable.into_string();
            text.map(input::without_line_end).map_err(|_| {
                Failure::Usage(format!(
                    "{SECRET_VARIABLE} is not text: a secret is visible ASCII"
                ))
            })
        }
        (None, None) => Err(Failure::Usage(format!(
            "no secret: pass --secret-file FILE (- for stdin), or set {SECRET_VARIABLE}"
        ))),
    }
}

/// Returns the current time in Unix seconds.
pub(crate) fn now_s() -> u64 {
    local::wall_clock()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Shortens a verdict that is shown with findings about a secret or public key, or to a user who passed the headers by
/// hand.
fn brief(verdict: &Verdict, explained: Option<&str>) -> Verdict {
    let mut verdict = verdict.clone();
    let scheme = verdict.scheme.clone();
    if let Judged::Wrong(wrong) = &mut verdict.judged {
        let missing = match wrong.code {
            "missing_id" => "webhook-id",
            "missing_timestamp" => "webhook-timestamp",
            "missing_signature" => &scheme,
            "no_match" => {
                if let Some(noun) = explained {
                    wrong.detail = format!("no signature matches {noun} and body");
                }
                return verdict;
            }
            _ => return verdict,
        };
        wrong.detail = format!(
            "the header {missing} is missing: pass it with --header; if you didn't receive it, a proxy in front removed it"
        );
    }
    verdict
}

/// Returns the verdicts as JSON.
pub(crate) fn as_json(verdicts: &[Verdict]) -> serde_json::Value {
    let signatures: Vec<_> = verdicts
        .iter()
        .map(|verdict| match &verdict.judged {
            Judged::Valid => json!({"header": verdict.scheme, "valid": true}),
            Judged::NotCheckable(why) => {
                json!({"header": verdict.scheme, "valid": null, "detail": why})
            }
            Judged::Wrong(wrong) => json!({"header": verdict.scheme, "valid": false, "code": wrong.code, "detail": wrong.detail}),
        })
        .collect();
    json!({"valid": all_good(verdicts), "signatures": signatures})
}

/// Words one verdict for people.
pub(crate) fn in_words(verdict: &Verdict, screen: &Screen) -> String {
    let scheme = crate::terminal::plain(&verdict.scheme);
    match &verdict.judged {
        Judged::Valid => format!("{} {scheme}", screen.paint(Tone::Good, "valid  ")),
        Judged::NotCheckable(why) => {
            format!("{} {scheme}: {why}", screen.paint(Tone::Dim, "skipped"))
        }
        Judged::Wrong(wrong) => format!(
            "{} {scheme}: {}: {}",
            screen.paint(Tone::Bad, "invalid"),
            wrong.code,
            wrong.detail
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::signature::tests::{SECRET, signed, signed_with_ed25519};
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn verify(
        body: &[u8],
        signed_body: &[u8],
        at_s: u64,
        tolerance_text: &str,
    ) -> Result<(), Failure> {
        let (secret, body) = (file(SECRET.as_bytes()), file(body));
        let headers = signed(SECRET, signed_body, at_s)
            .into_iter()
            .map(|(name, value)| (name, String::from_utf8(value).unwrap()));
        let args = VerifyArgs {
            secret_file: Some(secret.path().into()),
            headers: headers.collect(),
            tolerance: tolerance(tolerance_text).unwrap(),
            signature_header: None,
            body: Some(body.path().into()),
        };
        run(&args, &Screen::piped())
    }

    #[test]
    fn a_signed_delivery_is_valid_and_a_changed_one_is_not() {
        verify(b"{\"a\":1}", b"{\"a\":1}", now_s(), "5m").unwrap();
        assert_eq!(
            verify(b"{\"a\":2}", b"{\"a\":1}", now_s(), "5m")
                .unwrap_err()
                .status(),
            1
        );
    }

    #[test]
    fn a_public_key_says_valid_and_why_the_other_header_was_left_out() {
        let (headers, key) = signed_with_ed25519(SECRET, b"{}", now_s());
        let (key_file, body) = (file(key.as_bytes()), file(b"{}"));
        let args = |body: &tempfile::NamedTempFile| VerifyArgs {
            secret_file: Some(key_file.path().into()),
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone(), String::from_utf8(value.clone()).unwrap()))
                .collect(),
            tolerance: tolerance("5m").unwrap(),
            signature_header: None,
            body: Some(body.path().into()),
        };
        run(&args(&body), &Screen::piped()).unwrap();
        let changed = run(&args(&file(b"{ }")), &Screen::piped());
        assert_eq!(changed.unwrap_err().status(), 1);
        let checker = Checker::new(&key, Tolerance::default(), None);
        let verdicts = checker.check(&headers, b"{}", now_s(), Demand::Carried);
        let report = as_json(&verdicts);
        assert_eq!(report["valid"], true, "{report}");
        assert_eq!(report["signatures"][0]["valid"], serde_json::Value::Null);
        assert_eq!(report["signatures"][1]["valid"], true);
        let words = in_words(&verdicts[0], &Screen::piped());
        assert!(
            words.starts_with("skipped x-stormcom-signature: not checkable with a public key"),
            "{words}"
        );
    }

    #[test]
    fn a_secret_that_is_none_is_a_no_and_a_missing_one_is_usage() {
        for secret in ["", "\n", "whsec_c2hvcnQ=", "whsec_not base64!"] {
            let (secret, body) = (file(secret.as_bytes()), file(b"{}"));
            for name in [
                "x-stormcom-signature",
                "webhook-signature",
                "content-digest",
            ] {
                let args = VerifyArgs {
                    secret_file: Some(secret.path().into()),
                    headers: vec![(name.into(), "x".into())],
                    tolerance: tolerance("5m").unwrap(),
                    signature_header: None,
                    body: Some(body.path().into()),
                };
                assert_eq!(run(&args, &Screen::piped()).unwrap_err().status(), 1);
            }
        }
        assert_eq!(secret_of(None, None).unwrap_err().status(), 2);
    }

    #[test]
    fn the_file_wins_over_the_variable_and_an_empty_variable_is_an_empty_secret() {
        let file = file(b"from-file\n");
        let variable = || Some(OsString::from("from-variable"));
        assert_eq!(
            secret_of(Some(file.path()), variable()).unwrap(),
            "from-file"
        );
        assert_eq!(secret_of(None, variable()).unwrap(), "from-variable");
        assert_eq!(secret_of(None, Some(OsString::new())).unwrap(), "");
    }

    #[test]
    fn a_missing_header_is_asked_for_by_its_name() {
        let told = |name: &str| {
            let headers = [(name.to_owned(), b"x".to_vec())];
            let checker = Checker::new(SECRET, Tolerance::default(), Some("x-acme"));
            let verdicts = checker.check(&headers, b"{}", 0, Demand::Carried);
            in_words(&brief(&verdicts[0], None), &Screen::piped())
        };
        assert!(told("webhook-signature").contains("webhook-id is missing: pass it with --header"));
        assert!(told("other").contains("x-acme is missing: pass it with --header"));
    }

    #[test]
    fn an_old_delivery_is_valid_only_without_a_check_of_its_time() {
        assert_eq!(
            verify(b"{}", b"{}", now_s() - 3600, "5m")
                .unwrap_err()
                .status(),
            1
        );
        verify(b"{}", b"{}", now_s() - 3600, "none").unwrap();
        verify(b"{}", b"{}", now_s() - 3600, "2h").unwrap();
    }

    #[test]
    fn secret_and_body_from_the_same_stdin_is_a_usage_error() {
        let args = VerifyArgs {
            secret_file: Some("-".into()),
            headers: Vec::new(),
            tolerance: tolerance("5m").unwrap(),
            signature_header: None,
            body: None,
        };
        assert_eq!(run(&args, &Screen::piped()).unwrap_err().status(), 2);
    }
}
