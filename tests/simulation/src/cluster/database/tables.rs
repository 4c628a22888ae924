//! The rows of the database, as far as the daemons read and write them.

use super::parts::Parts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) incarnation: i64,
    pub(crate) daemon: Uuid,
    pub(crate) version: String,
    pub(crate) schema: i32,
    pub(crate) address: Option<String>,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) lease_until_ms: f64,
    pub(crate) fenced: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) incarnation: i64,
    pub(crate) commit_no: i64,
    pub(crate) last_event: Uuid,
    pub(crate) last_stamp: i64,
    pub(crate) next_bulk: i64,
    pub(crate) paced_ms: i64,
    pub(crate) swept_before_ms: i64,
    pub(crate) deliveries_swept_before_ms: i64,
    pub(crate) states_upto: Uuid,
    pub(crate) counters: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    pub(crate) owner: Option<i16>,
    pub(crate) epoch: i64,
    pub(crate) states_upto: Uuid,
    pub(crate) adopted: bool,
    pub(crate) rests_until_ms: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) shard: i16,
    pub(crate) organization: String,
    pub(crate) record: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) last_sequence: i64,
    pub(crate) failure_count: i32,
    pub(crate) failing_since_ms: Option<i64>,
    pub(crate) last_success_at_ms: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) occurred_ms: i64,
    pub(crate) occurred_text: Option<i64>,
    pub(crate) deliveries: i32,
    pub(crate) organization: String,
    pub(crate) event_type: String,
    pub(crate) key: Option<String>,
    pub(crate) targets: Vec<u8>,
    pub(crate) data: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) due_ms: i64,
    pub(crate) event: Uuid,
    pub(crate) record: Vec<u8>,
}

/// All tables. A copy shares what neither changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) next_slot: i32,
    pub(crate) seats: BTreeMap<i16, Seat>,
    pub(crate) lanes: BTreeMap<i16, Lane>,
    pub(crate) shards: Arc<BTreeMap<i16, Shard>>,
    pub(crate) endpoints: BTreeMap<i32, Endpoint>,
    pub(crate) states: BTreeMap<i32, State>,
    pub(crate) revisions: BTreeMap<(i32, Uuid), Vec<u8>>,
    pub(crate) events: Parts<Uuid, Arc<Event>>,
    /// By slot and sequence number.
    pub(crate) open: Parts<(i32, i64), Open>,
    /// By slot, sequence number and event.
    pub(crate) done: Parts<(i32, i64, Uuid), Vec<u8>>,
    /// By day and fingerprint.
    pub(crate) keys: Arc<BTreeMap<(i32, Uuid), Uuid>>,
    pub(crate) counters: BTreeMap<(i16, i64, i16), Vec<u8>>,
    pub(crate) windows: Arc<BTreeMap<(i16, i64, i64), Vec<u8>>>,
    pub(crate) audit: Arc<BTreeMap<Uuid, Vec<u8>>>,
    /// The days that have partitions.
    pub(crate) days: BTreeSet<u64>,
}

impl Tables {
    pub(crate) fn new() -> Self {
        Self {
            shards: Arc::new((0..256).map(|n| (n, Shard::default())).collect()),
            ..Self::default()
        }
    }

    pub(crate) fn shards_mut(&mut self) -> &mut BTreeMap<i16, Shard> {
        Arc::make_mut(&mut self.shards)
    }

    /// Returns the endpoints of these shards.
    pub(crate) fn endpoints_of(&self, shards: &[i16]) -> BTreeSet<i32> {
        let of = self.endpoints.iter();
        let of = of.filter(|(_, endpoint)| shards.contains(&endpoint.shard));
        of.map(|(slot, _)| *slot).collect()
    }
}
