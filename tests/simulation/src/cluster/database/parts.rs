//! A table in parts, so that a transaction copies the parts that it changes and no others.

use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A primary key.
pub(crate) trait Key: Ord + Clone {
    /// Rows of which part it is. In order of the keys, except where nothing reads them in order.
    fn part(&self) -> u64;
}

/// Ids of events: those of the same second, more or less.
impl Key for Uuid {
    fn part(&self) -> u64 {
        u64::try_from(self.as_u128() >> 90).unwrap()
    }
}

/// Slot and sequence number.
impl Key for (i32, i64) {
    fn part(&self) -> u64 {
        u64::try_from(self.0).unwrap() << 32 | u64::try_from(self.1 / 64).unwrap()
    }
}

/// Slot, sequence number and event.
impl Key for (i32, i64, Uuid) {
    fn part(&self) -> u64 {
        (self.0, self.1).part()
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Parts<K, V> {
    parts: BTreeMap<u64, Arc<BTreeMap<K, V>>>,
    count: usize,
}

impl<K, V> Default for Parts<K, V> {
    fn default() -> Self {
        Self {
            parts: BTreeMap::new(),
            count: 0,
        }
    }
}

impl<K: Key, V: Clone> Parts<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.parts.get(&key.part())?.get(key)
    }

    /// Returns the rows of the same part.
    pub(crate) fn beside(&self, key: &K) -> impl Iterator<Item = &K> {
        let part = self.parts.get(&key.part());
        part.into_iter().flat_map(|part| part.keys())
    }

    /// Returns the row that was there before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let part = self.parts.entry(key.part()).or_default();
        let before = Arc::make_mut(part).insert(key, value);
        self.count += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let part = self.parts.get_mut(&key.part())?;
        let before = Arc::make_mut(part).remove(key);
        self.count -= usize::from(before.is_some());
        before
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.values().flat_map(|part| part.iter())
    }

    /// Returns the rows in parts that are not those of `other`.
    pub(crate) fn since<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a K, &'a V)> {
        let changed = self.parts.iter().filter(|(number, part)| {
            let same = other.parts.get(number);
            same.is_none_or(|same| !Arc::ptr_eq(same, part))
        });
        changed.flat_map(|(_, part)| part.iter())
    }
}
