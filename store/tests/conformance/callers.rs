//! API keys and the audit log: what each attributed change leaves, in the same commit.

use crate::support::*;
use stormhook_store::endpoint::{CustomHeaders, EndpointChange};
use stormhook_store::maintenance::TouchApiKeys;
use stormhook_store::{
    Action, ApiKey, ApiKeyId, Attributed, Attribution, AuditEntry, AuditFilter, Audited, Cancel,
    CreateApiKey, CreateEndpoint, DeleteEndpoint, DeliveryFilter, Disable, DisableWhen, NextStep,
    PrincipalKind, RecordAudit, Recover, Refusal, Replay, Retry, RevokeApiKey, RotateSecret, Scope,
    Scopes, UnixMs, UpdateEndpoint,
};

fn by() -> Attribution {
    Attribution {
        kind: PrincipalKind::Key,
        id: Some("key_1".to_owned()),
        name: Some("console".to_owned()),
        reason: Some("a test".to_owned()),
        request_id: Some("req_1".to_owned()),
    }
}

fn attributed<C>(command: C) -> Attributed<C> {
    Attributed::to(by(), command)
}

fn key(n: u8) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new(START, u128::from(n)),
        name: format!("key {n}"),
        organization: Some("org".to_owned()),
        scopes: Scopes::of([Scope::Read, Scope::Write]),
        digest: [n; 32],
        created_at: UnixMs(0),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

fn create(fixture: &mut Fixture, key: ApiKey) -> ApiKey {
    let create = CreateApiKey(Box::new(key));
    *fixture.run(create).expect("it is created")
}

/// Returns all entries, oldest first.
fn entries(fixture: &Fixture, filter: &AuditFilter) -> Vec<AuditEntry> {
    let page = fixture.reader().audit(filter, None, 250).expect("a page");
    assert!(page.next.is_none() && page.damaged.is_empty());
    page.items.into_iter().rev().collect()
}

/// Returns what the last entry says.
fn last(fixture: &Fixture) -> Audited {
    let entry = entries(fixture, &AuditFilter::default()).pop();
    let entry = entry.expect("an entry");
    assert_eq!(entry.by, by());
    assert_eq!(entry.id.at(), fixture.now);
    entry.what
}

fn audited(
    action: Action,
    (organization, target): (Option<&str>, String),
    before: Option<&str>,
    after: Option<&str>,
) -> Audited {
    Audited {
        action,
        organization: organization.map(str::to_owned),
        target: Some(target),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    }
}

/// Compares entries, their objects as values.
fn assert_same(found: &Audited, expected: &Audited) {
    let value = |text: &Option<String>| -> Option<serde_json::Value> {
        text.as_ref()
            .map(|text| serde_json::from_str(text).expect("JSON"))
    };
    assert_eq!(value(&found.before), value(&expected.before), "{found:?}");
    assert_eq!(value(&found.after), value(&expected.after), "{found:?}");
    let bare = |of: &Audited| Audited {
        before: None,
        after: None,
        ..of.clone()
    };
    assert_eq!(bare(found), bare(expected));
}

#[test]
fn a_key_reads_back_until_it_is_revoked_and_after_reopening() {
    let mut fixture = Fixture::new();
    fixture.pass_ms(5);
    let made = create(&mut fixture, key(1));
    assert_eq!(
        made,
        ApiKey {
            created_at: fixture.now,
            ..key(1)
        }
    );
    fixture.reopen();
    let find = |fixture: &Fixture, digest: u8| {
        let reader = fixture.reader();
        reader.with_api_keys(|keys| keys.find(&[digest; 32]).map(|key| (**key).clone()))
    };
    assert_eq!(find(&fixture, 1), Some(made.clone()));
    assert_eq!(find(&fixture, 2), None);
    fixture.pass_ms(5);
    fixture.run(TouchApiKeys(vec![
        (made.id, fixture.now),
        (ApiKeyId(9), fixture.now),
    ]));
    fixture.pass_ms(5);
    let revoked = *fixture.run(RevokeApiKey(made.id)).expect("it is revoked");
    let expected = ApiKey {
        revoked_at: Some(fixture.now),
        last_used_at: Some(UnixMs(fixture.now.0 - 5)),
        ..made.clone()
    };
    assert_eq!(revoked, expected);
    // Revoking it again changes nothing, and neither does what was used before.
    fixture.pass_ms(5);
    assert_eq!(*fixture.run(RevokeApiKey(made.id)).unwrap(), expected);
    fixture.run(TouchApiKeys(vec![(made.id, UnixMs(1))]));
    fixture.reopen();
    assert_eq!(find(&fixture, 1), Some(expected));
    assert_eq!(
        fixture.refusal(RevokeApiKey(ApiKeyId(9))),
        Refusal::NotFound
    );
}

#[test]
fn keys_are_listed_newest_first_page_by_page() {
    let mut fixture = Fixture::new();
    for n in 1..=5 {
        create(&mut fixture, key(n));
    }
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = fixture.reader().api_keys(after, 2);
        assert!(page.items.len() <= 2);
        names.extend(page.items.iter().map(|key| key.name.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["key 5", "key 4", "key 3", "key 2", "key 1"]);
}

#[test]
fn each_change_of_an_endpoint_leaves_an_entry_without_secrets() {
    let mut fixture = Fixture::new();
    let id = fixture.endpoint_id();
    let mut new = new_endpoint(id, "org", &["order.*"]);
    new.settings.headers = CustomHeaders([("x-key".to_owned(), "s3cret".to_owned())].into());
    let made = fixture.run(attributed(CreateEndpoint::from(new)));
    let made = made.expect("it is created").endpoint;
    let of = || (Some("org"), made.id.to_string());
    let shown = r#"{"url":"https://partner.example/hooks","eventTypes":["order.*"],"active":true,"disabledReason":null,
        "description":null,"headers":{"x-key":"***"},"rateLimitPerSecond":null,"ordering":"parallel","tls":null,"ed25519":false}"#;
    assert_same(
        &last(&fixture),
        &audited(Action::EndpointCreate, of(), None, Some(shown)),
    );
    fixture.pass_ms(1);
    let change = |change: EndpointChange| {
        attributed(UpdateEndpoint {
            id,
            change: Box::new(change),
        })
    };
    let other = CustomHeaders([("x-key".to_owned(), "0ther".to_owned())].into());
    fixture
        .run(change(EndpointChange {
            headers: Some(other),
            active: Some(false),
            ..EndpointChange::default()
        }))
        .expect("it is changed");
    let before = r#"{"active":true,"headers":{"x-key":"***"}}"#;
    let after = r#"{"active":false,"headers":{"x-key":"***"}}"#;
    let expected = audited(Action::EndpointUpdate, of(), Some(before), Some(after));
    assert_same(&last(&fixture), &expected);
    fixture.pass_ms(1);
    fixture
        .run(change(EndpointChange {
            discard_held: true,
            ..activate(true)
        }))
        .expect("it is changed");
    let after = r#"{"active":true,"discardHeld":true}"#;
    let expected = audited(
        Action::EndpointUpdate,
        of(),
        Some(r#"{"active":false}"#),
        Some(after),
    );
    assert_same(&last(&fixture), &expected);
    fixture.pass_ms(1);
    let rotate = RotateSecret {
        id,
        secret: secret(2),
        seed: seed(2),
        overlap_ms: 1_000,
    };
    fixture.run(attributed(rotate)).expect("it is rotated");
    let after = r#"{"secret":"***","overlap":"1000ms"}"#;
    let expected = audited(Action::EndpointRotateSecret, of(), None, Some(after));
    assert_same(&last(&fixture), &expected);
    fixture.pass_ms(1);
    fixture
        .run(attributed(DeleteEndpoint { id }))
        .expect("it is deleted");
    assert_same(
        &last(&fixture),
        &audited(Action::EndpointDelete, of(), Some(shown), None),
    );
    let all = entries(&fixture, &AuditFilter::default());
    assert_eq!(all.len(), 5);
    let text = format!("{all:?}");
    for kept in ["s3cret", "0ther", secret(1).expose(), secret(2).expose()] {
        assert!(!text.contains(kept), "{kept}");
    }
}

#[test]
fn each_change_of_a_delivery_leaves_an_entry() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    let id = pair(&made, &endpoint);
    let of_delivery = || (Some("org"), id.to_string());
    fixture.run(attributed(Retry(id))).expect("it is retried");
    let pending = Some(r#"{"status":"PENDING"}"#);
    let expected = audited(Action::DeliveryRetry, of_delivery(), pending, pending);
    assert_same(&last(&fixture), &expected);
    fixture
        .run(attributed(Cancel(id)))
        .expect("it is cancelled");
    let failed = Some(r#"{"status":"FAILED"}"#);
    let expected = audited(Action::DeliveryCancel, of_delivery(), pending, failed);
    assert_same(&last(&fixture), &expected);
    let replay = Replay {
        event: made.id,
        endpoint: endpoint.id,
    };
    fixture.run(attributed(replay)).expect("it is replayed");
    let after = format!(r#"{{"endpointId":"{}","deliveryId":"{id}"}}"#, endpoint.id);
    let expected = audited(
        Action::EventReplay,
        (Some("org"), made.id.to_string()),
        None,
        Some(&after),
    );
    assert_same(&last(&fixture), &expected);
    let recover = Recover {
        endpoint: endpoint.id,
        since: START,
        until: START.plus_ms(1_000),
        missed: true,
    };
    fixture.run(attributed(recover)).expect("it begins");
    let after =
        r#"{"since":"2026-01-02T03:04:05.000Z","until":"2026-01-02T03:04:06.000Z","missed":true}"#;
    let expected = audited(
        Action::EndpointRecover,
        (Some("org"), endpoint.id.to_string()),
        None,
        Some(after),
    );
    assert_same(&last(&fixture), &expected);
}

#[test]
fn what_changes_nothing_or_has_no_author_leaves_no_entry() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    let id = pair(&made, &endpoint);
    let unchanged = UpdateEndpoint {
        id: endpoint.id,
        change: Box::new(activate(true)),
    };
    fixture.run(attributed(unchanged)).expect("it is answered");
    fixture.run(Cancel(id)).expect("it is cancelled");
    let refused = fixture.refusal(attributed(Cancel(id)));
    assert_eq!(refused, Refusal::DeliveryEnded);
    assert_eq!(entries(&fixture, &AuditFilter::default()), []);
    // A request that is made again has had its entry.
    let id = fixture.endpoint_id();
    let create = || CreateEndpoint {
        new: Box::new(new_endpoint(id, "org", &["*"])),
        key: Some(stormhook_store::EndpointKey {
            key: "once".to_owned(),
            request: [1; 32],
        }),
    };
    for replayed in [false, true] {
        let created = fixture.run(attributed(create())).expect("it is created");
        assert_eq!(created.replayed, replayed);
        assert_eq!(entries(&fixture, &AuditFilter::default()).len(), 1);
    }
}

#[test]
fn an_endpoint_that_the_daemon_disables_leaves_an_entry_of_the_daemon() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let made = fixture.order();
    let mut gone = settle(pair(&made, &endpoint), NextStep::Gone, fixture.now);
    gone.disable = Some(Disable {
        when: DisableWhen::Now,
        reason: "410 Gone".to_owned(),
        notice: event("org", "stormhook.endpoint.disabled"),
    });
    fixture.run(Box::new(gone)).expect("it is recorded");
    let entry = entries(&fixture, &AuditFilter::default()).pop();
    let entry = entry.expect("an entry");
    assert_eq!(entry.by, Attribution::to_daemon());
    let expected = audited(
        Action::EndpointDisable,
        (Some("org"), endpoint.id.to_string()),
        Some(r#"{"active":true,"disabledReason":null}"#),
        Some(r#"{"active":false,"disabledReason":"410 Gone"}"#),
    );
    assert_same(&entry.what, &expected);
}

#[test]
fn keys_leave_entries_without_the_key() {
    let mut fixture = Fixture::new();
    let made = CreateApiKey(Box::new(key(1)));
    let made = *fixture.run(attributed(made)).expect("it is created");
    let shown = Some(r#"{"name":"key 1","scopes":["read","write"],"expiresAt":null}"#);
    let of = || (Some("org"), made.id.to_string());
    assert_same(
        &last(&fixture),
        &audited(Action::KeyCreate, of(), None, shown),
    );
    fixture
        .run(attributed(RevokeApiKey(made.id)))
        .expect("it is revoked");
    assert_same(
        &last(&fixture),
        &audited(Action::KeyRevoke, of(), shown, None),
    );
    fixture
        .run(attributed(RevokeApiKey(made.id)))
        .expect("it is answered");
    assert_eq!(entries(&fixture, &AuditFilter::default()).len(), 2);
}

#[test]
fn entries_are_found_by_organization_target_and_time_also_after_reopening() {
    let mut fixture = Fixture::new();
    let note = |organization: &str, target: &str| {
        attributed(RecordAudit(audited(
            Action::EndpointRevealSecret,
            (Some(organization), target.to_owned()),
            None,
            None,
        )))
    };
    for (organization, target) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "1")] {
        fixture.pass_ms(10);
        fixture
            .run(note(organization, target))
            .expect("it is written");
    }
    fixture.reopen();
    let found = |filter: AuditFilter| -> Vec<(u64, String)> {
        let entries = entries(&fixture, &filter).into_iter();
        let short = |e: AuditEntry| (e.id.at().since_ms(START), e.what.target.unwrap());
        entries.map(short).collect()
    };
    let of = |organization: Option<&str>, target: Option<&str>| AuditFilter {
        organization: organization.map(str::to_owned),
        target: target.map(str::to_owned),
        ..AuditFilter::default()
    };
    let named = |all: &[(u64, &str)]| -> Vec<(u64, String)> {
        all.iter().map(|(at, t)| (*at, (*t).to_owned())).collect()
    };
    assert_eq!(
        found(of(Some("a"), None)),
        named(&[(10, "1"), (30, "3"), (40, "1")])
    );
    assert_eq!(found(of(None, Some("1"))), named(&[(10, "1"), (40, "1")]));
    assert_eq!(found(of(Some("b"), Some("1"))), []);
    let span = AuditFilter {
        since: Some(START.plus_ms(20)),
        until: Some(START.plus_ms(40)),
        ..AuditFilter::default()
    };
    assert_eq!(found(span), named(&[(20, "2"), (30, "3")]));
    // Page by page, each once.
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = fixture.reader().audit(&of(Some("a"), None), after, 1);
        let page = page.expect("a page");
        seen.extend(page.items.into_iter().map(|e| e.id.at().since_ms(START)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [40, 30, 10]);
}

#[test]
fn deliveries_are_listed_of_one_organization_alone() {
    let mut fixture = Fixture::new();
    let ours = fixture.endpoint("org", &["*"]);
    let theirs = fixture.endpoint("other", &["*"]);
    let mut expected = Vec::new();
    for organization in ["org", "other", "org"] {
        fixture.pass_ms(1);
        let accepted = fixture.run(event(organization, "order.created"));
        let made = accepted.expect("it is accepted").event;
        if organization == "org" {
            expected.push(pair(&made, &ours));
        }
    }
    expected.reverse();
    let listed = |filter: DeliveryFilter| -> Vec<_> {
        let page = fixture.reader().deliveries(&filter, None, 50);
        let items = page.expect("a page").items.into_iter();
        items.map(|view| view.delivery.id).collect()
    };
    let of = |filter: DeliveryFilter| DeliveryFilter {
        organization: Some("org".to_owned()),
        ..filter
    };
    assert_eq!(listed(of(DeliveryFilter::default())), expected);
    assert_eq!(
        listed(of(DeliveryFilter {
            endpoint: Some(theirs.id),
            ..DeliveryFilter::default()
        })),
        []
    );
    assert_eq!(
        listed(of(DeliveryFilter {
            endpoint: Some(ours.id),
            ..DeliveryFilter::default()
        })),
        expected
    );
    assert_eq!(listed(DeliveryFilter::default()).len(), 3);
}
