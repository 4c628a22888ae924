//! Fuzz targets of the store: bytes in, and a panic if they are handled wrongly. Only part of the builds of tests and
//! of `fuzz/`.

use crate::api_key::ApiKey;
use crate::audit::AuditEntry;
use crate::bulk::Bulk;
use crate::endpoint::{EndpointState, Revision};
use crate::error::StoreError;
use crate::file::journal::{Generation, JournalRow, Run, Tail};
use crate::file::meta;
use crate::file::pack::{self, Pack};
use crate::file::record;
use crate::file::rows;
use crate::fingerprint::Fingerprint;
use crate::ids::{DeliveryId, EndpointId, EventId, UnixMs};
use crate::purge::Purge;
use crate::query::Cursor;
use crate::sealing::{Key, Keys, Seal};
use crate::stats::{Counters, Window};
use std::sync::Arc;

/// The name of a target and of its seeds, and its function.
pub type Named = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Named; 4] = [
    ("rows", rows),
    ("raw_rows", raw_rows),
    ("packs", packs),
    ("ids", ids),
];

const TABLES: [&str; 17] = [
    "meta",
    "endpoints",
    "states",
    "revisions",
    "deliveries",
    "due",
    "bad",
    "journal",
    "generations",
    "history",
    "keys",
    "counters",
    "windows",
    "bulk",
    "api_keys",
    "audit",
    "purges",
];

/// A row with a valid checksum and any content: a byte that selects the table, the key, the content.
pub fn rows(bytes: &[u8]) {
    let Some((table, key, content)) = parts(bytes) else {
        return;
    };
    let row = record::write_with(table, row_key(table, key), |out| {
        out.extend_from_slice(content);
        Ok(())
    });
    if let Ok(row) = row {
        expect_damage(read(table, key, &row));
    }
}

/// The same with arbitrary first five bytes.
pub fn raw_rows(bytes: &[u8]) {
    if let Some((table, key, row)) = parts(bytes) {
        expect_damage(read(table, key, row));
        expect_damage(Pack::decode(&first(key), row).map(drop));
        expect_damage(Pack::last_of(&first(key), row).map(drop));
    }
}

/// A pack with a valid checksum. If the first byte is odd, the rest is compressed first, so that the events in it are
/// reached.
pub fn packs(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let key = [7; 16];
    let row = if how % 2 == 0 {
        row_of(&key, rest)
    } else {
        let Some(packed) = pack::compressor()
            .ok()
            .and_then(|mut z| z.compress(rest).ok())
        else {
            return;
        };
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX).to_be_bytes();
        row_of(&key, &[&[0xff; 16], &length[..], &packed].concat())
    };
    expect_damage(Pack::last_of(&key, &row).map(drop));
    let pack = match Pack::decode(&key, &row) {
        Ok(pack) => pack,
        refused => return expect_damage(refused.map(drop)),
    };
    let again = Pack::new(pack.events.iter().map(Arc::clone).collect());
    let written = pack::compressor().and_then(|mut zstd| again.encode(EventId(7), &mut zstd));
    let read = written.and_then(|row| Pack::decode(&7_u128.to_be_bytes(), &row));
    assert!(
        read.is_ok_and(|read| read.events == pack.events),
        "a pack that was read reads otherwise when it is written again"
    );
}

/// What callers send back: cursors and ids. A parsed value formats as the same text, except for letter case.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let said = [
        Cursor::parse(text).map(Cursor::to_text),
        EventId::parse(text).map(|id| id.to_string()),
        EndpointId::parse(text).map(|id| id.to_string()),
        DeliveryId::parse(text).map(|id| id.to_string()),
    ];
    for said in said.into_iter().flatten() {
        assert!(
            said.is_ascii() && said.len() == text.len(),
            "{text:?} is said as {said:?}"
        );
        let same = [
            Cursor::parse(&said) == Cursor::parse(text),
            EventId::parse(&said) == EventId::parse(text),
            EndpointId::parse(&said) == EndpointId::parse(text),
            DeliveryId::parse(&said) == DeliveryId::parse(text),
        ];
        assert!(
            !same.contains(&false),
            "{text:?} is read otherwise than {said:?}"
        );
    }
}

fn parts(bytes: &[u8]) -> Option<(&'static str, &[u8; 28], &[u8])> {
    let (table, rest) = bytes.split_first()?;
    let table = TABLES.get(usize::from(*table) % TABLES.len())?;
    let (key, content) = rest.split_first_chunk()?;
    Some((table, key, content))
}

/// Returns as much of the key as the table's keys have.
fn row_key<'k>(table: &str, key: &'k [u8; 28]) -> &'k [u8] {
    let width = match table {
        "meta" => 1,
        "endpoints" | "states" => 4,
        "journal" | "generations" | "purges" => 8,
        "counters" => 9,
        "history" | "bulk" => 12,
        "windows" => 13,
        "api_keys" | "audit" => 16,
        "revisions" | "deliveries" | "bad" => 20,
        "keys" => 24,
        _ => 28,
    };
    key.get(..width).unwrap_or_default()
}

/// The keys of rows: the seeds have some that are encrypted with this one.
fn fuzzed_keys() -> Keys {
    Keys::new(Some(Key::new(&[7; 32])), None)
}

fn first<const N: usize>(key: &[u8; 28]) -> [u8; N] {
    key.first_chunk().copied().unwrap_or([0; N])
}

fn row_of(key: &[u8; 16], content: &[u8]) -> Vec<u8> {
    let row = record::write_with("packs", key, |out| {
        out.extend_from_slice(content);
        Ok(())
    });
    row.unwrap_or_default()
}

/// Reads a row as its table's readers do, and uses the result as they do.
fn read(table: &'static str, key: &[u8; 28], row: &[u8]) -> Result<(), StoreError> {
    let of = row_key(table, key);
    match table {
        "meta" => meta::read_meta(&first(key), row).map(drop),
        "endpoints" => rows::read_endpoint(&first(key), row, &fuzzed_keys()).map(|read| {
            let endpoint = read.endpoint;
            let _ = (endpoint.subscribes_to("a.b"), endpoint.receives());
            let _ = endpoint.live_secrets(UnixMs(0)).count();
            drop(rows::write_endpoint(&endpoint, Seal::Plain));
        }),
        "states" => record::read::<EndpointState>(table, of, row).map(drop),
        "revisions" => record::read::<Revision>(table, of, row).map(drop),
        "deliveries" => rows::read_delivery(&first(key), row).map(|delivery| {
            let _ = (delivery.attempt_shown(), delivery.queue_entry());
            drop(rows::write_delivery(&delivery));
        }),
        "due" => {
            rows::read_due(key, row).map(|(waiting, stamp)| drop(rows::write_due(&waiting, stamp)))
        }
        "bad" => record::read::<()>(table, of, row),
        "journal" => record::read::<JournalRow>(table, of, row).map(|row| Tail::default().add(row)),
        "generations" => record::read::<Generation>(table, of, row).map(|generation| {
            let _ = generation.bloom.may_hold(Fingerprint::of("org", "key"));
        }),
        "history" => record::read::<Run>(table, of, row).map(drop),
        "keys" => record::read::<Vec<(Fingerprint, EventId)>>(table, of, row).map(drop),
        "counters" => record::read::<Counters>(table, of, row)
            .map(|counters| Counters::default().add(&counters)),
        "windows" => record::read::<Window>(table, of, row).map(|window| {
            let mut twice = window.clone();
            twice.merge(&window);
            let _ = (twice.latency.summary(), twice.latency.count());
        }),
        "api_keys" => record::read::<ApiKey>(table, of, row).map(|key| {
            let _ = (key.is_live(UnixMs(0)), key.scopes.iter().count());
        }),
        "audit" => record::read::<AuditEntry>(table, of, row).map(drop),
        "purges" => record::read::<Purge>(table, of, row).map(|purge| {
            let _ = purge.scope.includes(EventId(7));
        }),
        _ => record::read::<Bulk>(table, of, row).map(drop),
    }
}

/// Asserts that bytes are refused only in the allowed ways.
fn expect_damage(read: Result<(), StoreError>) {
    if let Err(error) = read {
        let known = error.is_damage() || matches!(error, StoreError::Newer { .. });
        assert!(known, "bytes that can't be right are said to be {error}");
    }
}

#[cfg(test)]
mod tests;
