//! Reads the lines to send, in a separate thread, since reading a file or stdin blocks. A line without an idempotency
//! key gets one, so that resending it is harmless.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use tokio::sync::mpsc;

use crate::progress;

const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of the connection.
const CHUNKS_AHEAD: usize = 4;
/// No daemon accepts a longer line: the maximum of `limits.event_bytes` is 16 MiB.
const LINE_BYTES: usize = (16 << 20) + 2;

/// One non-blank line.
#[derive(Debug)]
pub(super) struct Line {
    /// Its number in the input, from 1; blank lines count.
    pub(super) number: u64,
    /// The bytes to send, with the newline.
    pub(super) bytes: Bytes,
    /// The key that was added to it.
    pub(super) added: Option<AddedKey>,
}

/// A key that the producer didn't set.
#[derive(Debug)]
pub(super) struct AddedKey {
    pub(super) key: String,
    /// Where its member is in the line.
    at: usize,
    bytes: usize,
}

impl Line {
    fn new(number: u64, text: &[u8], run: u64) -> Self {
        let place = place_for_key(text);
        let Some(at) = place else {
            return Self {
                number,
                bytes: [text, b"\n"].concat().into(),
                added: None,
            };
        };
        let key = format!("cli-{run:016x}-{number}");
        let member = format!(r#""idempotencyKey":"{key}","#);
        let (before, after) = text.split_at(at);
        Self {
            number,
            bytes: [before, member.as_bytes(), after, b"\n"].concat().into(),
            added: Some(AddedKey {
                key,
                at,
                bytes: member.len(),
            }),
        }
    }

    /// Returns the line as the producer wrote it.
    pub(super) fn original(&self) -> Bytes {
        let text = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        match &self.added {
            None => Bytes::copy_from_slice(text),
            Some(added) => {
                let before = text.get(..added.at).unwrap_or_default();
                let after = text.get(added.at + added.bytes..).unwrap_or_default();
                [before, after].concat().into()
            }
        }
    }
}

/// What the reading thread found.
#[derive(Debug)]
pub(super) enum Item {
    Line(Line),
    /// The line with this number is longer than any daemon accepts.
    TooLong(u64),
    /// Reading the input failed.
    Failed(io::Error),
}

/// How much has been read so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    bytes: AtomicU64,
    lines: AtomicU64,
    ended: AtomicBool,
}

impl Counts {
    pub(super) fn so_far(&self) -> progress::Read {
        // First whether it is all: the counts that are read after that are then complete.
        let ended = self.ended.load(Ordering::Acquire);
        progress::Read {
            bytes: self.bytes.load(Ordering::Relaxed),
            lines: self.lines.load(Ordering::Acquire),
            ended,
        }
    }
}

/// Starts reading. The channel ends with the input.
pub(super) fn read(
    mut source: Box<dyn Read + Send>,
    counts: Arc<Counts>,
    run: u64,
) -> mpsc::Receiver<Vec<Item>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    std::thread::spawn(move || {
        let mut cut = Cut::new(run);
        let mut buffer = vec![0_u8; CHUNK_BYTES];
        loop {
            let mut items = Vec::new();
            let more = match source.read(&mut buffer) {
                Ok(0) => {
                    cut.end(&mut items);
                    false
                }
                Ok(read) => {
                    cut.feed(buffer.get(..read).unwrap_or_default(), &mut items);
                    counts.bytes.fetch_add(read as u64, Ordering::Relaxed);
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    items.push(Item::Failed(error));
                    false
                }
            };
            counts.lines.store(cut.found, Ordering::Release);
            counts.ended.store(!more, Ordering::Release);
            let gone = !items.is_empty() && sender.blocking_send(items).is_err();
            if gone || !more {
                break;
            }
        }
    });
    receiver
}

/// Cuts chunks into lines.
struct Cut {
    run: u64,
    number: u64,
    found: u64,
    rest: Vec<u8>,
    /// Whether the current line is too long and is being skipped.
    skipping: bool,
}

impl Cut {
    fn new(run: u64) -> Self {
        Self {
            run,
            number: 0,
            found: 0,
            rest: Vec::new(),
            skipping: false,
        }
    }

    fn feed(&mut self, chunk: &[u8], items: &mut Vec<Item>) {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.skipping || self.rest.len() + text.len() > LINE_BYTES {
                self.skipping = true;
                self.rest = Vec::new();
            } else if ended && self.rest.is_empty() {
                self.line(text, items);
                continue;
            } else {
                self.rest.extend_from_slice(text);
            }
            if ended {
                self.end_line(items);
            }
        }
    }

    /// Ends the input: the last line needs no newline.
    fn end(&mut self, items: &mut Vec<Item>) {
        if self.skipping || !self.rest.is_empty() {
            self.end_line(items);
        }
    }

    fn end_line(&mut self, items: &mut Vec<Item>) {
        if std::mem::take(&mut self.skipping) {
            self.number += 1;
            self.found += 1;
            items.push(Item::TooLong(self.number));
        } else {
            let text = std::mem::take(&mut self.rest);
            self.line(&text, items);
        }
    }

    fn line(&mut self, text: &[u8], items: &mut Vec<Item>) {
        self.number += 1;
        if !text.iter().all(u8::is_ascii_whitespace) {
            self.found += 1;
            items.push(Item::Line(Line::new(self.number, text, self.run)));
        }
    }
}

/// Returns where a key goes in a line: after the brace of an object that has members but no key. The daemon judges
/// anything else unchanged.
fn place_for_key(text: &[u8]) -> Option<usize> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let (mut some, mut keyed) = (false, false);
            while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                some = true;
                keyed |= name == "idempotencyKey";
                map.next_value::<IgnoredAny>()?;
            }
            Ok(some && !keyed)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let wants = json.deserialize_map(Members).ok()?;
    json.end().ok()?;
    let brace = text.iter().position(|byte| *byte == b'{')?;
    wants.then_some(brace + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(u64, Option<String>)> {
        let (mut cut, mut items) = (Cut::new(7), Vec::new());
        for chunk in chunks {
            cut.feed(chunk, &mut items);
        }
        cut.end(&mut items);
        items
            .iter()
            .map(|item| match item {
                Item::Line(line) => (
                    line.number,
                    Some(String::from_utf8_lossy(&line.bytes).into_owned()),
                ),
                Item::TooLong(number) => (*number, None),
                Item::Failed(error) => panic!("{error}"),
            })
            .collect()
    }

    #[test]
    fn lines_are_the_same_however_the_chunks_fall() {
        let text: &[u8] = b"one\n\n \t\r\ntwo\r\nrest";
        let line = |number, text: &str| (number, Some(text.to_owned()));
        let expected = [line(1, "one\n"), line(4, "two\r\n"), line(5, "rest\n")];
        for size in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(cut(&chunks), expected, "chunks of {size}");
        }
    }

    #[test]
    fn a_line_that_no_daemon_takes_is_named_and_not_kept() {
        let long = vec![b'x'; LINE_BYTES / 2 + 1];
        let found = cut(&[b"a\n", &long, &long, b"\nb\n"]);
        let line = |number, text: &str| (number, Some(text.to_owned()));
        assert_eq!(found, [line(1, "a\n"), (2, None), line(3, "b\n")]);
    }

    #[test]
    fn a_key_is_added_where_there_is_none_and_nothing_else_changes() {
        let sent = |text: &str| {
            let line = Line::new(3, text.as_bytes(), 0xab);
            assert_eq!(line.original(), text.as_bytes());
            String::from_utf8(line.bytes.to_vec()).unwrap()
        };
        assert_eq!(
            sent(r#" { "type":"a", "data":{"idempotencyKey":1}}"#),
            " {\"idempotencyKey\":\"cli-00000000000000ab-3\", \"type\":\"a\", \"data\":{\"idempotencyKey\":1}}\n"
        );
        for unchanged in [
            r#"{"type":"a","idempotencyKey":"k"}"#,
            r#"{"idempotency\u004bey":"k"}"#,
            r#"{"idempotencyKey":null}"#,
            "{}",
            "[1]",
            "nonsense",
            r#"{"a":1} {"b":2}"#,
            "\u{feff}{\"a\":1}",
        ] {
            assert_eq!(sent(unchanged), format!("{unchanged}\n"));
        }
    }
}
