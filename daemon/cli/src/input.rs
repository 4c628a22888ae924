//! Turns what people type, and the files they name, into what the API accepts: ids, times, durations, secrets, bounded
//! files.
//!
//! A secret is read from a file or stdin, never from an argument: every process can see arguments.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;
use crate::local;
use stormhook_engine::times::parse_duration;

/// The maximum size of a secret file. A secret has at most 256 bytes, or 64 bytes in base64 with a prefix; this leaves
/// room for a newline.
const SECRET_FILE_BYTES: u64 = 1024;

/// Checks an id, which becomes part of a path: anything else could name another route.
pub(crate) fn id(text: &str) -> Result<String, String> {
    const LONGEST: usize = 128;
    let fits = !text.is_empty() && text.len() <= LONGEST;
    if fits
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        Ok(text.to_owned())
    } else {
        Err(
            "an id is a prefix followed by letters and digits, such as evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A"
                .to_owned(),
        )
    }
}

/// Parses a duration as in the configuration: an integer and `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let explain = || {
        format!(
            "a duration is a whole number followed by ms, s, m, h or d, such as 30s or 24h; got {text:?}"
        )
    };
    parse_duration(text).ok_or_else(explain)
}

/// A point in time: RFC 3339, or a duration before now (`2h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In the form of the API.
    At(String),
    /// This long ago.
    Ago(Duration),
}

/// Parses a [`Moment`].
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Moment::Ago(ago));
    }
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(_) => Ok(Moment::At(text.to_owned())),
        Err(_) => Err(format!(
            "a time is RFC 3339, such as 2026-01-02T03:04:05Z, or how long ago, such as 2h; got {text:?}"
        )),
    }
}

impl Moment {
    /// Returns it in the form of the API.
    pub(crate) fn to_rfc3339(&self, now: SystemTime) -> Result<String, Failure> {
        match self {
            Self::At(text) => Ok(text.clone()),
            Self::Ago(ago) => {
                let at = now.checked_sub(*ago);
                rfc3339(at.ok_or_else(|| Failure::Usage("that is before 1970".to_owned()))?)
            }
        }
    }
}

/// Returns a time in the form of the API.
pub(crate) fn rfc3339(at: SystemTime) -> Result<String, Failure> {
    let text = OffsetDateTime::from(at).format(&Rfc3339);
    text.map_err(|_| Failure::Usage("that is beyond the year 9999".to_owned()))
}

/// Returns both ends of a span of time in the form of the API.
pub(crate) fn span(
    since: Option<&Moment>,
    until: Option<&Moment>,
    now: SystemTime,
) -> Result<(Option<String>, Option<String>), Failure> {
    let text = |moment: Option<&Moment>| moment.map(|moment| moment.to_rfc3339(now)).transpose();
    let (since, until) = (text(since)?, text(until)?);
    let at = |text: &Option<String>| OffsetDateTime::parse(text.as_deref()?, &Rfc3339).ok();
    if at(&since)
        .zip(at(&until))
        .is_some_and(|(since, until)| until < since)
    {
        return Err(Failure::Usage(
            "--until is before --since: swap them, or omit one".to_owned(),
        ));
    }
    Ok((since, until))
}

/// Reads a whole file, or stdin for `-`, up to a maximum size.
pub(crate) fn read_bounded(path: &Path, most_bytes: u64) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(most_bytes + 1)
            .read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(most_bytes + 1).read_to_end(&mut bytes))
    };
    let read = read.map_err(|error| Failure::local(&format!("read {name}"), &error))?;
    if u64::try_from(read).is_ok_and(|read| read <= most_bytes) {
        Ok(bytes)
    } else {
        Err(Failure::Usage(format!(
            "{name} exceeds the maximum of {most_bytes} bytes"
        )))
    }
}

/// Reads the secret in a file, or on stdin for `-`. One in quotes is refused: they would become part of it, and the
/// receiver's copy doesn't have them.
pub(crate) fn secret_in(file: &Path) -> Result<String, Failure> {
    let secret = secret_as_it_is(file)?;
    if local::is_quoted(&secret) {
        return Err(Failure::Usage(format!(
            "the secret in {} is in quotes: remove them",
            file.display()
        )));
    }
    Ok(secret)
}

/// Reads the text of a secret's file unchecked.
pub(crate) fn secret_as_it_is(file: &Path) -> Result<String, Failure> {
    let bytes = read_bounded(file, SECRET_FILE_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::Usage(format!(
            "{} is not text: a secret is visible ASCII",
            file.display()
        ))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Failure::Usage(format!(
            "{} begins with a byte order mark (EF BB BF): save it as UTF-8 without one",
            file.display()
        )));
    }
    Ok(without_line_end(text))
}

/// Removes one newline at the end, which is the editor's and not part of the secret.
pub(crate) fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Parses one header in curl's form, `name: value`.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!("a header has the form 'name: value'; got {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in [
            "",
            "5",
            "s",
            "1.5h",
            "-1s",
            "1 s",
            "99999999999999999999s",
            "9999999999999999d",
            "1w",
            "½h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert_eq!(
            moment("2h").unwrap().to_rfc3339(now).unwrap(),
            "2026-01-02T01:04:05Z"
        );
        assert_eq!(
            moment("2026-01-02T03:04:05+02:00")
                .unwrap()
                .to_rfc3339(now)
                .unwrap(),
            "2026-01-02T03:04:05+02:00"
        );
        assert!(moment("yesterday").is_err());
        assert!(moment("2026-01-02").is_err());
    }

    #[test]
    fn a_secret_file_loses_one_newline_and_nothing_else() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b" a secret with spaces \r\n").unwrap();
        assert_eq!(secret_in(file.path()).unwrap(), " a secret with spaces ");
        for (text, secret) in [("a\n\n", "a\n"), ("a\r", "a\r"), ("\n", ""), ("", "")] {
            assert_eq!(without_line_end(text.to_owned()), secret, "{text:?}");
        }
    }

    #[test]
    fn a_secret_in_quotes_or_after_a_byte_order_mark_is_refused() {
        for text in [
            "\"a secret\"\n",
            "'a secret'",
            "`a secret`",
            "\u{feff}a secret",
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let failure = secret_in(file.path()).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{text}: {failure}");
        }
        for fine in ["a \"secret\"", "\"", "it's"] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(fine.as_bytes()).unwrap();
            assert_eq!(secret_in(file.path()).unwrap(), fine);
        }
    }

    #[test]
    fn a_span_does_not_end_before_it_begins() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        let span = |since: &str, until: &str| {
            let (since, until) = (moment(since).unwrap(), moment(until).unwrap());
            span(Some(&since), Some(&until), now)
        };
        assert!(span("2h", "1h").is_ok());
        assert!(span("1h", "1h").is_ok());
        assert!(matches!(span("1h", "2h"), Err(Failure::Usage(_))));
        let later = "2026-01-02T04:00:00+01:00";
        assert!(matches!(
            span(later, "2026-01-02T02:59:59Z"),
            Err(Failure::Usage(_))
        ));
    }

    #[test]
    fn a_file_over_its_bound_is_refused_and_one_at_it_is_read() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[b'x'; 11]).unwrap();
        assert!(matches!(
            read_bounded(file.path(), 10),
            Err(Failure::Usage(_))
        ));
        assert_eq!(read_bounded(file.path(), 11).unwrap().len(), 11);
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("X-Key:  a:b "), Ok(("X-Key".into(), "a:b".into())));
        assert!(header("no colon").is_err());
        assert!(header(": value").is_err());
    }
}
