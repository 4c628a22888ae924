//! What happens to a commit when the server, the connection or the daemon's right to commit goes away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

mod proxy;
mod support;

use proxy::{Cut, Proxy};
use std::time::Duration;
use stormhook_store::{NextStep, Op, StoreError};
use support::*;

fn is_taken_over(error: &StoreError) -> bool {
    error.to_string().contains("another daemon has taken over")
}

#[test]
fn a_daemon_whose_lane_was_taken_over_commits_nothing_more() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let mut second = fixture.second();
    let first = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    assert!(first.is_err_and(|e| is_taken_over(&e)));
    let made = second.order();
    assert_eq!(second.delivery(pair(&made, &endpoint)).sequence, 1);
    let again = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    assert!(again.is_err_and(|e| is_taken_over(&e)));
    second.expect_whole();
}

#[test]
fn what_was_committed_is_there_after_a_crash_of_the_server() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let (sent, waits) = (fixture.order(), fixture.order());
    fixture.settle(pair(&sent, &endpoint), NextStep::Success);
    fixture.crash();
    // The commit that finds the connection gone connects again, and was not made.
    let lost = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    assert!(matches!(lost, Err(StoreError::NotCommitted(_))), "{lost:?}");
    let third = fixture.order();
    let sequence = |event| fixture.delivery(pair(event, &endpoint)).sequence;
    assert_eq!([&sent, &waits, &third].map(|e| sequence(e)), [1, 2, 3]);
    assert_eq!(fixture.reader().open_count(), 2);
    fixture.expect_whole();
    fixture.reopen();
    assert_eq!(fixture.reader().open_count(), 2);
    assert_eq!(fixture.reader().state(endpoint.slot).last_sequence, 3);
    fixture.expect_whole();
}

/// A commit that the server made, though its answer was cut.
fn found_to_have_happened(cut: Cut) {
    let mut fixture = Fixture::behind(Proxy::start);
    let endpoint = fixture.endpoint("org", &["*"]);
    // It makes the day's partitions, which has a commit of its own.
    fixture.order();
    fixture.proxy().cut(cut);
    let applied = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    let event = accepted(applied.expect("it happened").done.pop().unwrap());
    assert!(fixture.proxy().has_cut());
    assert_eq!(fixture.delivery(pair(&event, &endpoint)).sequence, 2);
    assert_eq!(fixture.orders(2).len(), 2);
    fixture.expect_whole();
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_to_have_happened() {
    found_to_have_happened(Cut::AfterCommit);
}

#[test]
fn a_commit_of_a_server_that_is_shut_down_before_it_answers_is_found_to_have_happened() {
    found_to_have_happened(Cut::ShutDown);
}

#[test]
fn a_commit_that_never_reached_the_server_is_found_not_to_have_happened() {
    let mut fixture = Fixture::behind(Proxy::start);
    let endpoint = fixture.endpoint("org", &["*"]);
    // It makes the day's partitions, which has a commit of its own.
    fixture.order();
    fixture.proxy().cut(Cut::BeforeCommit);
    let lost = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
    assert!(matches!(lost, Err(StoreError::NotCommitted(_))), "{lost:?}");
    assert!(fixture.proxy().has_cut());
    // Its sequence number is given again.
    let event = fixture.order();
    assert_eq!(fixture.delivery(pair(&event, &endpoint)).sequence, 2);
    fixture.expect_whole();
}

#[test]
fn while_the_server_is_away_commits_are_in_doubt_and_afterwards_they_go_on() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    fixture.order();
    fixture.stop();
    for _ in 0..2 {
        let lost = fixture.try_apply(vec![Op::Accept(event("org", "order.created"))]);
        assert!(matches!(lost, Err(StoreError::InDoubt(_))), "{lost:?}");
        assert!(fixture.resolve().is_err());
    }
    fixture.start_again();
    assert!(fixture.resolve().expect("the server is back").is_none());
    fixture.order();
    assert_eq!(fixture.reader().open_count(), 2);
    fixture.expect_whole();
}

/// A daemon that is paused or cut off while it sends, so that the server waits for the rest with the lane locked.
#[test]
fn a_commit_whose_end_never_comes_is_given_up_when_the_lease_ends() {
    let mut fixture = Fixture::behind(Proxy::start);
    fixture.endpoint("org", &["*"]);
    // It makes the day's partitions, which has a commit of its own.
    fixture.order();
    fixture.proxy().cut(Cut::Hang);
    let runtime = fixture.runtime.clone();
    runtime.block_on(async {
        let (now, op) = (fixture.now, Op::Accept(event("org", "order.created")));
        let mut store = fixture.take();
        let tried = store.apply(vec![op], now, 1);
        let hangs = async {
            while !fixture.proxy().has_cut() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            tried = tried => panic!("{tried:?}"),
            () = hangs => {}
        }
    });
    // As a daemon does that takes over. It would wait for as long as the server keeps the connection.
    let taking_over =
        "SET statement_timeout = '20s'; UPDATE stormhook.lanes SET incarnation = incarnation + 1";
    fixture.sql(taking_over);
}
