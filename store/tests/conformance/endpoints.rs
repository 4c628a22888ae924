//! Endpoints: their settings, secrets, bounds, and what is known of their past.

use crate::support::*;
use stormhook_store::endpoint::{CustomHeaders, EndpointChange, LIVE_SECRETS, Ordering, Seed, Why};
use stormhook_store::{
    Accepted, CreateEndpoint, Created, DeleteEndpoint, Done, EndpointId, EndpointKey, EventId, Op,
    Reader, Refusal, RotateSecret, StoreError, UpdateEndpoint,
};

#[test]
fn an_endpoint_reads_back_as_it_was_set_also_after_reopening() {
    let mut bed = Bed::new();
    let made = bed.endpoint("org", &["order.*", "*", "stormhook.endpoint.disabled"]);
    let headers = CustomHeaders([("x-api-key".to_owned(), "s3cret".to_owned())].into());
    bed.pass_ms(5);
    bed.change(
        made.id,
        EndpointChange {
            url: Some("https://other.example/".to_owned()),
            description: Some(Some("a note".to_owned())),
            headers: Some(headers.clone()),
            rate_limit_per_second: Some(Some(2.5)),
            ordering: Some(Ordering::Fifo),
            ..EndpointChange::default()
        },
    );
    bed.reopen();
    let e = bed.reader().endpoint(made.id).expect("it is there");
    assert_eq!(e.url, "https://other.example/");
    assert_eq!(e.description.as_deref(), Some("a note"));
    assert_eq!(e.headers, headers);
    assert!(!format!("{e:?}").contains("s3cret"));
    assert_eq!(e.rate_limit_per_second, Some(2.5));
    assert_eq!(e.ordering, Ordering::Fifo);
    assert_eq!(e.event_types, made.event_types);
    assert_eq!((e.created_at, e.updated_at), (START, bed.now));
    let cleared = bed.change(
        made.id,
        EndpointChange {
            description: Some(None),
            rate_limit_per_second: Some(None),
            ..EndpointChange::default()
        },
    );
    assert_eq!(
        (&cleared.description, cleared.rate_limit_per_second),
        (&None, None)
    );
    assert_eq!(cleared.headers, headers);
}

#[test]
fn an_organization_has_only_as_many_endpoints_as_it_may() {
    let mut bed = Bed::with(|o| o.endpoints_per_organization = 3);
    let first = bed.endpoint("org", &["*"]);
    let create = |bed: &mut Bed, organization: &str| {
        let id = bed.endpoint_id();
        CreateEndpoint::from(new_endpoint(id, organization, &["*"]))
    };
    let ops = (0..4).map(|_| create(&mut bed, "org").into()).collect();
    let refused: Vec<_> = bed
        .apply(ops)
        .done
        .iter()
        .map(|d| matches!(d, Done::CreateEndpoint(Err(Refusal::TooManyEndpoints))))
        .collect();
    assert_eq!(refused, [false, false, true, true]);
    bed.endpoint("org2", &["*"]);
    // A deleted one makes room, also after reopening.
    bed.endpoint_done(DeleteEndpoint { id: first.id });
    bed.reopen();
    bed.endpoint("org", &["*"]);
    let op = create(&mut bed, "org");
    assert_eq!(bed.refusal(op), Refusal::TooManyEndpoints);
}

#[test]
fn an_unknown_or_deleted_endpoint_is_not_found() {
    let mut bed = Bed::new();
    let deleted = bed.endpoint("org", &["*"]);
    bed.endpoint_done(DeleteEndpoint { id: deleted.id });
    for id in [deleted.id, EndpointId(5)] {
        assert_eq!(bed.refusal(DeleteEndpoint { id }), Refusal::NotFound);
        let update = UpdateEndpoint {
            id,
            change: Box::default(),
        };
        assert_eq!(bed.refusal(update), Refusal::NotFound);
        let rotate = RotateSecret {
            id,
            secret: secret(9),
            seed: seed(9),
            overlap_ms: 0,
        };
        assert_eq!(bed.refusal(rotate), Refusal::NotFound);
    }
}

#[test]
fn earlier_secrets_sign_until_their_overlap_ends_and_at_most_four_are_live() {
    let mut bed = Bed::new();
    let e = bed.endpoint("org", &["*"]);
    let rotate = |n: u8, overlap_ms| RotateSecret {
        id: e.id,
        secret: secret(n),
        seed: seed(n),
        overlap_ms,
    };
    let live = |bed: &Bed| -> Vec<String> {
        let e = bed.reader().endpoint(e.id).expect("it is there");
        e.live_secrets(bed.now)
            .map(|l| l.secret.expose().to_owned())
            .collect()
    };
    let text = |n: u8| secret(n).expose().to_owned();
    bed.endpoint_done(rotate(2, 1_000));
    bed.reopen();
    assert_eq!(live(&bed), [text(2), text(1)]);
    bed.pass_ms(999);
    assert_eq!(live(&bed).len(), 2);
    bed.pass_ms(1);
    assert_eq!(live(&bed), [text(2)]);
    // Each keeps its own end, whatever the overlap of a later rotation.
    bed.endpoint_done(rotate(3, 1_000));
    bed.endpoint_done(rotate(4, 10_000));
    bed.endpoint_done(rotate(5, 100));
    assert_eq!(live(&bed), [text(5), text(4), text(3), text(2)]);
    bed.pass_ms(100);
    assert_eq!(live(&bed), [text(5), text(3), text(2)]);
    bed.pass_ms(900);
    assert_eq!(live(&bed), [text(5), text(3)]);
    let again = bed.refusal(rotate(3, 1_000));
    assert_eq!(again, Refusal::SecretLive);
    for n in 6..12 {
        bed.endpoint_done(rotate(n, 10_000));
    }
    assert_eq!(live(&bed).len(), LIVE_SECRETS);
    assert_eq!(live(&bed)[0], text(11));
    bed.endpoint_done(rotate(12, 0));
    assert_eq!(live(&bed), [text(12)]);
}

/// Returns the seeds of the secrets that sign now, newest first, each by the number it was made from.
fn seeds(bed: &Bed, id: EndpointId) -> Vec<Option<u8>> {
    let e = bed.reader().endpoint(id).expect("it is there");
    assert_eq!(
        e.signs_with_ed25519(),
        e.secrets.first().is_some_and(|live| live.seed.is_some())
    );
    e.live_secrets(bed.now)
        .map(|live| live.seed.as_ref().map(|seed| seed.expose()[0]))
        .collect()
}

fn switch(seed: Option<Seed>) -> EndpointChange {
    EndpointChange {
        seed: Some(seed),
        ..EndpointChange::default()
    }
}

#[test]
fn each_secret_of_an_ed25519_endpoint_has_a_seed_of_its_own_for_as_long_as_it_signs() {
    let mut bed = Bed::new();
    let id = bed.endpoint_id();
    let mut new = new_endpoint(id, "org", &["*"]);
    new.seed = Some(seed(0xA1));
    let made = bed.run(CreateEndpoint::from(new)).unwrap().endpoint;
    assert!(made.signs_with_ed25519());
    let shown = format!("{made:?}");
    assert!(!shown.contains("161"), "{shown}");
    bed.reopen();
    assert_eq!(seeds(&bed, id), [Some(0xA1)]);
    let rotate = |n: u8, overlap_ms| RotateSecret {
        id,
        secret: secret(n),
        seed: seed(n),
        overlap_ms,
    };
    bed.endpoint_done(rotate(2, 1_000));
    bed.endpoint_done(rotate(3, 5_000));
    bed.reopen();
    assert_eq!(seeds(&bed, id), [Some(3), Some(2), Some(0xA1)]);
    bed.pass_ms(1_000);
    assert_eq!(seeds(&bed, id), [Some(3), Some(2)]);
    bed.endpoint_done(rotate(4, 0));
    assert_eq!(seeds(&bed, id), [Some(4)]);
}

#[test]
fn ed25519_is_switched_on_with_one_seed_and_off_with_none_left() {
    let mut bed = Bed::new();
    let id = bed.endpoint("org", &["*"]).id;
    let rotate = |n: u8| RotateSecret {
        id,
        secret: secret(n),
        seed: seed(n),
        overlap_ms: DAY_MS,
    };
    bed.endpoint_done(rotate(2));
    assert_eq!(seeds(&bed, id), [None, None]);
    bed.change(id, switch(Some(seed(7))));
    bed.reopen();
    assert_eq!(seeds(&bed, id), [Some(7), None]);
    // Already enabled: the key that receivers hold stays, and nothing has changed.
    let before = bed.reader().endpoint(id).expect("it is there").updated_at;
    bed.pass_ms(5);
    assert_eq!(bed.change(id, switch(Some(seed(8)))).updated_at, before);
    assert_eq!(seeds(&bed, id), [Some(7), None]);
    let with_a_note = EndpointChange {
        description: Some(Some("a note".to_owned())),
        ..switch(Some(seed(8)))
    };
    bed.change(id, with_a_note);
    assert_eq!(seeds(&bed, id), [Some(7), None]);
    bed.endpoint_done(rotate(3));
    assert_eq!(seeds(&bed, id), [Some(3), Some(7), None]);
    let off = bed.change(id, switch(None));
    assert_eq!(off.updated_at, bed.now);
    bed.reopen();
    assert_eq!(seeds(&bed, id), [None, None, None]);
    bed.endpoint_done(rotate(4));
    assert_eq!(seeds(&bed, id), [None; 4]);
    bed.change(id, switch(Some(seed(9))));
    assert_eq!(seeds(&bed, id), [Some(9), None, None, None]);
}

#[test]
fn a_deleted_endpoint_has_no_secret_and_no_seed() {
    let mut bed = Bed::new();
    let id = bed.endpoint("org", &["*"]).id;
    bed.change(id, switch(Some(seed(7))));
    let deleted = bed.endpoint_done(DeleteEndpoint { id });
    assert!(deleted.secrets.is_empty() && !deleted.signs_with_ed25519());
    bed.reopen();
    assert_eq!(bed.refusal(DeleteEndpoint { id }), Refusal::NotFound);
}

fn why(reader: &Reader, event: EventId, endpoint: EndpointId) -> Why {
    let answers = reader.explain(event).unwrap().expect("the event is there");
    let found = answers.answers.into_iter().find(|(id, _)| *id == endpoint);
    found.expect("the endpoint is among them").1
}

#[test]
fn explain_knows_what_each_endpoint_was_when_the_event_was_accepted() {
    let mut bed = Bed::new();
    let steady = bed.endpoint("org", &["order.*"]);
    let changing = bed.endpoint("org", &["order.*"]);
    bed.endpoint("org2", &["*"]);
    let first = bed.order();
    bed.change(changing.id, activate(false));
    let second = bed.order();
    bed.change(
        changing.id,
        EndpointChange {
            event_types: Some(vec![]),
            ..activate(true)
        },
    );
    let third = bed.order();
    bed.endpoint_done(DeleteEndpoint { id: changing.id });
    let fourth = bed.order();
    let late = bed.endpoint("org", &["*"]);
    bed.reopen();
    let reader = bed.reader();
    let of = |endpoint| {
        [&first, &second, &third, &fourth].map(|event| why(&reader, event.id, endpoint).as_str())
    };
    assert_eq!(of(steady.id), ["subscribed"; 4]);
    assert_eq!(
        of(changing.id),
        [
            "subscribed",
            "inactive_at_acceptance",
            "type_not_subscribed",
            "deleted"
        ]
    );
    assert_eq!(of(late.id), ["created_later"; 4]);
    assert_eq!(reader.explain(first.id).unwrap().unwrap().answers.len(), 3);
    assert_eq!(reader.explain(EventId(7)).unwrap(), None);
}

#[test]
fn the_last_of_several_changes_between_two_events_is_the_one_that_counts() {
    let mut bed = Bed::new();
    let e = bed.endpoint("org", &["*"]);
    bed.change(e.id, activate(false));
    bed.change(e.id, activate(true));
    let event = bed.order();
    assert_eq!(event.deliveries, 1);
    assert_eq!(why(&bed.reader(), event.id, e.id), Why::Subscribed);
    let applied = bed.apply(vec![
        Op::UpdateEndpoint(UpdateEndpoint {
            id: e.id,
            change: Box::new(activate(false)),
        }),
        Op::Accept(crate::support::event("org", "a.b")),
        Op::UpdateEndpoint(UpdateEndpoint {
            id: e.id,
            change: Box::new(activate(true)),
        }),
        Op::Accept(crate::support::event("org", "a.b")),
    ]);
    let events: Vec<_> = applied
        .done
        .iter()
        .filter_map(|d| match d {
            stormhook_store::Done::Accept(Ok(Accepted {
                event,
                replayed: false,
            })) => Some(event),
            _ => None,
        })
        .map(|event| why(&bed.reader(), event.id, e.id))
        .collect();
    assert_eq!(events, [Why::InactiveAtAcceptance, Why::Subscribed]);
}

#[test]
fn a_second_opener_is_told_that_the_file_is_open() {
    let mut bed = Bed::new();
    match stormhook_store::Store::open(bed.options.clone()) {
        Err(StoreError::AlreadyOpen { path }) => assert_eq!(path, bed.options.path),
        other => panic!("{other:?}"),
    }
    // The first one is unaffected, and releases the file when it closes.
    bed.order();
    bed.reopen();
    bed.order();
}

#[test]
fn the_file_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::new();
    let mode = std::fs::metadata(&bed.options.path).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let beside: Vec<_> = std::fs::read_dir(bed.dir.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left of making it");
}

fn once(bed: &mut Bed, organization: &str, key: &str, request: u8) -> Result<Created, Refusal> {
    let new = Box::new(new_endpoint(bed.endpoint_id(), organization, &["*"]));
    let key = EndpointKey {
        key: key.to_owned(),
        request: [request; 32],
    };
    bed.run(CreateEndpoint {
        new,
        key: Some(key),
    })
}

fn made(created: Result<Created, Refusal>) -> EndpointId {
    let created = created.unwrap();
    assert!(!created.replayed);
    created.endpoint.id
}

fn replayed(created: Result<Created, Refusal>) -> EndpointId {
    let created = created.unwrap();
    assert!(created.replayed);
    created.endpoint.id
}

#[test]
fn an_endpoint_is_made_once_a_key_also_after_reopening() {
    let mut bed = Bed::new();
    let first = made(once(&mut bed, "org", "k", 1));
    assert_eq!(replayed(once(&mut bed, "org", "k", 1)), first);
    bed.reopen();
    assert_eq!(replayed(once(&mut bed, "org", "k", 1)), first);
    let other = once(&mut bed, "org", "k", 2);
    assert_eq!(other.unwrap_err(), Refusal::EndpointKeyConflict);
    assert_ne!(made(once(&mut bed, "other", "k", 1)), first);
    // An event's key is a different one.
    let mut keyed = event("org", "a.b");
    keyed.idempotency_key = Some("k".to_owned());
    bed.accept(keyed);
    assert_eq!(replayed(once(&mut bed, "org", "k", 1)), first);
    bed.one(Op::DeleteEndpoint(DeleteEndpoint { id: first }));
    let gone = once(&mut bed, "org", "k", 1);
    assert_eq!(gone.unwrap_err(), Refusal::EndpointKeyConflict);
}

#[test]
fn an_endpoints_key_lives_as_long_as_any_though_no_event_came_after_it() {
    let mut bed = Bed::with(|options| {
        options.fold_commits = 2;
        options.idempotency_ttl_ms = 1_000_000;
    });
    bed.order();
    bed.pass_ms(900_000);
    let first = made(once(&mut bed, "org", "k", 1));
    // Folds follow, without events in any of them.
    for _ in 0..6 {
        bed.endpoint("other", &["*"]);
    }
    bed.pass_ms(999_999);
    assert_eq!(replayed(once(&mut bed, "org", "k", 1)), first);
    bed.reopen();
    assert_eq!(replayed(once(&mut bed, "org", "k", 1)), first);
    bed.pass_ms(1);
    assert_ne!(made(once(&mut bed, "org", "k", 1)), first);
}
