//! What the sink received in one measurement: the count, the duplicates, the sum of ids and the latencies.
//! Decides whether anything is missing or duplicated; ignores speed.

use std::collections::HashSet;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::error::{BenchError, Result};

/// The longest latency of a histogram, in microseconds (ten minutes).
const LATENCY_MAX_US: u64 = 600_000_000;

/// Returns a new histogram of microseconds with three digits.
pub(crate) fn histogram_us() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
        .map_err(|e| BenchError::wrong(format!("the latency histogram's bounds: {e:?}")))
}

/// Percentiles as they are sent between processes, in microseconds.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "count": histogram.len(),
        "p50_us": histogram.value_at_quantile(0.5),
        "p95_us": histogram.value_at_quantile(0.95),
        "p99_us": histogram.value_at_quantile(0.99),
        "p999_us": histogram.value_at_quantile(0.999),
        "max_us": histogram.max(),
    })
}

/// Returns the 128 bits of a ULID in Crockford's base 32; `None` if it isn't one.
pub(crate) fn ulid_value(text: &[u8]) -> Option<u128> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if text.len() != 26 {
        return None;
    }
    text.iter().try_fold(0_u128, |value, byte| {
        let digit = ALPHABET
            .iter()
            .position(|c| *c == byte.to_ascii_uppercase())?;
        Some((value << 5) | u128::try_from(digit).ok()?)
    })
}

/// Returns the event id in an answer or header, after its `evt_`.
pub(crate) fn event_value(text: &[u8]) -> Option<u128> {
    ulid_value(text.strip_prefix(b"evt_")?)
}

/// What the sink received in one measurement.
pub(crate) struct Ledger {
    pairs: HashSet<(u128, u32)>,
    received: u64,
    id_sum: u128,
    verified: u64,
    bad: u64,
    first_bad: Option<String>,
    latency_us: Histogram<u64>,
}

impl Ledger {
    /// Returns an empty ledger.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            pairs: HashSet::new(),
            received: 0,
            id_sum: 0,
            verified: 0,
            bad: 0,
            first_bad: None,
            latency_us: histogram_us()?,
        })
    }

    /// Records a delivery of an event to an endpoint.
    pub(crate) fn enter(&mut self, event: u128, endpoint: u32) {
        self.received += 1;
        if self.pairs.insert((event, endpoint)) {
            self.id_sum = self.id_sum.wrapping_add(event);
        }
    }

    /// Records the time from the producer's start to the receipt.
    pub(crate) fn enter_latency(&mut self, latency_us: u64) {
        self.latency_us.saturating_record(latency_us);
    }

    /// Records a delivery whose recomputed signature was correct.
    pub(crate) fn enter_verified(&mut self) {
        self.verified += 1;
    }

    /// Records a delivery that violates the contract.
    pub(crate) fn enter_bad(&mut self, why: String) {
        self.bad += 1;
        self.first_bad.get_or_insert(why);
    }

    /// Returns the number of requests.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Returns the ledger as the sink reports it.
    pub(crate) fn report(&self) -> Value {
        json!({
            "received": self.received,
            "unique": self.pairs.len(),
            "id_sum": self.id_sum.to_string(),
            "verified": self.verified,
            "bad": self.bad,
            "first_bad": self.first_bad,
            "latency": percentiles(&self.latency_us),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_reads_as_its_128_bits() {
        assert_eq!(ulid_value(b"00000000000000000000000010"), Some(32));
        assert_eq!(ulid_value(b"7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), Some(u128::MAX));
        assert_eq!(ulid_value(b"0000000000000000000000001U"), None);
        assert_eq!(event_value(b"dlv_00000000000000000000000010"), None);
    }

    #[test]
    fn a_doubled_pair_counts_once_in_the_sum_and_twice_in_the_count() {
        let mut ledger = Ledger::new().unwrap();
        ledger.enter(7, 1);
        ledger.enter(7, 2);
        ledger.enter(7, 1);
        let report = ledger.report();
        assert_eq!(report["received"], 3);
        assert_eq!(report["unique"], 2);
        assert_eq!(report["id_sum"], "14");
    }
}
