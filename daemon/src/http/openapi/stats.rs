//! The schema of stats: a flat object whose keys are the contract's, each spelled out.

use super::enums::StatsWindow;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// The kind of a figure.
#[derive(Clone, Copy)]
enum Kind {
    /// A count.
    Count,
    /// A count; null under a filter, where it has no meaning.
    CountOfAll,
    /// Decimal milliseconds; null if nothing was counted.
    Ms,
    /// A number from 0 to 1; null if nothing was counted.
    Ratio,
    /// A number of now; null if another daemon doesn't tell its own.
    Gauge,
}

const FIGURES: [(&str, Kind, &str); 13] = [
    (
        "delivery.success.count",
        Kind::Count,
        "Attempts that succeeded.",
    ),
    (
        "delivery.failure.count",
        Kind::Count,
        "Attempts that failed.",
    ),
    (
        "delivery.abandoned.count",
        Kind::Count,
        "Deliveries that ended as `ABANDONED`.",
    ),
    (
        "delivery.first_attempt.success.rate",
        Kind::Ratio,
        "Share of first attempts that succeeded.",
    ),
    (
        "ingest.accepted.count",
        Kind::CountOfAll,
        "Events accepted.",
    ),
    (
        "idempotency.replay.count",
        Kind::CountOfAll,
        "Events that were sent again under their key.",
    ),
    (
        "idempotency.conflict.count",
        Kind::CountOfAll,
        "Events refused because their key was used for another event.",
    ),
    (
        "idempotency.inflight.gauge",
        Kind::CountOfAll,
        "Requests with a key that are waiting for their commit, now.",
    ),
    (
        "queue.pending",
        Kind::Gauge,
        "Open deliveries of active endpoints without a finished attempt in their round, including those in flight, now.",
    ),
    (
        "queue.retrying",
        Kind::Gauge,
        "Open deliveries of active endpoints that have failed in their round, including those in flight, now.",
    ),
    (
        "queue.held",
        Kind::Gauge,
        "Open deliveries of inactive endpoints, now.",
    ),
    ("queue.in_flight", Kind::Gauge, "Attempts on the wire, now."),
    (
        "queue.overdue.ms",
        Kind::Gauge,
        "How long the oldest due delivery has been waiting, now, in whole milliseconds.",
    ),
];

const TIMES: [(&str, &str); 3] = [
    (
        "delivery.latency",
        "Time from acceptance to success, of deliveries that succeeded in their first round",
    ),
    (
        "delivery.first_attempt.latency",
        "Time from acceptance to success, of deliveries that succeeded at their first attempt",
    ),
    (
        "attempt.duration",
        "Time taken by the request of each attempt",
    ),
];

const PARTS: [(&str, &str); 6] = [
    ("p50", "median"),
    ("p90", "90th percentile"),
    ("p95", "95th percentile"),
    ("p99", "99th percentile"),
    ("max", "longest"),
    ("avg", "mean"),
];

impl Kind {
    fn schema(self) -> ObjectBuilder {
        let (kind, format, nullable) = match self {
            Self::Count => (Type::Integer, KnownFormat::Int64, false),
            Self::CountOfAll | Self::Gauge => (Type::Integer, KnownFormat::Int64, true),
            Self::Ms | Self::Ratio => (Type::Number, KnownFormat::Double, true),
        };
        let kind = if nullable {
            SchemaType::from_iter([kind, Type::Null])
        } else {
            SchemaType::Type(kind)
        };
        let schema = ObjectBuilder::new()
            .schema_type(kind)
            .format(Some(SchemaFormat::KnownFormat(format)))
            .minimum(Some(0));
        match self {
            Self::Ratio => schema.maximum(Some(1)),
            _ => schema,
        }
    }

    fn note(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Gauge => {
                " Null if another daemon on the same database does not tell its own within 500 ms."
            }
            Self::CountOfAll => " Null under a filter.",
            Self::Ms => " In decimal milliseconds; null if nothing was counted.",
            Self::Ratio => " Null if nothing was counted.",
        }
    }
}

/// See the module.
pub(in crate::http) struct Stats;

impl PartialSchema for Stats {
    fn schema() -> RefOr<Schema> {
        let mut stats = ObjectBuilder::new()
            .description(Some(
                "Counts, percentiles, gauges and targets. Counters are committed with the work they count; histograms and the windows of \
                 single endpoints may lag by 10 s. Test pings are not counted.",
            ))
            .property("window", Ref::from_schema_name(StatsWindow::name()))
            .property("from", instant("The start of the window."))
            .property("to", instant("The end of the window: now."));
        let mut names = vec!["window".to_owned(), "from".to_owned(), "to".to_owned()];
        let times = TIMES.iter().flat_map(|(name, what)| {
            PARTS.map(|(part, called)| {
                (
                    format!("{name}.{part}"),
                    Kind::Ms,
                    format!("{what}: {called}."),
                )
            })
        });
        let figures = FIGURES.map(|(name, kind, what)| (name.to_owned(), kind, what.to_owned()));
        for (name, kind, what) in figures.into_iter().chain(times) {
            let described = format!("{what}{}", kind.note());
            stats = stats.property(&name, kind.schema().description(Some(described)));
            names.push(name);
        }
        let slo = ArrayBuilder::new()
            .items(Ref::from_schema_name(Slo::name()))
            .description(Some("The targets, and whether they are met."));
        stats = stats.property("slo", slo).property(
            "damaged.rows",
            Kind::Count.schema().description(Some(
                "Damaged rows of the window, which are not counted; omitted if there are none.",
            )),
        );
        names.push("slo".to_owned());
        names
            .into_iter()
            .fold(stats, |stats, name| stats.required(name))
            .into()
    }
}

impl ToSchema for Stats {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((StatsWindow::name().into_owned(), StatsWindow::schema()));
        schemas.push((Slo::name().into_owned(), Slo::schema()));
    }
}

fn instant(what: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some(what))
}

/// A target and whether it is met.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described, never made")]
struct Slo {
    /// The figure that has a target.
    name: String,
    /// The target. `delivery.first_attempt.latency.avg` must be below it, `delivery.first_attempt.success.rate` above
    /// it.
    target: f64,
    /// The current value; null if nothing was counted.
    #[schema(required)]
    value: Option<f64>,
    /// Whether the target is met; null if nothing was counted.
    #[schema(required)]
    met: Option<bool>,
}
