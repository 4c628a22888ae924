//! What the store promises, through its public verbs alone: the beginning of the suite.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use stormhook_store::{Done, NewEvent, Op, Options, Store, UnixMs};

#[test]
fn an_accepted_event_is_there_after_reopening_and_its_key_replays_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        Store::open(Options {
            path: folder.path().join("store.redb"),
            cache_bytes: 1 << 20,
            pending_limit: 100,
            endpoints_per_organization: 10,
            idempotency_ttl_ms: 86_400_000,
        })
        .unwrap()
    };
    let event = || {
        Op::Accept(NewEvent {
            organization: "org".to_owned(),
            event_type: "order.created".to_owned(),
            timestamp: None,
            idempotency_key: Some("k".to_owned()),
            data: b"{\"a\": 1.0}".to_vec(),
        })
    };
    let mut store = open();
    let done = store.apply(vec![event()], UnixMs(1_000), 42).unwrap().done;
    let [Done::Accepted(first)] = done.as_slice() else {
        panic!("{done:?}");
    };
    drop(store);
    let mut store = open();
    let done = store.apply(vec![event()], UnixMs(2_000), 43).unwrap().done;
    assert!(
        matches!(done.as_slice(), [Done::Replayed(e)] if e.id == first.id && e.data == first.data)
    );
    assert_eq!(store.reader().check().unwrap().damage, Vec::<String>::new());
}
