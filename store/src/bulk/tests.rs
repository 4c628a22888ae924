//! Bulk changes against a model that carries each of them out on the spot.

use super::*;
use crate::delivery::{Attempt, AttemptOutcome, Status};
use crate::ids::DeliveryId;
use proptest::prelude::*;

const AT: UnixMs = UnixMs(1_790_000_000_000);
const SLOT: Slot = Slot(3);

fn created() -> Delivery {
    let id = DeliveryId {
        event: EventId::first_of(AT),
        slot: SLOT,
    };
    Delivery::created(id, 1, Trigger::Schedule, AT)
}

fn end(stamp: u64, reason: Reason) -> Bulk {
    Bulk {
        stamp,
        at: AT.plus_ms(stamp),
        effect: BulkEffect::End { reason },
        number: stamp,
    }
}

fn reopen(stamp: u64, since: UnixMs, until: UnixMs) -> Bulk {
    Bulk {
        stamp,
        at: AT.plus_ms(stamp),
        effect: BulkEffect::Reopen(Reopen {
            since,
            until,
            missed: false,
            last_event: EventId(0),
        }),
        number: stamp,
    }
}

fn all(stamp: u64) -> Bulk {
    reopen(stamp, UnixMs(0), UnixMs(u64::MAX))
}

fn failed_attempt() -> Attempt {
    Attempt {
        number: 0,
        round: 0,
        trigger: Trigger::Schedule,
        started_at: AT,
        duration_ms: 1,
        outcome: AttemptOutcome::Timeout,
        response_code: None,
        response_excerpt: None,
        error: None,
        reconnected: false,
    }
}

#[test]
fn each_applies_in_order_to_what_was_written_before_it() {
    let end_then_open = [end(1, Reason::Discarded), all(2)];
    let mut d = created();
    assert!(apply(&mut d, &end_then_open));
    assert_eq!((d.status, d.round, d.stamp), (Status::Pending, 2, 2));
    assert!(!apply(&mut d, &end_then_open), "it has them now");

    let open_then_end = [all(1), end(2, Reason::Discarded)];
    let mut d = created();
    apply(&mut d, &open_then_end);
    let seen = (d.status, d.reason, d.round);
    assert_eq!(seen, (Status::Failed, Some(Reason::Discarded), 1));

    let mut d = created();
    d.stamp = 1;
    assert!(
        !apply(&mut d, &[end(1, Reason::Discarded)]),
        "written after it"
    );
    assert!(d.status.is_open());
}

#[test]
fn the_first_that_ends_a_delivery_gives_the_reason() {
    let mut d = created();
    apply(
        &mut d,
        &[end(1, Reason::Discarded), end(2, Reason::EndpointDeleted)],
    );
    assert_eq!(
        (d.reason, d.updated_at),
        (Some(Reason::Discarded), AT.plus_ms(1))
    );
}

#[test]
fn only_deliveries_of_the_span_that_can_be_sent_are_reopened() {
    let next = AT.plus_ms(1);
    for (since, until, opens) in [
        (AT, next, true),
        (next, UnixMs(u64::MAX), false),
        (UnixMs(0), AT, false),
    ] {
        let mut d = created();
        d.cancelled(AT).unwrap();
        assert_eq!(
            apply(&mut d, &[reopen(1, since, until)]),
            opens,
            "{since:?} {until:?}"
        );
    }
    let mut damaged = created();
    damaged.found_damaged(AT).unwrap();
    assert!(!apply(&mut damaged, &[all(1)]));
    let mut delivered = created();
    delivered.attempt_succeeded(failed_attempt(), AT);
    assert!(!apply(&mut delivered, &[all(1), end(2, Reason::Discarded)]));
}

#[test]
fn what_waits_in_a_queue_has_ended_by_the_changes_after_its_row() {
    let bulks = Bulks::from([(SLOT, vec![all(2), end(4, Reason::Discarded)])]);
    for (slot, stamp, ended) in [
        (SLOT, 1, true),
        (SLOT, 3, true),
        (SLOT, 4, false),
        (Slot(4), 1, false),
    ] {
        assert_eq!(has_ended(slot, stamp, &bulks), ended, "{slot:?} {stamp}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    GiveUp,
    Retry,
    End(Reason),
    Reopen,
    Replay,
    /// What the bulk changes did is written.
    Write,
    /// It is written, and they are dropped.
    Done,
}

/// What happens to the delivery alone. True where it is written.
fn happens(d: &mut Delivery, step: Step, at: UnixMs) -> bool {
    match step {
        Step::GiveUp if d.status.is_open() => d.attempt_failed(failed_attempt(), at, None),
        Step::Retry if d.status.is_open() => d.attempt_failed(failed_attempt(), at, Some(at)),
        Step::Replay => d.reopened(Trigger::Replay, at),
        _ => return false,
    }
    true
}

proptest! {
    #[test]
    fn a_delivery_reads_as_if_each_change_were_carried_out_on_the_spot(steps in prop::collection::vec(prop_oneof![
        Just(Step::GiveUp), Just(Step::Retry), Just(Step::End(Reason::Discarded)), Just(Step::End(Reason::EndpointDeleted)),
        Just(Step::Reopen), Just(Step::Replay), Just(Step::Write), Just(Step::Done),
    ], 1..40)) {
        let (mut stored, mut expected) = (created(), created());
        let (mut bulks, mut last) = (Vec::new(), 0);
        for (n, step) in (1..).zip(steps) {
            let at = AT.plus_ms(n);
            match step {
                Step::End(_) | Step::Reopen => {
                    last += 1;
                    let bulk = match step {
                        Step::End(reason) => Bulk { at, ..end(last, reason) },
                        _ => Bulk { at, ..all(last) },
                    };
                    bulks.push(bulk);
                    expected.stamp = 0;
                    apply(&mut expected, &[bulk]);
                }
                Step::Write | Step::Done => {
                    if apply(&mut stored, &bulks) {
                        stored.stamp = last;
                    }
                    if matches!(step, Step::Done) {
                        bulks.clear();
                    }
                }
                _ => {
                    let changed = apply(&mut stored, &bulks);
                    let happened = happens(&mut stored, step, at);
                    prop_assert_eq!(happens(&mut expected, step, at), happened);
                    if changed || happened {
                        stored.stamp = last;
                    }
                }
            }
            let mut read = stored.clone();
            apply(&mut read, &bulks);
            (read.stamp, expected.stamp) = (0, 0);
            prop_assert_eq!(&read, &expected);
        }
    }
}
