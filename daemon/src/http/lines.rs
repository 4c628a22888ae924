//! Splits a stream of bytes into lines. A line that is too long is skipped without being kept.

use crate::http::problem::Problem;
use crate::http::request;
use bytes::{Buf, Bytes, BytesMut};

/// See the module.
#[derive(Default)]
pub(in crate::http) struct LineReader {
    pub(in crate::http) buffer: BytesMut,
    /// How much of the buffer is known to contain no line end.
    searched: usize,
    /// The number of lines so far, including blank ones.
    pub(in crate::http) count: u64,
    /// Whether the current line is too long and is being skipped.
    skipping: bool,
}

impl LineReader {
    /// Returns the next line that is not blank, with its number; `Err` if it is too long. With `last`, the remaining
    /// bytes are a line.
    pub(in crate::http) fn next(
        &mut self,
        most: usize,
        last: bool,
    ) -> Option<(u64, Result<Bytes, Problem>)> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let found = unsearched.iter().position(|b| *b == b'\n');
            let line = match found {
                Some(at) => {
                    let line = self.buffer.split_to(self.searched + at).freeze();
                    self.buffer.advance(1);
                    line
                }
                None if last && (!self.buffer.is_empty() || self.skipping) => {
                    self.buffer.split().freeze()
                }
                None => {
                    self.searched = self.buffer.len();
                    // A line that exceeds the bound by one byte may fit: that byte may be the first of its line end.
                    if self.skipping || self.searched > most + 1 {
                        self.skipping = true;
                        self.buffer.clear();
                        self.searched = 0;
                    }
                    return None;
                }
            };
            self.searched = 0;
            self.count += 1;
            let line = line
                .strip_suffix(b"\r")
                .map_or(line.clone(), |l| line.slice_ref(l));
            if std::mem::take(&mut self.skipping) || line.len() > most {
                return Some((self.count, Err(request::too_large(most))));
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some((self.count, Ok(line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parts: &[&str], most: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = LineReader::default();
        let mut found = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            lines.buffer.extend_from_slice(part.as_bytes());
            let last = at + 1 == parts.len();
            while let Some((number, line)) = lines.next(most, last) {
                found.push((
                    number,
                    line.ok().map(|l| String::from_utf8(l.to_vec()).unwrap()),
                ));
            }
        }
        found
    }

    #[test]
    fn blank_lines_count_and_the_last_needs_no_end() {
        let line = |n, text: &str| (n, Some(text.to_owned()));
        assert_eq!(
            all(&["a\n\n \r\nb", "b\r\nc"], 10),
            [line(1, "a"), line(4, "bb"), line(5, "c")]
        );
        assert_eq!(all(&["a\n"], 10), [line(1, "a")]);
    }

    #[test]
    fn a_line_of_the_most_bytes_is_taken_however_its_end_is_torn() {
        for parts in [["0123456789", "\r\n"], ["0123456789\r", "\n"]] {
            assert_eq!(all(&parts, 10), [(1, Some("0123456789".to_owned()))]);
        }
        assert_eq!(all(&["0123456789x", "\n"], 10), [(1, None)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_one_read() {
        let long = "x".repeat(50);
        let parts = [long.as_str(), long.as_str(), "\nok\n", long.as_str()];
        assert_eq!(
            all(&parts, 10),
            [(1, None), (2, Some("ok".to_owned())), (3, None)]
        );
    }
}
