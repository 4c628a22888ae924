//! The workloads that are counted: everything done for each event and delivery, and a receiver's check. The inputs are
//! always the same. Hash tables are seeded by the system, which changes a count by less than the tolerance.

use crate::support::fixture::{self, ID, NOW, NOW_S, SECRET};
use crate::support::store_fixture::StoreFixture;
use crate::support::turns::Turns;
use bytes::Bytes;
use std::hint::black_box;
use stormhook_engine::payload::{AttemptHead, Partner, render};
use stormhook_store::{DeliveryId, Event, EventId, Op, Slot};
use stormhook_verifier::{Secret, SigningKeys, StandardVerifier, StormcomVerifier};

pub(crate) type Work = Box<dyn FnMut()>;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Prepares a call; this is not counted.
    pub(crate) prepare: fn() -> Work,
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "sign 1 KiB, v1",
        prepare: sign_v1,
    },
    Workload {
        name: "sign 1 KiB, stormcom",
        prepare: sign_stormcom,
    },
    Workload {
        name: "verify 1 KiB, v1",
        prepare: verify_v1,
    },
    Workload {
        name: "verify 1 KiB, stormcom",
        prepare: verify_stormcom,
    },
    Workload {
        name: "read an event of 1 KiB",
        prepare: read_event,
    },
    Workload {
        name: "render a delivery's body and headers",
        prepare: render_delivery,
    },
    Workload {
        name: "schedule: one is added, claimed and ends; 10,000 open",
        prepare: schedule_turn,
    },
    Workload {
        name: "store: a commit of one event",
        prepare: store_accept,
    },
    Workload {
        name: "store: a commit of one outcome",
        prepare: store_settle,
    },
    Workload {
        name: "read an event, render its delivery, encode its outcome",
        prepare: hot_path,
    },
];

fn keys() -> SigningKeys {
    SigningKeys::new([&Secret::parse(SECRET).expect("a secret")])
}

fn body() -> Bytes {
    fixture::requests(1).swap_remove(0)
}

fn sign_v1() -> Work {
    let (keys, body) = (keys(), body());
    Box::new(move || {
        black_box(keys.standard_signature(ID, NOW_S, black_box(&body)));
    })
}

fn sign_stormcom() -> Work {
    let (keys, body) = (keys(), body());
    Box::new(move || {
        black_box(keys.stormcom_signature(black_box(&body)));
    })
}

fn verify_v1() -> Work {
    let (verifier, body) = (StandardVerifier::new(SECRET).expect("a secret"), body());
    let signature = keys().standard_signature(ID, NOW_S, &body).expect("signed");
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", ID.to_owned()),
        ("webhook-timestamp", NOW_S.to_string()),
        ("webhook-signature", signature),
    ];
    Box::new(move || {
        let outcome = verifier.verify_at(&headers, black_box(&body), NOW_S);
        assert!(outcome.is_ok());
    })
}

fn verify_stormcom() -> Work {
    let (verifier, body) = (StormcomVerifier::new(SECRET).expect("a secret"), body());
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("x-stormcom-signature", keys().stormcom_signature(&body)),
    ];
    Box::new(move || assert!(verifier.verify(&headers, black_box(&body)).is_ok()))
}

fn read_event() -> Work {
    let body = body();
    Box::new(move || {
        black_box(fixture::read(black_box(&body)));
    })
}

/// Renders the body and headers of an event's first attempt, and returns them with its delivery.
fn delivery(event: &Event, partner: &Partner) -> DeliveryId {
    let delivery = DeliveryId {
        event: event.id,
        slot: Slot(0),
    };
    let head = AttemptHead {
        event,
        delivery,
        sequence: 42,
        attempt: 1,
    };
    let body = render(event, 42).expect("it has data");
    black_box(partner.headers(head, &body, NOW));
    black_box(body);
    delivery
}

fn render_delivery() -> Work {
    let event = fixture::stored(fixture::read(&body()), EventId(1 << 100));
    let partner = fixture::partner(None);
    Box::new(move || {
        delivery(black_box(&event), &partner);
    })
}

fn schedule_turn() -> Work {
    let mut turns = Turns::new(100, 10_000, 64);
    Box::new(move || turns.turn())
}

/// More than are used.
const PREPARED: usize = 256;

fn store_accept() -> Work {
    let mut bed = StoreFixture::new(&std::env::temp_dir(), 1);
    let mut ops = bed.accepts(PREPARED).into_iter();
    Box::new(move || {
        black_box(bed.apply(ops.by_ref().take(1).collect()));
    })
}

fn store_settle() -> Work {
    let mut bed = StoreFixture::new(&std::env::temp_dir(), 1);
    let deliveries = bed.deliveries(PREPARED);
    let mut ops = bed.settles(&deliveries).into_iter();
    Box::new(move || {
        black_box(bed.apply(ops.by_ref().take(1).collect()));
    })
}

fn hot_path() -> Work {
    let (body, partner) = (body(), fixture::partner(None));
    Box::new(move || {
        let event = fixture::stored(fixture::read(black_box(&body)), EventId(1 << 100));
        let delivery = delivery(&event, &partner);
        black_box(Op::Settle(Box::new(fixture::settle(delivery, NOW))));
    })
}
