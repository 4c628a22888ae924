//! Record bytes: bincode behind this one module (docs/adr/0005-bincode.md), preceded by a version byte and a checksum
//! of table, key, version and content. Every version keeps these five bytes.
//!
//! A page that doesn't match its own checksum is still read if its rows can be told apart (`verified`): only here can
//! the damaged ones be found.

use crate::error::StoreError;
use crate::hex::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version and checksum.
pub(crate) const HEAD_BYTES: usize = 5;
/// No decoding uses more memory than this: the largest record is one event of the largest size allowed.
const DECODE_LIMIT_BYTES: usize = 64 << 20;

/// Returns the version in which records of a table are written. All earlier versions are read too.
pub(crate) fn version_of(table: &str) -> u8 {
    match table {
        // 2: with the sums of the other tables. 3: with bulk changes in their own table. 4: with the form of secrets, API
        // keys and the audit log. 5: with purges.
        "meta" => 5,
        // 2: without marks. 3: in a public and a private part, with TLS settings.
        "endpoints" => 3,
        // 2: with the attempts whose request was sent again.
        "deliveries" => 2,
        _ => 1,
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_LIMIT_BYTES>()
}

/// Appends only the content, as bincode writes it.
pub(crate) fn content<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), StoreError> {
    bincode::serde::encode_into_std_write(value, out, config())
        .map(|_| ())
        .map_err(|e| StoreError::damaged("a record to be written", e.to_string()))
}

/// Reads the first value of `bytes` and returns how many bytes it used.
pub(crate) fn read_next<T: DeserializeOwned>(
    table: &str,
    bytes: &[u8],
) -> Result<(T, usize), StoreError> {
    bincode::serde::decode_from_slice(bytes, config())
        .map_err(|e| StoreError::damaged(format!("a row of {table}"), e.to_string()))
}

/// Reads content without a header; every byte must belong to it.
pub(crate) fn read_content<T: DeserializeOwned>(
    table: &str,
    bytes: &[u8],
) -> Result<T, StoreError> {
    let (value, used) = read_next(table, bytes)?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(StoreError::damaged(
            format!("a row of {table}"),
            "it has trailing bytes",
        ))
    }
}

fn check_version(table: &str, found: u8) -> Result<(), StoreError> {
    let known = version_of(table);
    match found {
        0 => Err(StoreError::damaged(
            format!("a row of {table}"),
            "its version is 0",
        )),
        found if found <= known => Ok(()),
        newer => Err(StoreError::Newer {
            what: format!("a row of {table}"),
            found: u32::from(newer),
            known: u32::from(known),
        }),
    }
}

fn checksum(table: &str, key: &[u8], version: u8, content: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.as_bytes());
    hasher.update(key);
    hasher.update(&[version]);
    hasher.update(content);
    hasher.finalize().to_be_bytes()
}

/// Writes version, checksum and the content that `fill` writes.
pub(crate) fn write_with(
    table: &str,
    key: &[u8],
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), StoreError>,
) -> Result<Vec<u8>, StoreError> {
    write_as(version_of(table), table, key, fill)
}

/// The same in an earlier version.
pub(crate) fn write_as(
    version: u8,
    table: &str,
    key: &[u8],
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let mut out = vec![version, 0, 0, 0, 0];
    fill(&mut out)?;
    let content = out.get(HEAD_BYTES..).unwrap_or_default();
    let sum = checksum(table, key, version, content);
    if let Some(place) = out.get_mut(1..HEAD_BYTES) {
        place.copy_from_slice(&sum);
    }
    Ok(out)
}

/// Writes version, checksum and content.
pub fn write<T: Serialize>(table: &str, key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
    write_with(table, key, |out| content(out, value))
}

/// Returns the content of a record after verifying its checksum.
pub(crate) fn content_of<'a>(
    table: &str,
    key: &[u8],
    bytes: &'a [u8],
) -> Result<&'a [u8], StoreError> {
    versioned(table, key, bytes).map(|(_, content)| content)
}

/// Returns version and content of a record after verifying its checksum.
pub(crate) fn versioned<'a>(
    table: &str,
    key: &[u8],
    bytes: &'a [u8],
) -> Result<(u8, &'a [u8]), StoreError> {
    let what = || format!("row {} of {table}", hex(key));
    let (version, rest) = bytes
        .split_first()
        .ok_or_else(|| StoreError::damaged(what(), "it is empty"))?;
    let (sum, content) = rest
        .split_at_checked(4)
        .ok_or_else(|| StoreError::damaged(what(), "it is truncated"))?;
    // First: a flipped bit in the version must not read as another version.
    if sum != checksum(table, key, *version, content) {
        return Err(StoreError::damaged(what(), "its checksum is wrong"));
    }
    check_version(table, *version)?;
    Ok((*version, content))
}

/// Reads the output of [`write()`].
pub fn read<T: DeserializeOwned>(table: &str, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    read_content(table, content_of(table, key, bytes)?)
}

/// Whether an unreadable row of `meta` is nevertheless intact, written before version 1 was settled: with a checksum
/// that left out the version, or with other content.
pub(crate) fn is_draft(row: &[u8]) -> bool {
    const META: (&str, &[u8]) = ("meta", &[0]);
    let Some(([1, sum @ ..], content)) = row.split_first_chunk::<HEAD_BYTES>() else {
        return false;
    };
    let mut first = crc32fast::Hasher::new();
    first.update(META.0.as_bytes());
    first.update(META.1);
    first.update(content);
    *sum == first.finalize().to_be_bytes() || *sum == checksum(META.0, META.1, 1, content)
}
