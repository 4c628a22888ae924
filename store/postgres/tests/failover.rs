//! A server that comes back without the last commits, as after a failover to a standby that lacked them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]
#![allow(dead_code, reason = "other tests use more of the fixture")]

mod proxy;
mod support;

use stormhook_store::{NextStep, Op, Status, StoreError};
use support::*;

/// Makes a commit, which finds that the server has lost others.
fn find_out(fixture: &mut Fixture) -> Result<(), StoreError> {
    let lost = fixture.try_apply(vec![Op::Accept(event("org", "a.b"))]);
    match lost {
        Err(StoreError::NotCommitted(_)) => Ok(()),
        Err(error) => Err(error),
        Ok(applied) => panic!("{applied:?}"),
    }
}

#[test]
fn commits_that_a_server_has_lost_are_made_again() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["order.*"]);
    let sent = fixture.order();
    fixture.server_keeps();
    fixture.settle(pair(&sent, &endpoint), NextStep::Success);
    let keyed = fixture.accept(keyed("org", "k"));
    let failed = fixture.order();
    fixture.settle(
        pair(&failed, &endpoint),
        NextStep::RetryAt(fixture.now.plus_ms(60_000)),
    );
    let late = fixture.endpoint("org", &["order.*"]);
    // States that were written, and a day whose partitions were made.
    fixture.pass_ms(2 * DAY_MS);
    let last = fixture.order();
    fixture.lose();

    find_out(&mut fixture).expect("it goes on");

    assert_eq!(fixture.store().cluster().figures().remade, 6);
    for _ in 0..2 {
        let sequences = [&sent, &keyed, &failed, &last]
            .map(|event| fixture.delivery(pair(event, &endpoint)).sequence);
        assert_eq!(sequences, [1, 2, 3, 4]);
        assert_eq!(fixture.status(pair(&sent, &endpoint)), Status::Success);
        assert_eq!(fixture.status(pair(&failed, &endpoint)), Status::Retrying);
        assert_eq!(fixture.delivery(pair(&last, &late)).sequence, 1);
        assert_eq!(fixture.reader().open_count(), 4);
        fixture.expect_whole();
        fixture.reopen();
    }
    // No number of an endpoint is given again.
    let newest = fixture.endpoint("org", &["order.*"]);
    assert!(newest.slot > late.slot);
    let next = fixture.order();
    assert_eq!(fixture.delivery(pair(&next, &endpoint)).sequence, 5);
}

#[test]
fn what_a_daemon_no_longer_has_is_lost_with_the_server_and_it_ends() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    fixture.order();
    fixture.server_keeps();
    let lost = fixture.order();
    // The daemon ends, and its memory with it.
    fixture.lose();
    fixture.reopen();
    let found = fixture.reader().event(lost.id).unwrap();
    assert_eq!(found, None);
    let next = fixture.order();
    assert_eq!(fixture.delivery(pair(&next, &endpoint)).sequence, 2);
    fixture.expect_whole();
}

#[test]
fn a_daemon_whose_shards_are_others_after_a_failover_makes_nothing_again() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    fixture.order();
    fixture.server_keeps();
    fixture.order();
    fixture.lose();
    fixture.sql("UPDATE stormhook.shards SET owner = NULL WHERE shard = 7");
    let ended = find_out(&mut fixture).unwrap_err().to_string();
    assert!(ended.contains("another daemon has taken over"), "{ended}");
}
