//! The lines of an export with secrets, which holds everything that a move needs: written and read here alone.
//!
//! The first line has the version, each other one an item with its key and record in base64, and the last one how many
//! there are of each kind and the SHA-256 of all bytes before it. What is read is complete and unchanged only once
//! [`Reading::next`] has returned `None`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stormhook_store::{Item, StoreError, hex};

/// The version of the lines that are written and read.
const VERSION: u32 = 1;
/// The longest line. The longest item is an event of the largest size that can be configured.
const LINE_BYTES: usize = 48 << 20;

/// Why an export can't be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The export is at fault.
    #[error("{0}. Nothing was imported")]
    Export(String),
    /// The store is at fault, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    object: &'a str,
    version: u32,
    secrets: bool,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    object: &'a str,
    key: &'a str,
    record: &'a str,
}

#[derive(Serialize, Deserialize)]
struct End<'a> {
    object: &'a str,
    counts: BTreeMap<String, u64>,
    sha256: &'a str,
}

/// Only what a line is.
#[derive(Deserialize)]
struct Kind<'a> {
    object: &'a str,
}

const HEAD: &str = "export";
const END: &str = "end";

/// Writes items as lines.
pub(crate) struct Writing<'o> {
    out: &'o mut dyn Write,
    digest: Sha256,
    counts: BTreeMap<String, u64>,
    line: Vec<u8>,
}

impl<'o> Writing<'o> {
    /// Writes the first line.
    pub(crate) fn begin(out: &'o mut dyn Write) -> io::Result<Self> {
        let mut writing = Self {
            out,
            digest: Sha256::new(),
            counts: BTreeMap::new(),
            line: Vec::new(),
        };
        writing.line(&Head {
            object: HEAD,
            version: VERSION,
            secrets: true,
        })?;
        Ok(writing)
    }

    fn line(&mut self, shape: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, shape)?;
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.out.write_all(&self.line)
    }

    /// Writes an item.
    pub(crate) fn item(&mut self, item: &Item) -> io::Result<()> {
        let encoded = item.encode().map_err(io::Error::other)?;
        *self.counts.entry(encoded.kind.to_owned()).or_default() += 1;
        self.line(&Line {
            object: encoded.kind,
            key: &Base64::encode_string(&encoded.key),
            record: &Base64::encode_string(&encoded.record),
        })
    }

    /// Writes the last line. Returns how many items there are of each kind.
    pub(crate) fn end(mut self) -> io::Result<BTreeMap<String, u64>> {
        let digest = hex(&self.digest.clone().finalize());
        let counts = self.counts.clone();
        self.line(&End {
            object: END,
            counts,
            sha256: &digest,
        })?;
        self.out.flush()?;
        Ok(self.counts)
    }
}

/// Reads lines as items.
pub(crate) struct Reading<R> {
    from: R,
    digest: Sha256,
    /// How many items there were of each kind.
    pub(crate) counts: BTreeMap<String, u64>,
    line: Vec<u8>,
    number: u64,
    ended: bool,
}

impl<R: BufRead> Reading<R> {
    /// Reads the first line.
    pub(crate) fn begin(from: R) -> Result<Self, Unfit> {
        let mut reading = Self {
            from,
            digest: Sha256::new(),
            counts: BTreeMap::new(),
            line: Vec::new(),
            number: 0,
            ended: false,
        };
        reading.read_line()?;
        let head: Option<Head<'_>> = serde_json::from_slice(&reading.line).ok();
        match head.filter(|head| head.object == HEAD) {
            Some(Head {
                version: VERSION,
                secrets: true,
                ..
            }) => {}
            Some(head) => {
                return Err(Unfit::Export(format!(
                    "the export has version {}, this stormhook reads version {VERSION}: import it with the version that wrote it",
                    head.version
                )));
            }
            None => {
                let what = "the first line is not that of an export with secrets: write it with `stormhook export --with-secrets`";
                return Err(Unfit::Export(what.to_owned()));
            }
        }
        reading.digest.update(&reading.line);
        Ok(reading)
    }

    /// Reads one line, with its end.
    fn read_line(&mut self) -> Result<(), Unfit> {
        self.line.clear();
        self.number += 1;
        let most = u64::try_from(LINE_BYTES).unwrap_or(u64::MAX);
        let mut bounded = self.from.by_ref().take(most);
        let read = bounded.read_until(b'\n', &mut self.line);
        read.map_err(|error| Unfit::Export(format!("the export can't be read: {error}")))?;
        if self.line.ends_with(b"\n") {
            return Ok(());
        }
        let number = self.number;
        Err(Unfit::Export(if self.line.len() >= LINE_BYTES {
            format!("line {number} has more than {LINE_BYTES} bytes: it is not an export")
        } else {
            format!("the export is incomplete, it ends in line {number}: copy or write it again")
        }))
    }

    fn damaged(&self, detail: &str) -> Unfit {
        let number = self.number;
        Unfit::Export(format!(
            "line {number} is damaged ({detail}): copy or write the export again"
        ))
    }

    /// Returns the next item. `None` at the end of an export that is complete and unchanged.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Unfit> {
        if self.ended {
            return Ok(None);
        }
        self.read_line()?;
        let kind: Result<Kind<'_>, _> = serde_json::from_slice(&self.line);
        match kind {
            Err(error) => Err(self.damaged(&error.to_string())),
            Ok(Kind { object: END }) => self.end().map(|()| None),
            Ok(_) => self.item().map(Some),
        }
    }

    fn item(&mut self) -> Result<Item, Unfit> {
        self.digest.update(&self.line);
        let line: Result<Line<'_>, _> = serde_json::from_slice(&self.line);
        let line = line.map_err(|error| self.damaged(&error.to_string()))?;
        let bytes = |text: &str| Base64::decode_vec(text);
        let (Ok(key), Ok(record)) = (bytes(line.key), bytes(line.record)) else {
            return Err(self.damaged("it is not base64"));
        };
        let item = Item::decode(line.object, &key, &record).map_err(|error| match error {
            StoreError::Damaged { what, detail } => self.damaged(&format!("{what}: {detail}")),
            error => Unfit::Store(error),
        })?;
        *self.counts.entry(item.kind().to_owned()).or_default() += 1;
        Ok(item)
    }

    /// Compares the last line with what was read.
    fn end(&mut self) -> Result<(), Unfit> {
        let end: Result<End<'_>, _> = serde_json::from_slice(&self.line);
        let end = end.map_err(|error| self.damaged(&error.to_string()))?;
        let differs = |what: &str| {
            Unfit::Export(format!(
                "{what} of the last line is not that of the lines before it: the export was changed; copy or write it again"
            ))
        };
        if end.counts != self.counts {
            return Err(differs("the number of items"));
        }
        if end.sha256 != hex(&self.digest.clone().finalize()) {
            return Err(differs("the SHA-256"));
        }
        let rest = self.from.fill_buf();
        match rest.map(<[u8]>::is_empty) {
            Ok(true) => {
                self.ended = true;
                Ok(())
            }
            Ok(false) => Err(Unfit::Export(
                "something follows the last line: it is not one export".to_owned(),
            )),
            Err(error) => Err(Unfit::Export(format!("the export can't be read: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormhook_store::{EventId, Position};

    fn items() -> Vec<Item> {
        let position = Position {
            next_slot: 7,
            ..Position::default()
        };
        let event = stormhook_store::Event {
            id: EventId(5 << 80),
            organization: "org".to_owned(),
            event_type: "a.b".to_owned(),
            timestamp: stormhook_store::Timestamp(1),
            timestamp_text: None,
            idempotency_key: None,
            deliveries: 0,
            data: Some(b"{\"a\" :1}".to_vec()),
        };
        vec![Item::Position(position), Item::Event(event.into())]
    }

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        let mut writing = Writing::begin(&mut out).unwrap();
        for item in items() {
            writing.item(&item).unwrap();
        }
        writing.end().unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Item>, Unfit> {
        let mut reading = Reading::begin(bytes)?;
        let mut items = Vec::new();
        while let Some(item) = reading.next()? {
            items.push(item);
        }
        assert!(reading.next().unwrap().is_none());
        Ok(items)
    }

    #[test]
    fn lines_read_back() {
        let found = read(&written()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{:?}", items()));
    }

    #[test]
    fn no_byte_can_change_and_nothing_can_be_missing() {
        let whole = written();
        for at in 0..whole.len() {
            for bit in [1, 0x20] {
                let mut changed = whole.clone();
                changed[at] ^= bit;
                assert!(read(&changed).is_err(), "byte {at}");
            }
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
        let twice = [whole.clone(), whole.clone()].concat();
        let refused = read(&twice).unwrap_err().to_string();
        assert!(refused.contains("follows the last line"), "{refused}");
        let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        for left_out in 0..lines.len() {
            let mut rest = lines.clone();
            rest.remove(left_out);
            assert!(read(&rest.concat()).is_err(), "line {left_out}");
        }
    }

    #[test]
    fn another_version_and_an_export_without_secrets_are_named() {
        let refused = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        let newer = refused("{\"object\":\"export\",\"version\":2,\"secrets\":true}\n");
        assert!(newer.contains("version 2") && newer.contains("reads version 1"));
        let plain = refused("{\"object\":\"endpoint\",\"id\":\"ep_1\"}\n");
        assert!(plain.contains("--with-secrets"), "{plain}");
        assert!(refused("").contains("incomplete"));
    }
}
