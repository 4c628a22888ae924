//! Transactions that the database rolls back in favour of others: a batch is tried again, some times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

#[allow(dead_code, reason = "other tests cut connections")]
mod proxy;
mod support;

use stormhook_store::{Op, StoreError};
use support::*;

/// From now on, so many inserts of events fail with this code. A sequence is not rolled back.
fn fail(fixture: &Fixture, code: &str, times: u32) {
    let schema = &fixture.options.schema;
    fixture.sql(&format!(
        "DROP TRIGGER IF EXISTS conflict ON {schema}.events; \
         DROP SEQUENCE IF EXISTS {schema}.conflicts; \
         CREATE SEQUENCE {schema}.conflicts; \
         CREATE OR REPLACE FUNCTION {schema}.conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF nextval('{schema}.conflicts') <= {times} THEN RAISE EXCEPTION 'by the test' USING ERRCODE = '{code}'; END IF; \
           RETURN NEW; END $$; \
         CREATE TRIGGER conflict BEFORE INSERT ON {schema}.events FOR EACH ROW EXECUTE FUNCTION {schema}.conflict()"
    ));
}

#[test]
fn a_batch_that_conflicts_with_other_transactions_is_tried_again() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    // It makes the day's partitions.
    fixture.order();
    for (code, sequence) in [("40001", 2), ("40P01", 3)] {
        fail(&fixture, code, 4);
        let event = fixture.order();
        assert_eq!(fixture.delivery(pair(&event, &endpoint)).sequence, sequence);
    }
    fixture.expect_whole();
    fixture.reopen();
    assert_eq!(fixture.reader().open_count(), 3);
    fixture.expect_whole();
}

#[test]
fn a_batch_that_conflicts_again_and_again_is_refused_and_nothing_of_it_is_stored() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    fixture.order();
    fail(&fixture, "40001", 5);
    let refused = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    let Err(StoreError::NotCommitted(cause)) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(*cause, StoreError::Conflict(_)), "{cause:?}");
    // Its sequence number is given again.
    let event = fixture.order();
    assert_eq!(fixture.delivery(pair(&event, &endpoint)).sequence, 2);
    fixture.expect_whole();
}

#[test]
fn other_errors_are_not_tried_again() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    fixture.order();
    fail(&fixture, "22000", 1);
    let refused = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    assert!(matches!(refused, Err(StoreError::NotCommitted(_))));
    fixture.order();
    fixture.expect_whole();
}
