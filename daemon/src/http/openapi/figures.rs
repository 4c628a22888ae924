//! The schema of stats: a flat object whose keys are the contract's, each spelled out.

use super::words::StatsWindow;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// What a figure is.
#[derive(Clone, Copy)]
enum Kind {
    /// A number of things.
    Count,
    /// The same; null under a filter, where it means nothing.
    CountOfAll,
    /// Decimal milliseconds; null of nothing.
    Ms,
    /// From 0 to 1; null of nothing.
    Ratio,
    /// Whole milliseconds.
    WholeMs,
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
        "Deliveries given up.",
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
        "Events that came again under their key.",
    ),
    (
        "idempotency.conflict.count",
        Kind::CountOfAll,
        "Events refused because their key was another event's.",
    ),
    (
        "idempotency.inflight.gauge",
        Kind::CountOfAll,
        "Requests with a key that wait for their commit, now.",
    ),
    (
        "queue.pending",
        Kind::Count,
        "Open deliveries of active endpoints before their first attempt finished, those in flight included, now.",
    ),
    ("queue.retrying", Kind::Count, "The same after it."),
    (
        "queue.held",
        Kind::Count,
        "Open deliveries of inactive endpoints, now.",
    ),
    ("queue.in_flight", Kind::Count, "Attempts on the wire, now."),
    (
        "queue.overdue.ms",
        Kind::WholeMs,
        "How long the oldest due delivery has been waiting, now.",
    ),
];

const TIMES: [(&str, &str); 3] = [
    (
        "delivery.latency",
        "From acceptance to success, of every delivery that succeeded in its first round",
    ),
    (
        "delivery.first_attempt.latency",
        "The same of those that succeeded at their first attempt",
    ),
    ("attempt.duration", "Requests alone"),
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
            Self::Count | Self::WholeMs => (Type::Integer, KnownFormat::Int64, false),
            Self::CountOfAll => (Type::Integer, KnownFormat::Int64, true),
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
            Self::Count | Self::WholeMs => "",
            Self::CountOfAll => " Null under a filter.",
            Self::Ms => " In decimal milliseconds; null of nothing.",
            Self::Ratio => " Null of nothing.",
        }
    }
}

/// See the module.
pub(in crate::http) struct Stats;

impl PartialSchema for Stats {
    fn schema() -> RefOr<Schema> {
        let mut stats = ObjectBuilder::new()
            .description(Some(
                "Counts, percentiles, gauges and targets. Counters commit with the work they count; histograms and the windows of \
                 single endpoints may be 10 s behind. Test pings count nowhere.",
            ))
            .property("window", Ref::from_schema_name(StatsWindow::name()))
            .property("from", instant("Where the window begins."))
            .property("to", instant("Where it ends: now."));
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
                "Rows of the window that are damaged and count nothing here; left out where there are none.",
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

/// A target, and whether it is met.
#[derive(ToSchema)]
#[allow(dead_code, reason = "described, never made")]
struct Slo {
    /// The figure that has a target.
    name: String,
    /// The target: `delivery.first_attempt.latency.avg` below it, `delivery.first_attempt.success.rate` above it.
    target: f64,
    /// The figure; null of nothing.
    #[schema(required)]
    value: Option<f64>,
    /// Whether it is met; null of nothing.
    #[schema(required)]
    met: Option<bool>,
}
