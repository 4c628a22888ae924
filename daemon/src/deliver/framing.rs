//! Finds the end of an HTTP/1.1 response body. Its bytes pass through unchanged; chunked bodies are decoded.

use super::head::Length;

/// The maximum size of one chunk's line, including extensions, and of all trailers together.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// These bytes are part of the body.
    Data(&'a [u8]),
    /// More input is needed.
    More,
    /// The body has been read to its end.
    End,
    /// The end of the body can't be determined.
    Broken,
}

enum State {
    Bytes(u64),
    Chunk(Chunk),
    UntilClose,
}

/// The position in a chunked body.
#[derive(Clone, Copy)]
enum Chunk {
    /// In the size line, after this many digits.
    Size {
        size: u64,
        digits: usize,
    },
    /// After the digits, up to the end of the line.
    Extension {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// At the line end after the data.
    DataEnd,
    /// In the trailers, and whether the current line has content.
    Trailer {
        empty: bool,
    },
    End,
}

/// Reads one body.
pub(super) struct Framing {
    state: State,
    /// How many bytes of a line, or of the trailers, were skipped.
    line: usize,
}

impl Framing {
    pub(super) fn new(length: Length) -> Self {
        let state = match length {
            Length::Bytes(bytes) => State::Bytes(bytes),
            Length::Chunked => State::Chunk(Chunk::Size { size: 0, digits: 0 }),
            Length::UntilClose => State::UntilClose,
        };
        Self { state, line: 0 }
    }

    /// Whether the end has been read.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Bytes(0) | State::Chunk(Chunk::End))
    }

    /// Takes the next part from the front of `input`.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Part<'a> {
        if self.is_over() {
            return Part::End;
        }
        match &mut self.state {
            _ if input.is_empty() => Part::More,
            State::Bytes(left) => Part::Data(split(input, left)),
            State::UntilClose => {
                let mut left = u64::MAX;
                Part::Data(split(input, &mut left))
            }
            State::Chunk(_) => self.chunked(input),
        }
    }

    fn chunked<'a>(&mut self, input: &mut &'a [u8]) -> Part<'a> {
        loop {
            let State::Chunk(chunk) = &mut self.state else {
                return Part::Broken;
            };
            match chunk {
                Chunk::End => return Part::End,
                Chunk::Data { left } if !input.is_empty() => {
                    let data = split(input, left);
                    if *left == 0 {
                        *chunk = Chunk::DataEnd;
                    }
                    return Part::Data(data);
                }
                _ => {}
            }
            let Some((byte, rest)) = input.split_first() else {
                return Part::More;
            };
            *input = rest;
            self.line += 1;
            let Some(next) = step(*chunk, *byte).filter(|_| self.line <= MAX_LINE_BYTES) else {
                return Part::Broken;
            };
            if matches!(next, Chunk::Data { .. }) {
                self.line = 0;
            }
            *chunk = next;
        }
    }
}

/// Handles one byte outside the data.
fn step(chunk: Chunk, byte: u8) -> Option<Chunk> {
    let after_line = |size: u64| match size {
        0 => Chunk::Trailer { empty: true },
        left => Chunk::Data { left },
    };
    match (chunk, byte) {
        (Chunk::Size { digits: 0, .. }, b';' | b'\r' | b'\n' | b' ' | b'\t') => None,
        (Chunk::Size { size, .. } | Chunk::Extension { size }, b'\n') => Some(after_line(size)),
        (Chunk::Size { size, .. }, b';' | b'\r' | b' ' | b'\t') => Some(Chunk::Extension { size }),
        (Chunk::Size { size, digits }, byte) => {
            let digit = char::from(byte).to_digit(16)?;
            let size = size.checked_mul(16)?.checked_add(u64::from(digit))?;
            let digits = digits + 1;
            Some(Chunk::Size { size, digits })
        }
        (Chunk::Extension { size }, _) => Some(Chunk::Extension { size }),
        (Chunk::DataEnd, b'\r') => Some(Chunk::DataEnd),
        (Chunk::DataEnd, b'\n') => Some(Chunk::Size { size: 0, digits: 0 }),
        (Chunk::Trailer { empty: true }, b'\n') => Some(Chunk::End),
        (Chunk::Trailer { .. }, b'\n') => Some(Chunk::Trailer { empty: true }),
        (Chunk::Trailer { empty }, b'\r') => Some(Chunk::Trailer { empty }),
        (Chunk::Trailer { .. }, _) => Some(Chunk::Trailer { empty: false }),
        (Chunk::DataEnd | Chunk::Data { .. } | Chunk::End, _) => None,
    }
}

/// Splits up to `left` bytes off `input` and subtracts them from `left`.
fn split<'a>(input: &mut &'a [u8], left: &mut u64) -> &'a [u8] {
    let at = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    let (data, rest) = input.split_at(at);
    *input = rest;
    *left -= at as u64;
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the body of `text`, how many bytes belong to it, and the last part. Reads in pieces of every size; the
    /// results must be the same.
    #[track_caller]
    fn read(length: Length, text: &str) -> (String, usize, Part<'static>) {
        let sizes = 1..=text.len().max(1);
        let mut all = sizes.map(|size| read_in(length, text.as_bytes(), size));
        let first = all.next().unwrap();
        assert!(all.all(|other| other == first), "{text:?}");
        first
    }

    fn read_in(length: Length, text: &[u8], size: usize) -> (String, usize, Part<'static>) {
        let mut framing = Framing::new(length);
        let (mut body, mut at) = (Vec::new(), 0);
        let last = loop {
            let piece = &text[at..text.len().min(at + size)];
            let mut input = piece;
            let last = loop {
                match framing.next(&mut input) {
                    Part::Data(data) => body.extend_from_slice(data),
                    Part::More => break Part::More,
                    Part::End => break Part::End,
                    Part::Broken => break Part::Broken,
                }
            };
            at += piece.len() - input.len();
            if last != Part::More || at == text.len() {
                break last;
            }
        };
        let at = if last == Part::Broken { 0 } else { at };
        (String::from_utf8(body).unwrap(), at, last)
    }

    #[track_caller]
    fn assert_chunked(text: &str, body: &str, behind: &str, last: Part<'static>) {
        let read = read(Length::Chunked, text);
        let taken = text.len() - behind.len();
        let taken = if last == Part::Broken { 0 } else { taken };
        assert_eq!(read, (body.to_owned(), taken, last), "{text:?}");
    }

    #[test]
    fn a_body_of_known_length_ends_there() {
        for (length, text, body, last) in [
            (0, "x", "", Part::End),
            (2, "okHTTP/1.1", "ok", Part::End),
            (3, "ok", "ok", Part::More),
        ] {
            let expected = (body.to_owned(), body.len(), last);
            assert_eq!(read(Length::Bytes(length), text), expected);
        }
        let all = ("all".to_owned(), 3, Part::More);
        assert_eq!(read(Length::UntilClose, "all"), all);
    }

    #[test]
    fn chunks_are_taken_apart() {
        for (text, body, behind) in [
            ("0\r\n\r\n", "", ""),
            ("2\r\nok\r\n0\r\n\r\nrest", "ok", "rest"),
            (
                "02;a=\"b\"\r\nok\r\nA\r\n0123456789\r\n0\r\nx: y\r\nz: w\r\n\r\n",
                "ok0123456789",
                "",
            ),
            ("2\nok\n0\n\n", "ok", ""),
            ("2 \r\nok\r\n000\r\n\r\n", "ok", ""),
        ] {
            assert_chunked(text, body, behind, Part::End);
        }
    }

    #[test]
    fn chunks_that_are_cut_go_on() {
        for (text, body) in [
            ("", ""),
            ("2", ""),
            ("2\r\no", "o"),
            ("2\r\nok\r\n0\r\n", "ok"),
        ] {
            assert_chunked(text, body, "", Part::More);
        }
    }

    #[test]
    fn what_is_no_chunk_breaks_the_body() {
        let endless = "x: y\r\n".repeat(2_000);
        for (text, body) in [
            ("zz\r\n", ""),
            ("\r\n", ""),
            ("-1\r\n", ""),
            ("11111111111111111\r\n", ""),
            ("2\r\nokx", "ok"),
            (&*format!("1;{}", "a".repeat(9_000)), ""),
            (&*format!("0\r\n{endless}"), ""),
        ] {
            let read = read_in(Length::Chunked, text.as_bytes(), 512);
            assert_eq!(read, (body.to_owned(), 0, Part::Broken), "{text:.20}");
        }
    }
}
