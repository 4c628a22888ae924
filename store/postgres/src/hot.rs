//! The statements that must stay fast however many rows there are, by name: `tests/plans.rs` looks at their plans. They are
//! the very texts that are prepared.

use crate::read::{
    BETWEEN, DELIVERIES_AFTER, EVENT, EVENTS_BEFORE, MISSED, NAMED, NEWEST_BY_KEY, OF_ENDPOINT,
    UNDELIVERED,
};
use crate::write::{DELETE_OPEN, PUT_OPEN};
use crate::{fetch, load};

/// `plan_cache_mode` of the store's connections.
pub const PLAN_CACHE_MODE: &str = crate::link::PLANS;

/// All of them, each with its name. `@` stands for the schema.
pub const STATEMENTS: &[(&str, &str)] = &[
    ("fetch: open deliveries", fetch::OPEN_DELIVERIES),
    ("fetch: deliveries of events", fetch::TARGETS),
    ("fetch: deliveries by number", fetch::BY_NUMBER),
    ("fetch: deliveries with a row", fetch::WITH_ROW),
    ("fetch: events", fetch::EVENTS),
    ("fetch: keys", fetch::KEYS),
    ("load: endpoints", load::ENDPOINTS),
    ("load: states", load::STATES),
    ("load: sequence numbers", load::NUMBERS_SINCE),
    ("load: waiting", load::WAITING),
    ("load: count", load::OPEN_COUNT),
    ("read: event", EVENT),
    ("list: deliveries of an endpoint", OF_ENDPOINT),
    ("list: undelivered", UNDELIVERED),
    ("list: events", EVENTS_BEFORE),
    ("list: event by key", NEWEST_BY_KEY),
    ("bulk: deliveries", DELIVERIES_AFTER),
    ("bulk: missed events", MISSED),
    ("purge: events of a span", BETWEEN),
    ("purge: events by id", NAMED),
    ("write: delete open", DELETE_OPEN),
    ("write: put open", PUT_OPEN),
];
