//! Endpoints: their settings, secrets, bounds, and what is known of their past.

use crate::support::*;
use std::sync::Arc;
use stormhook_store::endpoint::{
    CustomHeaders, EndpointChange, EndpointTls, LIVE_SECRETS, Ordering, Seed, Why,
};
use stormhook_store::{
    Accepted, CreateEndpoint, Created, DeleteEndpoint, Done, EndpointId, EndpointKey, EventId, Op,
    Refusal, RotateSecret, UpdateEndpoint,
};

#[test]
fn an_endpoint_reads_back_as_it_was_set_also_after_reopening() {
    let mut fixture = Fixture::new();
    let made = fixture.endpoint("org", &["order.*", "*", "stormhook.endpoint.disabled"]);
    let headers = CustomHeaders([("x-api-key".to_owned(), "s3cret".to_owned())].into());
    fixture.pass_ms(5);
    fixture.change(
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
    fixture.reopen();
    let e = fixture.reader().endpoint(made.id).expect("it is there");
    assert_eq!(e.url, "https://other.example/");
    assert_eq!(e.description.as_deref(), Some("a note"));
    assert_eq!(e.headers, headers);
    assert!(!format!("{e:?}").contains("s3cret"));
    assert_eq!(e.rate_limit_per_second, Some(2.5));
    assert_eq!(e.ordering, Ordering::Fifo);
    assert_eq!(e.event_types, made.event_types);
    assert_eq!((e.created_at, e.updated_at), (START, fixture.now));
    let cleared = fixture.change(
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
    let mut fixture = Fixture::with(|o| o.endpoints_per_organization = 3);
    let first = fixture.endpoint("org", &["*"]);
    let create = |fixture: &mut Fixture, organization: &str| {
        let id = fixture.endpoint_id();
        CreateEndpoint::from(new_endpoint(id, organization, &["*"]))
    };
    let ops = (0..4).map(|_| create(&mut fixture, "org").into()).collect();
    let refused: Vec<_> = fixture
        .apply(ops)
        .done
        .iter()
        .map(|d| matches!(d, Done::CreateEndpoint(Err(Refusal::TooManyEndpoints))))
        .collect();
    assert_eq!(refused, [false, false, true, true]);
    fixture.endpoint("org2", &["*"]);
    // A deleted one makes room, also after reopening.
    fixture.endpoint_done(DeleteEndpoint { id: first.id });
    fixture.reopen();
    fixture.endpoint("org", &["*"]);
    let op = create(&mut fixture, "org");
    assert_eq!(fixture.refusal(op), Refusal::TooManyEndpoints);
}

#[test]
fn an_unknown_or_deleted_endpoint_is_not_found() {
    let mut fixture = Fixture::new();
    let deleted = fixture.endpoint("org", &["*"]);
    fixture.endpoint_done(DeleteEndpoint { id: deleted.id });
    for id in [deleted.id, EndpointId(5)] {
        assert_eq!(fixture.refusal(DeleteEndpoint { id }), Refusal::NotFound);
        let update = UpdateEndpoint {
            id,
            change: Box::default(),
        };
        assert_eq!(fixture.refusal(update), Refusal::NotFound);
        let rotate = RotateSecret {
            id,
            secret: secret(9),
            seed: seed(9),
            overlap_ms: 0,
        };
        assert_eq!(fixture.refusal(rotate), Refusal::NotFound);
    }
}

#[test]
fn earlier_secrets_sign_until_their_overlap_ends_and_at_most_four_are_live() {
    let mut fixture = Fixture::new();
    let e = fixture.endpoint("org", &["*"]);
    let rotate = |n: u8, overlap_ms| RotateSecret {
        id: e.id,
        secret: secret(n),
        seed: seed(n),
        overlap_ms,
    };
    let live = |fixture: &Fixture| -> Vec<String> {
        let e = fixture.reader().endpoint(e.id).expect("it is there");
        e.live_secrets(fixture.now)
            .map(|l| l.secret.expose().to_owned())
            .collect()
    };
    let text = |n: u8| secret(n).expose().to_owned();
    fixture.endpoint_done(rotate(2, 1_000));
    fixture.reopen();
    assert_eq!(live(&fixture), [text(2), text(1)]);
    fixture.pass_ms(999);
    assert_eq!(live(&fixture).len(), 2);
    fixture.pass_ms(1);
    assert_eq!(live(&fixture), [text(2)]);
    // Each keeps its own end, whatever the overlap of a later rotation.
    fixture.endpoint_done(rotate(3, 1_000));
    fixture.endpoint_done(rotate(4, 10_000));
    fixture.endpoint_done(rotate(5, 100));
    assert_eq!(live(&fixture), [text(5), text(4), text(3), text(2)]);
    fixture.pass_ms(100);
    assert_eq!(live(&fixture), [text(5), text(3), text(2)]);
    fixture.pass_ms(900);
    assert_eq!(live(&fixture), [text(5), text(3)]);
    let again = fixture.refusal(rotate(3, 1_000));
    assert_eq!(again, Refusal::SecretLive);
    for n in 6..12 {
        fixture.endpoint_done(rotate(n, 10_000));
    }
    assert_eq!(live(&fixture).len(), LIVE_SECRETS);
    assert_eq!(live(&fixture)[0], text(11));
    fixture.endpoint_done(rotate(12, 0));
    assert_eq!(live(&fixture), [text(12)]);
}

/// Returns the seeds of the secrets that sign now, newest first, each by the number it was made from.
fn seeds(fixture: &Fixture, id: EndpointId) -> Vec<Option<u8>> {
    let e = fixture.reader().endpoint(id).expect("it is there");
    assert_eq!(
        e.signs_with_ed25519(),
        e.secrets.first().is_some_and(|live| live.seed.is_some())
    );
    e.live_secrets(fixture.now)
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
    let mut fixture = Fixture::new();
    let id = fixture.endpoint_id();
    let mut new = new_endpoint(id, "org", &["*"]);
    new.seed = Some(seed(0xA1));
    let made = fixture.run(CreateEndpoint::from(new)).unwrap().endpoint;
    assert!(made.signs_with_ed25519());
    let shown = format!("{made:?}");
    assert!(!shown.contains("161"), "{shown}");
    fixture.reopen();
    assert_eq!(seeds(&fixture, id), [Some(0xA1)]);
    let rotate = |n: u8, overlap_ms| RotateSecret {
        id,
        secret: secret(n),
        seed: seed(n),
        overlap_ms,
    };
    fixture.endpoint_done(rotate(2, 1_000));
    fixture.endpoint_done(rotate(3, 5_000));
    fixture.reopen();
    assert_eq!(seeds(&fixture, id), [Some(3), Some(2), Some(0xA1)]);
    fixture.pass_ms(1_000);
    assert_eq!(seeds(&fixture, id), [Some(3), Some(2)]);
    fixture.endpoint_done(rotate(4, 0));
    assert_eq!(seeds(&fixture, id), [Some(4)]);
}

#[test]
fn ed25519_is_switched_on_with_one_seed_and_off_with_none_left() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint("org", &["*"]).id;
    let rotate = |n: u8| RotateSecret {
        id,
        secret: secret(n),
        seed: seed(n),
        overlap_ms: DAY_MS,
    };
    fixture.endpoint_done(rotate(2));
    assert_eq!(seeds(&fixture, id), [None, None]);
    fixture.change(id, switch(Some(seed(7))));
    fixture.reopen();
    assert_eq!(seeds(&fixture, id), [Some(7), None]);
    // Already enabled: the key that receivers hold stays, and nothing has changed.
    let before = fixture
        .reader()
        .endpoint(id)
        .expect("it is there")
        .updated_at;
    fixture.pass_ms(5);
    assert_eq!(fixture.change(id, switch(Some(seed(8)))).updated_at, before);
    assert_eq!(seeds(&fixture, id), [Some(7), None]);
    let with_a_note = EndpointChange {
        description: Some(Some("a note".to_owned())),
        ..switch(Some(seed(8)))
    };
    fixture.change(id, with_a_note);
    assert_eq!(seeds(&fixture, id), [Some(7), None]);
    fixture.endpoint_done(rotate(3));
    assert_eq!(seeds(&fixture, id), [Some(3), Some(7), None]);
    let off = fixture.change(id, switch(None));
    assert_eq!(off.updated_at, fixture.now);
    fixture.reopen();
    assert_eq!(seeds(&fixture, id), [None, None, None]);
    fixture.endpoint_done(rotate(4));
    assert_eq!(seeds(&fixture, id), [None; 4]);
    fixture.change(id, switch(Some(seed(9))));
    assert_eq!(seeds(&fixture, id), [Some(9), None, None, None]);
}

#[test]
fn a_deleted_endpoint_has_no_secret_and_no_seed() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint("org", &["*"]).id;
    fixture.change(id, switch(Some(seed(7))));
    let deleted = fixture.endpoint_done(DeleteEndpoint { id });
    assert!(deleted.secrets.is_empty() && !deleted.signs_with_ed25519());
    fixture.reopen();
    assert_eq!(fixture.refusal(DeleteEndpoint { id }), Refusal::NotFound);
}

#[test]
fn tls_settings_read_back_with_their_key_and_are_replaced_as_a_whole() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint("org", &["*"]).id;
    let set = |tls| EndpointChange {
        tls: Some(tls),
        ..EndpointChange::default()
    };
    fixture.change(id, set(Some(tls(3))));
    fixture.reopen();
    let kept = fixture.reader().endpoint(id).expect("it is there");
    let found = kept.tls.as_deref().expect("TLS settings");
    assert_eq!(found, &*tls(3));
    let client = found.client().expect("a client certificate");
    assert_eq!(client.chain, [vec![3; 300], vec![0; 2]]);
    assert_eq!(client.key.expose(), [3; 40]);
    assert_eq!(found.trusted(), [[3, 1], [3, 2]]);
    fixture.pass_ms(5);
    let same = fixture.change(id, set(Some(tls(3))));
    assert_eq!(same.updated_at, kept.updated_at, "nothing has changed");
    let trusting = EndpointTls::new(None, vec![vec![9]]).map(Arc::new);
    let changed = fixture.change(id, set(trusting.clone()));
    assert_eq!(changed.updated_at, fixture.now);
    fixture.reopen();
    let kept = fixture.reader().endpoint(id).expect("it is there");
    assert_eq!(kept.tls, trusting);
    assert!(
        kept.tls
            .as_deref()
            .is_some_and(|tls| tls.client().is_none())
    );
    fixture.change(id, set(None));
    fixture.reopen();
    assert_eq!(
        fixture.reader().endpoint(id).expect("it is there").tls,
        None
    );
}

#[test]
fn a_deleted_endpoint_has_no_tls_settings() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint("org", &["*"]).id;
    fixture.change(
        id,
        EndpointChange {
            tls: Some(Some(tls(3))),
            ..EndpointChange::default()
        },
    );
    assert_eq!(fixture.endpoint_done(DeleteEndpoint { id }).tls, None);
}

fn why(reader: &Reader, event: EventId, endpoint: EndpointId) -> Why {
    let answers = reader.explain(event).unwrap().expect("the event is there");
    let found = answers.answers.into_iter().find(|(id, _)| *id == endpoint);
    found.expect("the endpoint is among them").1
}

#[test]
fn explain_knows_what_each_endpoint_was_when_the_event_was_accepted() {
    let mut fixture = Fixture::new();
    let steady = fixture.endpoint("org", &["order.*"]);
    let changing = fixture.endpoint("org", &["order.*"]);
    fixture.endpoint("org2", &["*"]);
    let first = fixture.order();
    fixture.change(changing.id, activate(false));
    let second = fixture.order();
    fixture.change(
        changing.id,
        EndpointChange {
            event_types: Some(vec![]),
            ..activate(true)
        },
    );
    let third = fixture.order();
    fixture.endpoint_done(DeleteEndpoint { id: changing.id });
    let fourth = fixture.order();
    let late = fixture.endpoint("org", &["*"]);
    fixture.reopen();
    let reader = fixture.reader();
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
    let mut fixture = Fixture::new();
    let e = fixture.endpoint("org", &["*"]);
    fixture.change(e.id, activate(false));
    fixture.change(e.id, activate(true));
    let event = fixture.order();
    assert_eq!(event.deliveries, 1);
    assert_eq!(why(&fixture.reader(), event.id, e.id), Why::Subscribed);
    let applied = fixture.apply(vec![
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
        .map(|event| why(&fixture.reader(), event.id, e.id))
        .collect();
    assert_eq!(events, [Why::InactiveAtAcceptance, Why::Subscribed]);
}

fn once(
    fixture: &mut Fixture,
    organization: &str,
    key: &str,
    request: u8,
) -> Result<Created, Refusal> {
    let new = Box::new(new_endpoint(fixture.endpoint_id(), organization, &["*"]));
    let key = EndpointKey {
        key: key.to_owned(),
        request: [request; 32],
    };
    fixture.run(CreateEndpoint {
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
    let mut fixture = Fixture::new();
    let first = made(once(&mut fixture, "org", "k", 1));
    assert_eq!(replayed(once(&mut fixture, "org", "k", 1)), first);
    fixture.reopen();
    assert_eq!(replayed(once(&mut fixture, "org", "k", 1)), first);
    let other = once(&mut fixture, "org", "k", 2);
    assert_eq!(other.unwrap_err(), Refusal::EndpointKeyConflict);
    assert_ne!(made(once(&mut fixture, "other", "k", 1)), first);
    // An event's key is a different one.
    let mut keyed = event("org", "a.b");
    keyed.idempotency_key = Some("k".to_owned());
    fixture.accept(keyed);
    assert_eq!(replayed(once(&mut fixture, "org", "k", 1)), first);
    fixture.one(Op::DeleteEndpoint(DeleteEndpoint { id: first }));
    let gone = once(&mut fixture, "org", "k", 1);
    assert_eq!(gone.unwrap_err(), Refusal::EndpointKeyConflict);
}

#[test]
fn an_endpoints_key_lives_as_long_as_any_though_no_event_came_after_it() {
    let mut fixture = Fixture::with(|options| {
        options.fold_commits = 2;
        options.idempotency_ttl_ms = 1_000_000;
    });
    fixture.order();
    fixture.pass_ms(900_000);
    let first = made(once(&mut fixture, "org", "k", 1));
    // Folds follow, without events in any of them.
    for _ in 0..6 {
        fixture.endpoint("other", &["*"]);
    }
    fixture.pass_ms(999_999);
    assert_eq!(replayed(once(&mut fixture, "org", "k", 1)), first);
    fixture.reopen();
    assert_eq!(replayed(once(&mut fixture, "org", "k", 1)), first);
    fixture.pass_ms(1);
    assert_ne!(made(once(&mut fixture, "org", "k", 1)), first);
}
