//! The lazily written data: each commit writes one small journal row, and from time to time the journal is folded into
//! a generation.
//!
//! As rows of their own, endpoint states, counters, endpoint history and idempotency keys would each touch one leaf per
//! endpoint or key. Instead they are current in memory, durable in the journal, and moved to their tables many commits
//! at a time. [`Options::fold_items`] and [`Options::fold_commits`] bound the journal in memory.

use crate::endpoint::EndpointState;
use crate::fingerprint::Fingerprint;
use crate::ids::{EventId, Slot, UnixMs};
use crate::options::Options;
use crate::stats::{Counters, Level};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What one commit changed in the lazily written tables. Values are absolute, so reading a row twice is harmless.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct JournalRow {
    /// Deliveries created, in order of sequence within each endpoint.
    pub(crate) created: Vec<(Slot, u64, EventId)>,
    pub(crate) keys: Vec<(Fingerprint, EventId)>,
    pub(crate) states: Vec<(Slot, EndpointState)>,
    pub(crate) counters: Vec<(Level, UnixMs, Counters)>,
}

/// The deliveries of one endpoint in a journal or a generation: consecutive sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) first_sequence: u64,
    pub(crate) events: Vec<EventId>,
}

impl Run {
    /// Returns the sequence number after its last one.
    pub(crate) fn end(&self) -> u64 {
        let count = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        self.first_sequence.saturating_add(count)
    }
}

/// The journal since the last fold, in memory.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    pub(crate) commits: u64,
    pub(crate) created: usize,
    pub(crate) runs: HashMap<Slot, Run>,
    pub(crate) keys: HashMap<Fingerprint, EventId>,
    pub(crate) states: HashMap<Slot, EndpointState>,
    pub(crate) counters: BTreeMap<(Level, UnixMs), Counters>,
}

impl Tail {
    /// Adds the changes of one commit.
    pub(crate) fn add(&mut self, row: JournalRow) {
        self.commits += 1;
        self.created += row.created.len();
        for (slot, sequence, event) in row.created {
            let run = self.runs.entry(slot).or_insert_with(|| Run {
                first_sequence: sequence,
                events: Vec::new(),
            });
            run.events.push(event);
        }
        self.keys.extend(row.keys);
        self.states.extend(row.states);
        for (level, start, counters) in row.counters {
            self.counters.insert((level, start), counters);
        }
    }

    pub(crate) fn wants_folding(&self, options: &Options) -> bool {
        let most = options.fold_items;
        self.created >= most || self.keys.len() >= most || self.commits >= options.fold_commits
    }
}

/// A folded journal: its rows of `history` and `keys` carry its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Generation {
    #[serde(skip)]
    pub(crate) number: u64,
    /// The last event when it was folded, or the last endpoint that was created with a key, if that is later: once that
    /// is past retention, so is the whole generation.
    pub(crate) last_event: EventId,
    pub(crate) deliveries: u64,
    pub(crate) keys: u64,
    pub(crate) bloom: Bloom,
}

/// A Bloom filter of a generation's fingerprints: ten bits per key, seven probes, 1 % false positives.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bloom {
    words: Vec<u64>,
}

impl Bloom {
    const BITS_PER_KEY: usize = 10;
    const PROBES: u32 = 7;

    pub(crate) fn of<'a>(keys: impl ExactSizeIterator<Item = &'a Fingerprint>) -> Self {
        let words = (keys.len() * Self::BITS_PER_KEY).div_ceil(64);
        let mut bloom = Self {
            words: vec![0; words],
        };
        for key in keys {
            for (word, bit) in bloom.places(*key) {
                if let Some(word) = bloom.words.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        bloom
    }

    pub(crate) fn may_hold(&self, key: Fingerprint) -> bool {
        !self.words.is_empty()
            && self
                .places(key)
                .all(|(word, bit)| self.words.get(word).is_some_and(|w| w & bit != 0))
    }

    /// The fingerprint is already uniform: two halves of it yield all the hashes (Kirsch and Mitzenmacher, 2006).
    fn places(&self, key: Fingerprint) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = u128::from(u64::try_from(self.words.len()).unwrap_or(1)) * 64;
        let (a, b) = (key.0 >> 64, (key.0 & u128::from(u64::MAX)) | 1);
        (0..Self::PROBES).map(move |i| {
            let place = (a + b * u128::from(i)) % bits.max(1);
            (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bloom_filter_never_denies_what_it_holds_and_seldom_claims_what_it_does_not() {
        let key = |n: u32| Fingerprint::of("org", &n.to_string());
        let held: Vec<_> = (0..10_000).map(key).collect();
        let bloom = Bloom::of(held.iter());
        assert!(held.iter().all(|k| bloom.may_hold(*k)));
        let wrong = (10_000..20_000).filter(|n| bloom.may_hold(key(*n))).count();
        assert!(wrong < 300, "{wrong} of 10,000");
        assert!(!Bloom::default().may_hold(key(1)));
    }
}
