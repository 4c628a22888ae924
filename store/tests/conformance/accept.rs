//! Accepting events: fan-out, sequence numbers, idempotency, bounds.

use crate::support::*;
use stormhook_store::maintenance::Probe;
use stormhook_store::query::DeliveryFilter;
use stormhook_store::{
    Accepted, DeleteEndpoint, Done, EventId, GivenTime, NewEvent, Op, Refusal, Replay, Timestamp,
    UnixMs,
};

#[test]
fn an_event_goes_to_the_endpoints_of_its_organization_that_asked_for_its_type() {
    let mut fixture = Fixture::new();
    let exact = fixture.endpoint("org", &["order.created"]);
    let prefix = fixture.endpoint("org", &["order.*", "order.created"]);
    let all = fixture.endpoint("org", &["*"]);
    let other_type = fixture.endpoint("org", &["invoice.*"]);
    let other_org = fixture.endpoint("org2", &["*"]);
    let off = fixture.endpoint("org", &["*"]);
    fixture.change(off.id, activate(false));
    let event = fixture.order();
    assert_eq!(event.deliveries, 3);
    for to in [&exact, &prefix, &all] {
        assert_eq!(fixture.delivery(pair(&event, to)).sequence, 1);
    }
    for not_to in [&other_type, &other_org, &off] {
        let found = fixture
            .reader()
            .bare_delivery(pair(&event, not_to))
            .unwrap();
        assert_eq!(found, None);
    }
    assert_eq!(fixture.reader().open_count(), 3);
    fixture.expect_whole();
}

#[test]
fn an_endpoint_made_in_the_same_batch_gets_the_events_after_it() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint_id();
    let applied = fixture.apply(vec![
        Op::Accept(event("org", "a.b")),
        Op::CreateEndpoint(new_endpoint(id, "org", &["*"]).into()),
        Op::Accept(event("org", "a.b")),
        Op::DeleteEndpoint(DeleteEndpoint { id }),
        Op::Accept(event("org", "a.b")),
    ]);
    let fan_out: Vec<_> = applied
        .done
        .iter()
        .filter_map(|done| match done {
            Done::Accept(Ok(Accepted {
                event,
                replayed: false,
            })) => Some(event.deliveries),
            _ => None,
        })
        .collect();
    assert_eq!(fan_out, [0, 1, 0]);
    fixture.expect_whole();
}

fn given(at: i64, text: &str) -> Option<GivenTime> {
    Some(GivenTime::new(Timestamp(at), text))
}

#[test]
fn an_event_reads_back_as_it_was_given() {
    let mut fixture = Fixture::new();
    let given = NewEvent {
        timestamp: given(5, "as given"),
        idempotency_key: Some("k".to_owned()),
        data: b"{ \"a\" : 1e400, \"b\":\"\\u0000\xff\" }".to_vec(),
        ..event("org", "order.created")
    };
    let event = fixture.accept(given.clone());
    for _ in 0..2 {
        let read = fixture
            .reader()
            .event(event.id)
            .unwrap()
            .expect("it is there");
        assert_eq!(read, event);
        assert_eq!(read.data.as_deref(), Some(given.data.as_slice()));
        assert_eq!(read.timestamp, Timestamp(5));
        assert_eq!(read.id.accepted_at(), fixture.now);
        fixture.reopen();
    }
    assert_eq!(fixture.reader().event(EventId(3)).unwrap(), None);
}

#[test]
fn an_event_larger_than_a_pack_and_many_small_ones_read_back_after_reopening() {
    let mut fixture = Fixture::new();
    let sizes = [10usize, 300_000, 10, 70_000, 65_536, 1].into_iter();
    let ops: Vec<_> = sizes
        .chain(std::iter::repeat_n(900, 500))
        .map(|size| {
            let data = format!("\"{}\"", "x".repeat(size)).into_bytes();
            Op::Accept(NewEvent {
                data,
                ..event("org", "a.b")
            })
        })
        .collect();
    let events: Vec<_> = fixture.apply(ops).done.into_iter().map(accepted).collect();
    fixture.reopen();
    for event in &events {
        assert_eq!(
            fixture.reader().event(event.id).unwrap().as_ref(),
            Some(event)
        );
    }
    fixture.expect_whole();
}

#[test]
fn sequence_numbers_have_no_gap_per_endpoint_whatever_is_refused_in_between() {
    let mut fixture = Fixture::new();
    let endpoints = [
        fixture.endpoint("org", &["order.*"]),
        fixture.endpoint("org", &["*"]),
        fixture.endpoint("org2", &["*"]),
    ];
    for round in 0..30 {
        let ops = (0..7).map(|n| {
            let organization = ["org", "org2"][(n + round) % 2];
            let event_type = ["order.created", "invoice.paid"][n % 2];
            let mut new = event(organization, event_type);
            // Every third is a replay or a conflict.
            new.idempotency_key = (n % 3 == 0).then(|| format!("k{}", n % 2));
            Op::Accept(new)
        });
        fixture.apply(ops.collect());
        if round % 10 == 0 {
            fixture.reopen();
        }
    }
    let all = fixture.all_deliveries(&DeliveryFilter::default(), 250);
    expect_gap_free(&all);
    for endpoint in endpoints {
        let of_it = fixture.all_deliveries(&of_endpoint(endpoint.id), 250);
        let last = fixture.reader().state(endpoint.slot).last_sequence;
        assert_eq!(u64::try_from(of_it.len()).unwrap(), last);
    }
    fixture.expect_whole();
}

#[test]
fn the_same_event_under_its_key_again_is_the_event_there_was() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let first = fixture.accept(keyed("org", "k"));
    for _ in 0..3 {
        fixture.pass_ms(1_000);
        match fixture.one(Op::Accept(keyed("org", "k"))) {
            Done::Accept(Ok(Accepted {
                event,
                replayed: true,
            })) => assert_eq!(event, first),
            other => panic!("{other:?}"),
        }
        fixture.reopen();
    }
    assert_eq!(fixture.reader().open_count(), 1);
    assert_eq!(fixture.all_events(&Default::default(), 10).len(), 1);
    // The same key of another organization is a different key.
    assert_ne!(fixture.accept(keyed("org2", "k")).id, first.id);
}

#[test]
fn another_event_under_a_known_key_is_a_conflict() {
    let mut fixture = Fixture::new();
    fixture.accept(NewEvent {
        timestamp: given(9, "as given"),
        ..keyed("org", "k")
    });
    let differently = [
        keyed("org", "k"),
        NewEvent {
            timestamp: given(9, "otherwise"),
            ..keyed("org", "k")
        },
        NewEvent {
            timestamp: given(9, "as given"),
            data: b"{ }".to_vec(),
            ..keyed("org", "k")
        },
        NewEvent {
            timestamp: given(9, "as given"),
            event_type: "order.paid".to_owned(),
            ..keyed("org", "k")
        },
    ];
    for other in differently {
        assert_eq!(fixture.refusal(other), Refusal::IdempotencyConflict);
    }
    assert_eq!(fixture.all_events(&Default::default(), 10).len(), 1);
}

#[test]
fn of_two_with_one_key_in_one_batch_the_first_is_accepted_and_the_second_replayed_or_refused() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let other = NewEvent {
        data: b"2".to_vec(),
        ..keyed("org", "k")
    };
    let applied = fixture.apply(vec![
        Op::Accept(keyed("org", "k")),
        Op::Accept(keyed("org", "k")),
        Op::Accept(other),
    ]);
    match applied.done.as_slice() {
        [
            Done::Accept(Ok(Accepted {
                event: first,
                replayed: false,
            })),
            Done::Accept(Ok(Accepted {
                event: second,
                replayed: true,
            })),
            Done::Accept(Err(Refusal::IdempotencyConflict)),
        ] => assert_eq!(first, second),
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.reader().open_count(), 1);
}

#[test]
fn a_key_is_forgotten_when_its_time_is_over_and_not_before() {
    let mut fixture = Fixture::new();
    let first = fixture.accept(keyed("org", "k"));
    fixture.pass_ms(DAY_MS - 1);
    assert!(matches!(
        fixture.one(Op::Accept(keyed("org", "k"))),
        Done::Accept(Ok(Accepted { replayed: true, .. }))
    ));
    fixture.pass_ms(1);
    let second = fixture.accept(keyed("org", "k"));
    assert_ne!(first.id, second.id);
    fixture.reopen();
    match fixture.one(Op::Accept(keyed("org", "k"))) {
        Done::Accept(Ok(Accepted {
            event,
            replayed: true,
        })) => assert_eq!(event, second),
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_and_sequence_numbers_are_known_after_the_journal_was_folded_and_after_reopening() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let many = 33_000;
    for generation in 0..2 {
        let ops = (0..many).map(|n| Op::Accept(keyed("org", &format!("{generation}-{n}"))));
        fixture.apply(ops.collect());
        fixture.pass_ms(1);
    }
    // The next commit folds what those left.
    fixture.apply(vec![Op::Probe(Probe)]);
    for _ in 0..2 {
        for key in ["0-0", "0-32999", "1-0", "1-17", "1-32999"] {
            let done = fixture.one(Op::Accept(keyed("org", key)));
            assert!(
                matches!(done, Done::Accept(Ok(Accepted { replayed: true, .. }))),
                "{key}: {done:?}"
            );
        }
        let fresh = format!("new {}", fixture.random.next());
        let event = fixture.accept(keyed("org", &fresh));
        let sequence = fixture.delivery(pair(&event, &endpoint)).sequence;
        assert_eq!(
            sequence,
            fixture.reader().state(endpoint.slot).last_sequence
        );
        fixture.reopen();
    }
    let last = fixture.reader().state(endpoint.slot).last_sequence;
    assert_eq!(last, 2 * many + 2);
    fixture.expect_whole();
}

#[test]
fn keys_folded_together_expire_each_at_its_own_time() {
    let mut fixture = Fixture::new();
    fixture.accept(keyed("org", "early"));
    fixture.pass_ms(DAY_MS / 2);
    let ops = (0..32_768).map(|n| Op::Accept(keyed("org", &n.to_string())));
    fixture.apply(ops.collect());
    fixture.pass_ms(DAY_MS / 2 - 1);
    // This one folds them.
    let done = fixture.one(Op::Accept(keyed("org", "early")));
    assert!(matches!(
        done,
        Done::Accept(Ok(Accepted { replayed: true, .. }))
    ));
    fixture.pass_ms(1);
    let done = fixture.one(Op::Accept(keyed("org", "77")));
    assert!(matches!(
        done,
        Done::Accept(Ok(Accepted { replayed: true, .. }))
    ));
    let done = fixture.one(Op::Accept(keyed("org", "early")));
    assert!(matches!(
        done,
        Done::Accept(Ok(Accepted {
            replayed: false,
            ..
        }))
    ));
}

#[test]
fn a_fold_without_keys_does_not_hide_older_ones() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let ops = (0..32_768).map(|n| Op::Accept(keyed("org", &n.to_string())));
    let old = fixture.apply(ops.collect()).done.into_iter().map(accepted);
    let old: Vec<_> = old.collect();
    fixture.apply(vec![Op::Probe(Probe)]);
    // A generation of first deliveries of old events only.
    let late = fixture.endpoint("org", &["*"]);
    let replays = old.iter().map(|e| {
        Op::Replay(Replay {
            event: e.id,
            endpoint: late.id,
        })
    });
    fixture.apply(replays.collect());
    fixture.pass_ms(DAY_MS / 2);
    fixture.apply(vec![Op::Probe(Probe)]);
    assert!(matches!(
        fixture.one(Op::Accept(keyed("org", "5"))),
        Done::Accept(Ok(Accepted { replayed: true, .. }))
    ));
}

#[test]
fn what_would_exceed_the_bound_on_waiting_deliveries_is_refused_whole() {
    let mut fixture = Fixture::with(|o| o.pending_limit = 5);
    let a = fixture.endpoint("org", &["*"]);
    fixture.endpoint("org", &["*"]);
    let first = fixture.order();
    fixture.order();
    assert_eq!(
        fixture.refusal(event("org", "order.created")),
        Refusal::Full
    );
    assert_eq!(fixture.reader().open_count(), 4);
    // Within one batch too, and an event without deliveries is still stored.
    let applied = fixture.apply(vec![
        Op::Accept(event("org", "order.created")),
        Op::Accept(event("nobody", "order.created")),
    ]);
    assert!(matches!(
        applied.done.as_slice(),
        [
            Done::Accept(Err(Refusal::Full)),
            Done::Accept(Ok(Accepted {
                replayed: false,
                ..
            }))
        ]
    ));
    fixture.settle(pair(&first, &a), stormhook_store::NextStep::Success);
    assert_eq!(fixture.order().deliveries, 2);
    fixture.store().reader().set_limits(7, 10);
    assert_eq!(fixture.order().deliveries, 2);
    expect_gap_free(&fixture.all_deliveries(&DeliveryFilter::default(), 100));
}

#[test]
fn ids_go_on_when_the_clock_goes_back() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let mut last = fixture.order().id;
    for back_ms in [1, 1_000, DAY_MS, 400 * DAY_MS] {
        fixture.now = UnixMs(START.0 - back_ms);
        if back_ms == DAY_MS {
            fixture.reopen();
        }
        for event in fixture.orders(5) {
            assert!(event.id > last);
            last = event.id;
            assert!(event.id.accepted_at() >= START);
        }
    }
    assert!(fixture.reader().last_at().unwrap() >= START);
    fixture.expect_whole();
}
