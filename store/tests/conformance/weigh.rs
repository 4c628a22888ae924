//! The weight of an operation is at least what it writes, and not much more.

use crate::support::*;
use stormhook_store::maintenance::AdvanceBulk;
use stormhook_store::maintenance::FlushStats;
use stormhook_store::{DeliveryId, Op, Settle, Verdict};
use stormhook_store::{Disable, DisableWhen};

const NOTICE: &str = "stormhook.endpoint.disabled";

/// Returns the weight of an event, and how many deliveries it creates.
fn weigh_event(bed: &mut Bed, organization: &str, event_type: &str) -> (usize, usize) {
    let reader = bed.reader();
    let rows = reader
        .scales()
        .rows(&Op::Accept(event(organization, event_type)));
    let made = bed.accept(event(organization, event_type)).deliveries;
    (rows, made as usize)
}

#[test]
fn an_event_weighs_its_deliveries() {
    let mut bed = Bed::new();
    for _ in 0..3 {
        bed.endpoint("small", &["order.*"]);
    }
    for n in 0..300 {
        let own = format!("only.t{n}");
        bed.endpoint("large", &["order.*", &own]);
    }
    let off = bed.endpoint("large", &["order.*"]);
    bed.change(off.id, activate(false));
    assert_eq!(weigh_event(&mut bed, "nobody", "order.created"), (1, 0));
    assert_eq!(weigh_event(&mut bed, "small", "order.created"), (4, 3));
    let (rows, made) = weigh_event(&mut bed, "large", "order.created");
    assert!(made == 300 && (301..=306).contains(&rows), "{rows}");
    // Endpoints that don't subscribe count almost nothing.
    let (rows, made) = weigh_event(&mut bed, "large", "only.t7");
    assert!(made == 1 && (2..=7).contains(&rows), "{rows}");
}

fn failed(id: DeliveryId, when: DisableWhen, bed: &Bed) -> Settle {
    let mut settle = settle(id, Verdict::RetryAt(bed.now.plus_ms(1_000)), bed.now);
    settle.disable = Some(Disable {
        when,
        reason: "failing".to_owned(),
        notice: event("org", NOTICE),
    });
    settle
}

#[test]
fn an_outcome_weighs_what_is_said_of_it_where_it_may_switch_its_endpoint_off() {
    let mut bed = Bed::new();
    let partner = bed.endpoint("org", &["order.*"]);
    for _ in 0..40 {
        bed.endpoint("org", &[NOTICE]);
    }
    let first = bed.order();
    let id = pair(&first, &partner);
    let lasting = DisableWhen::RunOf {
        failures: 2,
        lasting_ms: HOUR_MS,
    };
    let weigh = |bed: &Bed, settle: &Settle| {
        let op = Op::Settle(Box::new(settle.clone()));
        bed.reader().scales().rows(&op)
    };
    let success = settle(id, Verdict::Success, bed.now);
    assert_eq!(weigh(&bed, &success), 1);
    let outcome = failed(id, lasting, &bed);
    assert_eq!(weigh(&bed, &outcome), 1, "its run begins with it");
    bed.one(Op::Settle(Box::new(outcome)));
    bed.pass_ms(HOUR_MS);
    let outcome = failed(id, lasting, &bed);
    assert!((41..=43).contains(&weigh(&bed, &outcome)));
    let before = bed.open().len();
    bed.one(Op::Settle(Box::new(outcome.clone())));
    assert_eq!(bed.open().len(), before + 40);
    assert_eq!(weigh(&bed, &outcome), 1, "it is disabled");
    bed.change(partner.id, activate(true));
    let gone = failed(id, DisableWhen::Now, &bed);
    assert!((41..=43).contains(&weigh(&bed, &gone)));
}

#[test]
fn work_in_bulk_weighs_a_step_of_it() {
    let mut bed = Bed::new();
    let partner = bed.endpoint("org", &["*"]);
    let ids: Vec<_> = bed.orders(30).iter().map(|e| pair(e, &partner)).collect();
    let mut advance = AdvanceBulk::nothing(partner.slot);
    advance.events = ids.iter().map(|id| id.event).collect();
    for id in ids {
        bed.settle(id, Verdict::Success);
    }
    let reader = bed.reader();
    let rows = |op| reader.scales().rows(&op);
    assert_eq!(rows(Op::AdvanceBulk(advance)), 31);
    // The minute's window of all endpoints and that of this one.
    assert_eq!(rows(Op::FlushStats(FlushStats)), 3);
    bed.run(FlushStats);
    assert_eq!(rows(Op::FlushStats(FlushStats)), 1);
}
