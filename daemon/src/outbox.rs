//! Takes events from an outbox: from that in the store's own database, and from that of `outbox.url`.
//!
//! Events of one organization are submitted together, and the next ones only after those are durable, so they keep their
//! order. Rows are deleted after that. See [`stormhook_postgres::Outbox`].

use crate::app::{App, OutboxCounts};
use crate::config::LiveConfig;
use crate::http::check_event;
use crate::peers::Peers;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stormhook_engine::clock::Moment;
use stormhook_engine::{CommandError, Engine, SubmitError};
use stormhook_postgres::Outbox;
use stormhook_postgres::outbox::{Place, Shards, Written};
use stormhook_store::{AcceptEmitted, Refusal, StoreError};

/// How long to wait after a failure, and while events can't be accepted.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A look takes at most this part of the time: it is slow while an old transaction keeps deleted rows.
const REST: u32 = 4;

/// Takes events from one outbox.
struct Relay {
    engine: Engine,
    config: LiveConfig,
    outbox: Outbox,
    /// The other daemons of the store.
    peers: Option<Arc<Peers>>,
    taken: Arc<OutboxCounts>,
}

/// What becomes of an event.
type Decided = (Place, Option<String>);

/// What a look came to.
enum Look {
    /// There was nothing.
    Empty,
    /// Some events were taken.
    Took,
    /// There are events, and none can be accepted at the moment.
    Waits,
}

/// Takes events from an outbox until the daemon stops. `place` names its database in the log.
pub(crate) fn take_from(
    outbox: Outbox,
    place: String,
    engine: &Engine,
    config: &LiveConfig,
    app: &App,
) {
    let relay = Relay {
        engine: engine.clone(),
        config: config.clone(),
        outbox,
        peers: app.peers().cloned(),
        taken: Arc::clone(app.outbox()),
    };
    tokio::spawn(relay.run(place));
}

impl Relay {
    async fn run(mut self, place: String) {
        let mut is_failing = false;
        while !self.engine.life().is_stopping() {
            let began = Moment::now();
            let rest = match self.look().await {
                Ok(look) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!(place, "events are taken from the outbox again");
                    }
                    match look {
                        Look::Took => Duration::ZERO,
                        Look::Empty => self.config.now().outbox.poll.max(began.elapsed() * REST),
                        Look::Waits => AGAIN_AFTER,
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(place, %error, "events can't be taken from the outbox; it is tried every second");
                    }
                    AGAIN_AFTER
                }
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// Takes the first events of the outbox.
    async fn look(&mut self) -> Result<Look, StoreError> {
        let event_bytes = self.config.now().limits.event_bytes;
        self.outbox.limit(event_bytes).await?;
        let shards = match &self.peers {
            Some(peers) => peers.cluster.outbox_shards(),
            None => Shards::all(),
        };
        let written = self.outbox.read(&shards).await?;
        let ages = written.iter().map(|written| written.age_ms);
        let oldest_ms = ages.max().unwrap_or(0).max(0);
        self.taken.oldest_ms.store(oldest_ms, Ordering::Relaxed);
        if written.is_empty() {
            return Ok(Look::Empty);
        }
        let (groups, mut decided) = sort(written, event_bytes);
        for accepted in join_all(groups.into_values().map(|group| self.accept(group))).await {
            decided.extend(accepted);
        }
        if decided.is_empty() {
            return Ok(Look::Waits);
        }
        self.outbox.take(&decided).await?;
        self.count(&decided);
        Ok(Look::Took)
    }

    /// Accepts events of one organization. Returns those that are decided.
    async fn accept(&self, group: Group) -> Vec<Decided> {
        let Group { places, emitted } = group;
        match self.engine.submit(emitted).await {
            Ok(decided) => {
                let reason = |refusal: Refusal| refusal.to_string();
                let decided = decided.into_iter().map(|one| one.err().map(reason));
                places.into_iter().zip(decided).collect()
            }
            // The first one met damage. Nothing else of the store is affected.
            Err(CommandError::Submit(SubmitError::Damaged)) => {
                let reason =
                    "the record of an earlier event, which it must be compared with, is damaged";
                let first = places.into_iter().take(1);
                first
                    .map(|place| (place, Some(reason.to_owned())))
                    .collect()
            }
            Err(error) => {
                tracing::debug!(%error, "events of an outbox wait");
                Vec::new()
            }
        }
    }

    fn count(&self, decided: &[Decided]) {
        let mut reasons = decided.iter().filter_map(|(_, reason)| reason.as_ref());
        let first = reasons.next();
        let rejected = first.iter().count() + reasons.count();
        if let Some(reason) = first {
            tracing::warn!(
                rejected,
                reason,
                "events of the outbox can't be accepted; they are in the table outbox_rejected"
            );
        }
        let count = |counter: &AtomicU64, more: usize| {
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            counter.fetch_add(more, Ordering::Relaxed);
        };
        count(&self.taken.accepted, decided.len() - rejected);
        count(&self.taken.rejected, rejected);
    }
}

/// Events of one organization, with their places.
struct Group {
    places: Vec<Place>,
    emitted: AcceptEmitted,
}

/// Sorts events by organization, and rejects those that no caller could send either.
fn sort(written: Vec<Written>, event_bytes: usize) -> (HashMap<String, Group>, Vec<Decided>) {
    let mut groups: HashMap<String, Group> = HashMap::new();
    let mut rejected = Vec::new();
    for Written { place, emitted, .. } in written {
        if let Err(reason) = check_event(&emitted.event, event_bytes) {
            rejected.push((place, Some(reason)));
            continue;
        }
        let organization = emitted.event.organization.clone();
        let group = groups
            .entry(organization)
            .or_insert_with_key(|organization| Group {
                places: Vec::new(),
                emitted: AcceptEmitted {
                    organization: organization.clone(),
                    events: Vec::new(),
                },
            });
        group.places.push(place);
        group.emitted.events.push(emitted);
    }
    (groups, rejected)
}
