//! The weight of an operation is at least what it writes, and not much more.

use crate::support::*;
use stormhook_store::maintenance::AdvanceBulk;
use stormhook_store::maintenance::FlushStats;
use stormhook_store::{DeliveryId, NextStep, Op, Settle};
use stormhook_store::{Disable, DisableWhen};

const NOTICE: &str = "stormhook.endpoint.disabled";

/// Returns the weight of an event, and how many deliveries it creates.
fn weigh_event(fixture: &mut Fixture, organization: &str, event_type: &str) -> (usize, usize) {
    let reader = fixture.reader();
    let op = Op::Accept(event(organization, event_type));
    let rows = reader.weigh(|weights| weights.rows(&op));
    let made = fixture.accept(event(organization, event_type)).deliveries;
    (rows, made as usize)
}

#[test]
fn an_event_weighs_its_deliveries() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        fixture.endpoint("small", &["order.*"]);
    }
    for n in 0..300 {
        let own = format!("only.t{n}");
        fixture.endpoint("large", &["order.*", &own]);
    }
    let off = fixture.endpoint("large", &["order.*"]);
    fixture.change(off.id, activate(false));
    assert_eq!(weigh_event(&mut fixture, "nobody", "order.created"), (1, 0));
    assert_eq!(weigh_event(&mut fixture, "small", "order.created"), (4, 3));
    let (rows, made) = weigh_event(&mut fixture, "large", "order.created");
    assert!(made == 300 && (301..=306).contains(&rows), "{rows}");
    // Endpoints that don't subscribe count almost nothing.
    let (rows, made) = weigh_event(&mut fixture, "large", "only.t7");
    assert!(made == 1 && (2..=7).contains(&rows), "{rows}");
}

fn failed(id: DeliveryId, when: DisableWhen, fixture: &Fixture) -> Settle {
    let mut settle = settle(
        id,
        NextStep::RetryAt(fixture.now.plus_ms(1_000)),
        fixture.now,
    );
    settle.disable = Some(Disable {
        when,
        reason: "failing".to_owned(),
        notice: event("org", NOTICE),
    });
    settle
}

#[test]
fn an_outcome_that_may_disable_its_endpoint_weighs_as_much_as_its_event() {
    let mut fixture = Fixture::new();
    let partner = fixture.endpoint("org", &["order.*"]);
    for _ in 0..40 {
        fixture.endpoint("org", &[NOTICE]);
    }
    let first = fixture.order();
    let id = pair(&first, &partner);
    let lasting = DisableWhen::RunOf {
        failures: 2,
        lasting_ms: HOUR_MS,
    };
    let weigh = |fixture: &Fixture, settle: &Settle| {
        let op = Op::Settle(Box::new(settle.clone()));
        fixture.reader().weigh(|weights| weights.rows(&op))
    };
    let success = settle(id, NextStep::Success, fixture.now);
    assert_eq!(weigh(&fixture, &success), 1);
    let outcome = failed(id, lasting, &fixture);
    assert_eq!(weigh(&fixture, &outcome), 1, "its run begins with it");
    fixture.one(Op::Settle(Box::new(outcome)));
    fixture.pass_ms(HOUR_MS);
    let outcome = failed(id, lasting, &fixture);
    assert!((41..=43).contains(&weigh(&fixture, &outcome)));
    let before = fixture.open().len();
    fixture.one(Op::Settle(Box::new(outcome.clone())));
    assert_eq!(fixture.open().len(), before + 40);
    assert_eq!(weigh(&fixture, &outcome), 1, "it is disabled");
    fixture.change(partner.id, activate(true));
    let gone = failed(id, DisableWhen::Now, &fixture);
    assert!((41..=43).contains(&weigh(&fixture, &gone)));
}

#[test]
fn work_in_bulk_weighs_a_step_of_it() {
    let mut fixture = Fixture::new();
    let partner = fixture.endpoint("org", &["*"]);
    let ids: Vec<_> = fixture
        .orders(30)
        .iter()
        .map(|e| pair(e, &partner))
        .collect();
    let mut advance = AdvanceBulk::nothing(partner.slot);
    advance.events = ids.iter().map(|id| id.event).collect();
    for id in ids {
        fixture.settle(id, NextStep::Success);
    }
    let reader = fixture.reader();
    let rows = |op| reader.weigh(|weights| weights.rows(&op));
    assert_eq!(rows(Op::AdvanceBulk(advance)), 31);
    // The minute's window of all endpoints and that of this one.
    assert_eq!(rows(Op::FlushStats(FlushStats)), 3);
    fixture.run(FlushStats);
    assert_eq!(rows(Op::FlushStats(FlushStats)), 1);
}
