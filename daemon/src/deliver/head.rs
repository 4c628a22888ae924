//! Reads the head of an HTTP/1.1 response as far as an attempt needs it: the status line, the framing of the body,
//! whether the connection persists, and `Retry-After`.
//!
//! The status line decides an attempt, so nothing after it can make a response unreadable. A malformed header line only
//! prevents reuse of the connection, since it may have been one that frames the body.

use std::time::Duration;

/// The maximum size of a head, including interim responses.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How much of a line is kept if it arrives in pieces.
const MAX_LINE_BYTES: usize = 1024;
/// A longer `Retry-After` is neither a number nor a date.
const MAX_RETRY_AFTER_BYTES: usize = 64;
/// How much of a response that is not HTTP is shown.
const SHOWN_BYTES: usize = 24;
/// How much earlier than the receiver announces a connection is closed, so that a request doesn't meet its close.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(250);

/// The length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(u64),
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// The parts of a head that are needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) code: u16,
    pub(super) length: Length,
    /// Whether the connection can carry another request.
    pub(super) persistent: bool,
    /// How long the receiver keeps the connection, if it says so.
    pub(super) kept: Option<Duration>,
    pub(super) retry_after: Option<Vec<u8>>,
}

/// How far a head has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More input is needed.
    More,
    /// To its end.
    Done,
    /// As far as it is read: it exceeds the bound.
    Cut,
    /// There is no status line; says why in plain words.
    NotHttp(String),
}

/// What the header lines have said so far.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    coded: bool,
    close: bool,
    keep_alive: bool,
    kept: Option<Duration>,
    retry_after: Option<Vec<u8>>,
    /// Whether the receiver may have meant something else by some line.
    odd: bool,
}

struct Status {
    code: u16,
    /// Whether it is HTTP/1.1, where connections persist unless either side says otherwise.
    modern: bool,
}

/// Reads a head from bytes as they arrive.
#[derive(Default)]
pub(super) struct Reader {
    status: Option<Status>,
    fields: Fields,
    /// The start of a line that is incomplete.
    partial: Vec<u8>,
    taken: usize,
}

impl Reader {
    /// Whether any byte of a response has arrived.
    pub(super) fn began(&self) -> bool {
        self.taken > 0
    }

    /// Returns the final status once its line has been read.
    pub(super) fn code(&self) -> Option<u16> {
        let status = self.status.as_ref()?;
        (!is_interim(status.code)).then_some(status.code)
    }

    /// Reads bytes up to the end of the head, and returns how many that were.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> (usize, Progress) {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                self.keep(rest);
                self.taken += rest.len();
                used = bytes.len();
                break;
            };
            let line = rest.get(..end).unwrap_or_default();
            used += end + 1;
            self.taken += end + 1;
            let progress = if self.partial.is_empty() {
                self.line(line)
            } else {
                self.keep(line);
                let whole = std::mem::take(&mut self.partial);
                self.line(&whole)
            };
            if progress != Progress::More {
                return (used, progress);
            }
        }
        (used, self.within_bounds())
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_LINE_BYTES.saturating_sub(self.partial.len());
        let kept = piece.get(..room.min(piece.len())).unwrap_or_default();
        self.partial.extend_from_slice(kept);
    }

    fn within_bounds(&mut self) -> Progress {
        if self.status.is_none() && !may_begin_an_answer(&self.partial) {
            return not_http(&self.partial);
        }
        if self.taken <= MAX_HEAD_BYTES {
            return Progress::More;
        }
        // Headers beyond 64 KiB can't turn a success into a failure.
        match self.code() {
            Some(_) => Progress::Cut,
            None => Progress::NotHttp("it sent 64 KiB without a final status line".to_owned()),
        }
    }

    fn line(&mut self, line: &[u8]) -> Progress {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(status) = &self.status else {
            // Some servers send an extra line end after the previous response.
            if line.is_empty() {
                return self.within_bounds();
            }
            return match status_line(line) {
                Some(status) => {
                    self.status = Some(status);
                    Progress::More
                }
                None => not_http(line),
            };
        };
        if !line.is_empty() {
            self.fields.line(line);
            return Progress::More;
        }
        if is_interim(status.code) {
            self.status = None;
            self.fields = Fields::default();
            return Progress::More;
        }
        Progress::Done
    }

    /// Returns the head. Without `done` only the status is reliable, and the connection can't be reused.
    pub(super) fn finish(self, done: bool) -> Option<Head> {
        let code = self.code()?;
        let status = self.status?;
        let fields = self.fields;
        let bodiless = matches!(code, 101 | 204 | 304);
        let length = match fields.length {
            _ if bodiless => Length::Bytes(0),
            _ if fields.chunked => Length::Chunked,
            Some(bytes) if !fields.coded => Length::Bytes(bytes),
            _ => Length::UntilClose,
        };
        // Two framings of one body, or one that its HTTP version doesn't have.
        let disputed = fields.coded && (fields.length.is_some() || !status.modern);
        let open = !fields.close && (status.modern || fields.keep_alive);
        Some(Head {
            code,
            length,
            persistent: done
                && open
                && !fields.odd
                && !disputed
                && length != Length::UntilClose
                && code != 101,
            kept: fields.kept,
            retry_after: fields.retry_after,
        })
    }
}

/// Whether a status is interim. 101 ends HTTP on the connection (RFC 9110, section 15.2.2).
fn is_interim(code: u16) -> bool {
    (100..200).contains(&code) && code != 101
}

/// Parses `HTTP/1.1 200 OK`; the reason may be anything or absent.
fn status_line(line: &[u8]) -> Option<Status> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let at = rest.iter().position(|b| matches!(b, b' ' | b'\t'))?;
    let (version, rest) = rest.split_at(at);
    let modern = match version {
        [b'1', b'.', minor] if minor.is_ascii_digit() => *minor != b'0',
        _ => return None,
    };
    let (digits, rest) = rest.trim_ascii_start().split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || rest.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    (code >= 100).then_some(Status { code, modern })
}

/// Whether a status line may start with these bytes.
fn may_begin_an_answer(bytes: &[u8]) -> bool {
    let common = b"HTTP/".iter().zip(bytes).all(|(a, b)| a == b);
    common || bytes == b"\r"
}

fn not_http(line: &[u8]) -> Progress {
    let shown = line.get(..line.len().min(SHOWN_BYTES)).unwrap_or(line);
    Progress::NotHttp(format!(
        "the answer is not valid HTTP: it begins with \"{}\"",
        shown.escape_ascii()
    ))
}

impl Fields {
    fn line(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            self.odd = true;
            return;
        };
        let (name, value) = line.split_at(colon);
        // White space before the name continues the previous line (RFC 9112, section 5.2); before the colon it is
        // forbidden (section 5.1).
        let bare = name.trim_ascii();
        self.odd |= bare.len() != name.len();
        let continued = name.first().is_some_and(u8::is_ascii_whitespace);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if !continued {
            self.field(bare, value);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // Compare lengths first: most headers are none of these.
        match name.len() {
            10 if is("connection") => {
                self.close |= has_token(value, b"close");
                self.keep_alive |= has_token(value, b"keep-alive");
            }
            10 if is("keep-alive") => self.kept = kept(value),
            11 if is("retry-after") && self.retry_after.is_none() => {
                let fits = value.len() <= MAX_RETRY_AFTER_BYTES;
                self.retry_after = fits.then(|| value.to_vec());
            }
            14 if is("content-length") => {
                let length = one_length(value);
                self.odd |= length.is_none() || self.length.is_some_and(|l| Some(l) != length);
                self.length = length;
            }
            17 if is("transfer-encoding") => {
                self.coded = true;
                let last = value.rsplit(|b| *b == b',').next().unwrap_or_default();
                self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    let mut tokens = value.split(|b| *b == b',');
    tokens.any(|t| t.trim_ascii().eq_ignore_ascii_case(token))
}

/// Parses a length, which may be repeated.
fn one_length(value: &[u8]) -> Option<u64> {
    let number = |text: &[u8]| {
        let text = text.trim_ascii();
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        digits.then(|| std::str::from_utf8(text).ok()?.parse::<u64>().ok())?
    };
    let mut all = value.split(|b| *b == b',').map(number);
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

/// Parses the timeout of `Keep-Alive: timeout=5, max=100` (RFC 2068, section 19.7.1).
fn kept(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    let seconds = text.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("timeout");
        named.then(|| value.trim().trim_matches('"').parse::<u32>().ok())?
    })?;
    let said = Duration::from_secs(u64::from(seconds));
    Some(said.saturating_sub(KEEP_ALIVE_MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads these bytes in one piece and byte by byte; the results must be the same.
    #[track_caller]
    fn read(bytes: &[u8]) -> Result<Head, Progress> {
        let at_once = read_in(bytes, bytes.len().max(1));
        assert_eq!(at_once, read_in(bytes, 1), "byte by byte");
        at_once
    }

    fn read_in(bytes: &[u8], size: usize) -> Result<Head, Progress> {
        let mut reader = Reader::default();
        for piece in bytes.chunks(size) {
            match reader.feed(piece) {
                (_, Progress::More) => {}
                (_, Progress::Done) => return Ok(reader.finish(true).unwrap()),
                (_, Progress::Cut) => return Ok(reader.finish(false).unwrap()),
                (_, other) => return Err(other),
            }
        }
        reader.finish(false).ok_or(Progress::More)
    }

    fn head(code: u16, length: Length, persistent: bool) -> Head {
        Head {
            code,
            length,
            persistent,
            kept: None,
            retry_after: None,
        }
    }

    #[test]
    fn ordinary_heads_are_read() {
        for (text, expected) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                head(200, Length::Bytes(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n",
                head(200, Length::Chunked, true),
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                head(204, Length::Bytes(0), true),
            ),
            (
                "HTTP/1.1 500 No\r\n\r\n",
                head(500, Length::UntilClose, false),
            ),
            (
                "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n",
                head(200, Length::Bytes(0), false),
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
                head(200, Length::Bytes(0), false),
            ),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
                head(200, Length::Bytes(0), true),
            ),
            (
                "HTTP/1.1 100 Continue\r\nconnection: close\r\n\r\nHTTP/1.1 103 E\r\nlink: a\r\n\r\nHTTP/1.1 202 A\r\ncontent-length: 3, 3\r\n\r\n",
                head(202, Length::Bytes(3), true),
            ),
            (
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
                head(101, Length::Bytes(0), false),
            ),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn an_odd_head_keeps_its_status_and_ends_the_connection() {
        for lines in [
            "X-A: one\r\n two\r\n",
            "X-A : one\r\n",
            "no colon here\r\n",
            "content-length: 1\r\n",
            "content-length: x\r\n",
            "content-length: -1\r\n",
            "content-length: 99999999999999999999999\r\n",
            "transfer-encoding: chunked\r\n",
            ": no name\r\n",
            "\u{0}\r\n",
        ] {
            for code in [200, 503] {
                let text = format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n{lines}\r\n");
                let read = read(text.as_bytes()).unwrap();
                assert_eq!(
                    (read.code, read.persistent),
                    (code, lines.starts_with(": ")),
                    "{lines}"
                );
            }
        }
    }

    #[test]
    fn unusual_lines_that_frame_nothing_are_passed_over() {
        let unusual = "HTTP/1.1 200 \u{fc}\nX@Y(Z)/\u{1}: \u{fc}\u{0}\nContent-Length: 0\n\n";
        assert_eq!(
            read(unusual.as_bytes()),
            Ok(head(200, Length::Bytes(0), true))
        );
        let many = format!(
            "HTTP/1.1 200\r\n{}content-length: 0\r\n\r\n",
            "a: b\r\n".repeat(2_000)
        );
        assert_eq!(read(many.as_bytes()), Ok(head(200, Length::Bytes(0), true)));
        let chunked_1_0 =
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(
            read(chunked_1_0.as_bytes()),
            Ok(head(200, Length::Chunked, false))
        );
    }

    #[test]
    fn a_head_that_is_cut_or_endless_has_its_status() {
        let cut = "HTTP/1.1 200 OK\r\nx: y";
        assert_eq!(
            read(cut.as_bytes()),
            Ok(head(200, Length::UntilClose, false))
        );
        for line in ["a: b\r\n".to_owned(), "b".repeat(100_000)] {
            let endless = format!(
                "HTTP/1.1 429 X\r\nretry-after: 7\r\n{}",
                line.repeat(200_000 / line.len())
            );
            let read = read_in(endless.as_bytes(), 4_096).unwrap();
            assert_eq!((read.code, read.persistent), (429, false));
            assert_eq!(read.retry_after.as_deref(), Some(&b"7"[..]));
        }
    }

    #[test]
    fn status_lines_may_lack_a_reason_and_nothing_else() {
        for (line, code) in [
            ("HTTP/1.1 200\r\n\r\n", 200),
            ("\r\n\r\nHTTP/1.1 201 \r\n\r\n", 201),
            ("HTTP/1.1  202\tAccepted\r\n\r\n", 202),
            ("HTTP/1.1 999 X\n\n", 999),
        ] {
            assert_eq!(read(line.as_bytes()).unwrap().code, code, "{line}");
        }
        for line in [
            "SSH-2.0-OpenSSH_9.9\r\n",
            "HTTP/1.1 99999 X\r\n",
            "HTTP/1.1 99 X\r\n",
            "HTTP/1.1 099 X\r\n",
            "HTTP/1.1\r\n",
            "HTTP/2.0 200 OK\r\n",
            "http/1.1 200 OK\r\n",
            "\u{15}\u{3}\u{1}\u{0}",
            "\n200 OK\n",
        ] {
            let Err(Progress::NotHttp(why)) = read_in(line.as_bytes(), 1) else {
                panic!("{line:?}");
            };
            assert!(why.contains("is not valid HTTP"), "{why}");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK"), Err(Progress::More), "no line yet");
    }

    #[test]
    fn endless_interim_answers_are_no_answer() {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(2_000);
        let Err(Progress::NotHttp(why)) = read_in(hints.as_bytes(), 4_096) else {
            panic!();
        };
        assert!(why.contains("without a final status"), "{why}");
    }

    #[test]
    fn what_a_partner_says_of_time_is_read_or_as_if_absent() {
        for (line, expected) in [
            ("Keep-Alive: max=5, timeout=2", Some(1_750)),
            ("keep-alive: timeout=\"1\"", Some(750)),
            ("keep-alive: timeout=0", Some(0)),
            ("keep-alive: timeout=x", None),
            ("keep-alive: \u{fc}", None),
        ] {
            let text = format!("HTTP/1.1 204 N\r\n{line}\r\n\r\n");
            let kept = read(text.as_bytes()).unwrap().kept;
            assert_eq!(kept, expected.map(Duration::from_millis), "{line}");
        }
        for (value, expected) in [
            ("120", Some("120")),
            ("  soon\t", Some("soon")),
            (&*"9".repeat(65), None),
        ] {
            let text = format!("HTTP/1.1 503 N\r\nRetry-After: {value}\r\n\r\n");
            let said = read(text.as_bytes()).unwrap().retry_after;
            assert_eq!(said.as_deref(), expected.map(str::as_bytes), "{value}");
        }
    }
}
