//! Detects missing rows: `meta` holds for each table the number of rows and a sum over them, committed with the rows.
//!
//! The sum doesn't depend on the order of the rows: an insert adds to it, a remove subtracts from it, and neither reads
//! anything else. It covers the keys and the checksums of records, which cover their content.

use crate::error::StoreError;
use crate::file::record;
use redb::Table;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::ops::{Deref, RangeBounds};

/// The rows of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    hash: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows = self.rows.wrapping_add(1);
        self.hash = self.hash.wrapping_add(hash(key, value));
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.rows = self.rows.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(hash(key, value));
    }
}

/// Hashes version and checksum of the record, then the key eight bytes at a time (`store/FORMAT.md`).
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |acc, &b| (acc << 8) | u64::from(b));
    let head = value.get(..record::HEAD_BYTES).unwrap_or(value);
    key.chunks(8)
        .fold(mix(number(head)), |acc, part| mix(acc ^ number(part)))
}

/// The finalizer of `SplitMix64`: each input bit changes half of the output bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A table without its sum: for `meta`, which holds the sums, and for copies, which copy sums and rows unchanged.
pub(crate) type Raw<'t, const N: usize> = Table<'t, &'static [u8; N], &'static [u8]>;

/// A table open for writing. Only its own methods change it, and each maintains the sum.
pub(crate) struct Writing<'t, const N: usize> {
    table: Raw<'t, N>,
    sum: Sum,
}

impl<'t, const N: usize> Deref for Writing<'t, N> {
    type Target = Raw<'t, N>;

    fn deref(&self) -> &Raw<'t, N> {
        &self.table
    }
}

impl<'t, const N: usize> Writing<'t, N> {
    pub(crate) fn new(table: Raw<'t, N>, sum: Sum) -> Self {
        Self { table, sum }
    }

    /// Returns the sum of the current rows.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) fn set_sum(&mut self, sum: Sum) {
        self.sum = sum;
    }

    pub(crate) fn insert(&mut self, key: &[u8; N], value: &[u8]) -> Result<(), StoreError> {
        if let Some(before) = self.table.insert(key, value)? {
            self.sum.subtract(key, before.value());
        }
        self.sum.add(key, value);
        Ok(())
    }

    /// Removes a row and returns whether it existed.
    pub(crate) fn remove(&mut self, key: &[u8; N]) -> Result<bool, StoreError> {
        let before = self.table.remove(key)?;
        if let Some(before) = &before {
            self.sum.subtract(key, before.value());
        }
        Ok(before.is_some())
    }

    pub(crate) fn retain(
        &mut self,
        mut keep: impl FnMut(&[u8; N], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let sum = &mut self.sum;
        Ok(self
            .table
            .retain(|key, value| kept(sum, key, value, &mut keep))?)
    }

    pub(crate) fn retain_in<'a, KR, F>(
        &mut self,
        range: impl RangeBounds<KR> + 'a,
        mut keep: F,
    ) -> Result<(), StoreError>
    where
        KR: Borrow<&'a [u8; N]> + 'a,
        F: FnMut(&[u8; N], &[u8]) -> bool,
    {
        let sum = &mut self.sum;
        Ok(self
            .table
            .retain_in(range, |key, value| kept(sum, key, value, &mut keep))?)
    }
}

fn kept<const N: usize>(
    sum: &mut Sum,
    key: &[u8; N],
    value: &[u8],
    keep: &mut impl FnMut(&[u8; N], &[u8]) -> bool,
) -> bool {
    let keep = keep(key, value);
    if !keep {
        sum.subtract(key, value);
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_same_in_any_order_and_another_for_any_other_rows() {
        let rows: [(&[u8], &[u8]); 3] = [
            (b"key 1 of some", b"\x01abcdrest"),
            (b"key 2 of some", b"\x01abcdrest"),
            (b"key 2 of some", b"\x01abceother"),
        ];
        let sum = |of: &[usize]| {
            let mut sum = Sum::default();
            for &at in of {
                sum.add(rows[at].0, rows[at].1);
            }
            sum
        };
        assert_eq!(sum(&[0, 1, 2]), sum(&[2, 0, 1]));
        let others: [&[usize]; 4] = [&[0, 1], &[0, 0, 2], &[0, 1, 1], &[0, 1, 2, 2]];
        for other in others {
            assert_ne!(sum(&[0, 1, 2]), sum(other), "{other:?}");
        }
        let mut less = sum(&[0, 1, 2]);
        less.subtract(rows[1].0, rows[1].1);
        assert_eq!(less, sum(&[0, 2]));
    }
}
