//! Shards that move from one daemon to another.

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

use stormhook_postgres::cluster::Shard;
use stormhook_store::{Done, Op, Refusal};
use support::*;

/// Two organizations of different shards.
const ORGANIZATIONS: [&str; 2] = ["org", "other"];

fn shards() -> [u8; 2] {
    let [first, second] = ORGANIZATIONS.map(|organization| Shard::of(organization).0);
    assert_ne!(first, second);
    [first, second]
}

#[test]
fn the_shard_of_an_organization_is_the_same_in_the_database() {
    let fixture = Fixture::new();
    for number in 0..500 {
        let organization = format!("org-{number}_Ü");
        let shard = Shard::of(&organization).0;
        fixture.sql(&format!(
            "SELECT 1 / (stormhook.shard_of('{organization}') = {shard})::int"
        ));
    }
}

/// The daemon on the next seat has the shard of the second organization, as soon as it starts.
fn leave_the_second(first: &mut Fixture) {
    let [_, second] = shards();
    first.sql(&format!(
        "UPDATE stormhook.shards SET owner = 1, adopted = false WHERE shard = {second}"
    ));
    first.reopen();
}

#[test]
fn a_daemon_refuses_what_another_one_decides_about() {
    let mut first = Fixture::new();
    leave_the_second(&mut first);
    let mut other = first.other(1);
    for (fixture, held) in [(&mut first, 0), (&mut other, 1)] {
        for (at, organization) in ORGANIZATIONS.iter().enumerate() {
            let ops = vec![Op::Accept(event(organization, "order.created"))];
            let done = fixture.try_apply(ops).unwrap().done.pop().unwrap();
            if at == held {
                accepted(done);
            } else {
                assert!(
                    matches!(done, Done::Accept(Err(Refusal::NotHeld))),
                    "{done:?}"
                );
            }
        }
    }
}

/// A daemon claims a shard and ends before it has read it, at a time when it has committed events of its own. The
/// former owner's last numbers are in the events alone.
#[test]
fn numbers_that_only_events_show_survive_an_owner_that_never_read_them() {
    let mut first = Fixture::new();
    let endpoint = first.endpoint(ORGANIZATIONS[0], &["*"]);
    leave_the_second(&mut first);
    let numbers: Vec<u64> = (0..3)
        .map(|_| {
            let made = first.accept(event(ORGANIZATIONS[0], "order.created"));
            first.delivery(pair(&made, &endpoint)).sequence
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    let mut other = first.other(1);
    other.now = other.now.plus_ms(60_000);
    // The second writes all states of its own, after the events of the first.
    for _ in 0..2 {
        other.accept(event(ORGANIZATIONS[1], "order.created"));
        other.now = other.now.plus_ms(60_000);
    }
    other.sql(
        "UPDATE stormhook.seats SET fenced = true WHERE seat = 0;
         UPDATE stormhook.lanes SET incarnation = incarnation + 1 WHERE lane = 0;
         UPDATE stormhook.shards SET owner = 1, adopted = false WHERE owner = 0",
    );
    other.reopen();
    let made = other.accept(event(ORGANIZATIONS[0], "order.created"));
    assert_eq!(other.delivery(pair(&made, &endpoint)).sequence, 4);
    assert_eq!(other.reader().open_count(), 4);
    other.expect_whole();
}

/// A daemon starts again while attempts of a former owner may still be on the wire, so it reads these shards later.
#[test]
fn numbers_survive_a_start_that_reads_a_shard_later_than_others() {
    let mut first = Fixture::new();
    let endpoint = first.endpoint(ORGANIZATIONS[0], &["*"]);
    for _ in 0..3 {
        first.accept(event(ORGANIZATIONS[0], "order.created"));
    }
    let [rests, _] = shards();
    let until = |until: &str| {
        format!("UPDATE stormhook.shards SET rests_until = {until} WHERE shard = {rests}")
    };
    first.sql(&until("now() + interval '1 hour'"));
    first.reopen();
    for _ in 0..2 {
        first.now = first.now.plus_ms(60_000);
        first.accept(event(ORGANIZATIONS[1], "order.created"));
    }
    first.sql(&until("now()"));
    first.reopen();
    let made = first.accept(event(ORGANIZATIONS[0], "order.created"));
    assert_eq!(first.delivery(pair(&made, &endpoint)).sequence, 4);
    first.expect_whole();
}

/// What a former owner sent may still be on the wire when the next one gives its shards on.
#[test]
fn a_shard_that_is_given_on_goes_on_resting() {
    let mut first = Fixture::new();
    let [rests, _] = shards();
    first.sql(&format!(
        "UPDATE stormhook.shards SET rests_until = now() + interval '1 hour' WHERE shard = {rests}"
    ));
    first.stop_daemon();
    first.sql(&format!(
        "SELECT 1 / (owner IS NULL AND rests_until > now())::int FROM stormhook.shards WHERE shard = {rests}"
    ));
}

/// Each daemon makes the partitions of a day with its first event of it.
#[test]
fn daemons_that_need_a_new_day_at_the_same_time_all_get_it() {
    let mut first = Fixture::new();
    leave_the_second(&mut first);
    let mut other = first.other(1);
    for day in 0..10 {
        let both = [&mut first, &mut other];
        std::thread::scope(|scope| {
            for (fixture, organization) in both.into_iter().zip(ORGANIZATIONS) {
                scope.spawn(move || {
                    let of_day = Op::Accept(event(organization, "order.created"));
                    let made = fixture.try_apply(vec![of_day]);
                    assert!(made.is_ok(), "day {day}: {made:?}");
                    fixture.now = fixture.now.plus_ms(DAY_MS);
                });
            }
        });
    }
}
