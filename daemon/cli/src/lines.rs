//! Splits a stream of bytes into lines as chunks arrive; each line is bounded.

use bytes::BytesMut;
use tokio_util::codec::{AnyDelimiterCodec, Decoder};

/// Cuts chunks into lines; an incomplete line waits, up to the bound.
#[derive(Debug)]
pub(crate) struct LineReader {
    codec: AnyDelimiterCodec,
    rest: BytesMut,
    most_bytes: usize,
}

/// A line exceeded the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a line of the response exceeds {0} bytes: check that no other program listens on the socket"
)]
pub(crate) struct LineTooLong(pub(crate) usize);

impl LineReader {
    /// Returns a splitter for lines of at most this many bytes.
    pub(crate) fn new(most_bytes: usize) -> Self {
        let newline = b"\n".to_vec();
        Self {
            codec: AnyDelimiterCodec::new_with_max_length(newline, Vec::new(), most_bytes),
            rest: BytesMut::new(),
            most_bytes,
        }
    }

    /// Calls `each` with every line that this chunk completes, without its newline (`
    /// ` or `\r
    /// `).
    pub(crate) fn feed<E: From<LineTooLong>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.rest.extend_from_slice(chunk);
        let too_long = LineTooLong(self.most_bytes);
        while let Some(line) = self.codec.decode(&mut self.rest).map_err(|_| too_long)? {
            each(without_return(&line))?;
        }
        Ok(())
    }

    /// Returns the bytes after the last newline.
    pub(crate) fn into_rest(self) -> BytesMut {
        self.rest
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str], most_bytes: usize) -> Result<(Vec<String>, String), LineTooLong> {
        let mut lines = LineReader::new(most_bytes);
        let mut found = Vec::new();
        for chunk in chunks {
            lines.feed(chunk.as_bytes(), |line| {
                found.push(String::from_utf8_lossy(line).into_owned());
                Ok::<(), LineTooLong>(())
            })?;
        }
        Ok((
            found,
            String::from_utf8_lossy(&lines.into_rest()).into_owned(),
        ))
    }

    #[test]
    fn lines_are_the_same_however_the_chunks_fall() {
        let text = "one\ntwo\r\n\nthree\nrest";
        let expected = (
            vec![
                "one".to_owned(),
                "two".into(),
                String::new(),
                "three".into(),
            ],
            "rest".to_owned(),
        );
        for size in 1..=text.len() {
            let chunks: Vec<&str> = text
                .as_bytes()
                .chunks(size)
                .map(|chunk| std::str::from_utf8(chunk).unwrap())
                .collect();
            assert_eq!(cut(&chunks, 100).unwrap(), expected, "chunks of {size}");
        }
    }

    #[test]
    fn a_line_over_the_bound_is_an_error_and_one_at_it_is_not() {
        assert!(cut(&["12345\n", "1234", "5\n"], 5).is_ok());
        assert_eq!(cut(&["123456\n"], 5), Err(LineTooLong(5)));
        assert_eq!(cut(&["123", "456"], 5), Err(LineTooLong(5)));
    }
}
