//! What one question reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]
#![allow(dead_code, reason = "the tests of faults use more of the fixture")]

mod proxy;
mod support;

use stormhook_store::DeliveryFilter;
use stormhook_store::query::ROWS_PER_PAGE;
use support::*;

#[test]
fn a_page_of_deliveries_looks_at_a_bounded_number_of_events_without_one() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["rare.*"]);
    let rare = fixture.accept(event("org", "rare.one"));
    for _ in 0..(ROWS_PER_PAGE + 1_000).div_ceil(1_000) {
        fixture.orders(1_000);
    }
    let all = DeliveryFilter::default();
    let first = fixture.reader().deliveries(&all, None, 50).unwrap();
    assert_eq!(first.items.len(), 0);
    assert!(first.next.is_some());
    let found = fixture.all_deliveries(&all, 50);
    let found: Vec<_> = found.iter().map(|d| d.id).collect();
    assert_eq!(found, [pair(&rare, &endpoint)]);
}
