//! The sums over the answers of one load: how many events were accepted, which ones, and how long each answer
//! took.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::error::{BenchError, Result};
use crate::ledger::{event_value, histogram_us};

/// A slice of time, for which the slowest answer is reported.
pub(super) const SLICE_NS: u64 = 100_000_000;

/// The answers so far.
pub(super) struct Tally {
    pub(super) accepted: u64,
    pub(super) id_sum: u128,
    pub(super) busy: u64,
    pub(super) answer_us: Histogram<u64>,
    pub(super) late_us: Histogram<u64>,
    /// The slowest answer by the slice of the monotonic clock in which it arrived.
    pub(super) worst_us: BTreeMap<u64, u64>,
}

impl Tally {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            accepted: 0,
            id_sum: 0,
            busy: 0,
            answer_us: histogram_us()?,
            late_us: histogram_us()?,
            worst_us: BTreeMap::new(),
        })
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.id_sum = self.id_sum.wrapping_add(other.id_sum);
        self.busy += other.busy;
        // All histograms here have the same bounds, so adding can't fail.
        let _ = self.answer_us.add(&other.answer_us);
        let _ = self.late_us.add(&other.late_us);
        for (slice, worst_us) in &other.worst_us {
            let worst = self.worst_us.entry(*slice).or_default();
            *worst = (*worst).max(*worst_us);
        }
    }

    /// Records the time that an answer took.
    pub(super) fn answered(&mut self, started_ns: u64, now_ns: u64) {
        let took_us = now_ns.saturating_sub(started_ns) / 1_000;
        self.answer_us.saturating_record(took_us);
        let worst = self.worst_us.entry(now_ns / SLICE_NS).or_default();
        *worst = (*worst).max(took_us);
    }

    /// Records one accepted event by the id in its answer.
    pub(super) fn accept(&mut self, answer: &[u8]) -> Result<()> {
        let event = id_in(answer).ok_or_else(|| {
            let text = String::from_utf8_lossy(answer);
            BenchError::wrong(format!(
                "expected an accepted event with its id, got {text}"
            ))
        })?;
        self.accepted += 1;
        self.id_sum = self.id_sum.wrapping_add(event);
        Ok(())
    }
}

/// Returns the event id in an answer, without parsing the JSON.
fn id_in(answer: &[u8]) -> Option<u128> {
    const FIELD: &[u8] = b"\"id\":\"";
    let start = answer.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    event_value(answer.get(start..start + 30)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_id_is_found_without_parsing_it() {
        let answer = br#"{"line":1,"status":"accepted","id":"evt_00000000000000000000000010"}"#;
        assert_eq!(id_in(answer), Some(32));
        assert_eq!(
            id_in(br#"{"line":1,"status":"rejected","problem":{}}"#),
            None
        );
        assert_eq!(id_in(br#"{"id":"evt_0000"#), None);
    }
}
