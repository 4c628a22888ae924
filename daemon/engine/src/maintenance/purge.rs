//! Removes what purges remove, a bounded number of rows at a time, one purge after the other. Readers see the result
//! already.

use super::Maintenance;
use crate::clock;
use crate::writer::SubmitError;
use std::time::Duration;
use stormhook_store::maintenance::{AdvancePurge, Probe};
use stormhook_store::{EventId, Purge, PurgeFound, Slot};

/// How long a purge waits for attempts on the wire, for bulk changes of endpoints that it removes, or after a failure.
const AGAIN: Duration = Duration::from_millis(500);

/// The progress of the purge that began first.
#[derive(Default)]
pub(super) struct Purging {
    /// The organization and the number of the purge.
    of: Option<(String, u64)>,
    /// After which event the walk goes on.
    after: EventId,
    /// Events with deliveries on the wire: they are removed when all others are. No attempt of them begins any more, so
    /// there are no more than attempts may be in flight.
    claimed: Vec<(EventId, Vec<Slot>)>,
    /// Whether the walk has found everything.
    walked: bool,
    /// When the rest is tried again.
    pub(super) again_at: Option<tokio::time::Instant>,
}

impl Purging {
    fn begin(&mut self, purge: &Purge) {
        *self = Self {
            of: Some((purge.organization.clone(), purge.number)),
            ..Self::default()
        };
    }

    fn wait(&mut self) -> bool {
        self.again_at = Some(clock::deadline(AGAIN));
        false
    }
}

impl Maintenance {
    /// Removes part of what a purge removes. Returns false when nothing is left, or everything left must wait.
    pub(super) async fn purge(&self, work: &mut Purging) -> bool {
        if work.again_at.is_some() || self.life.is_stopping() {
            return false;
        }
        let purges = self.reader.purges();
        let is_it = |purge: &&Purge| {
            let of = work.of.as_ref();
            of.is_some_and(|(of, number)| *of == purge.organization && *number == purge.number)
        };
        let purge = match purges.iter().find(is_it) {
            Some(under_way) => under_way,
            None => match purges.iter().min_by_key(|purge| purge.number) {
                Some(first) => {
                    work.begin(first);
                    first
                }
                None => return false,
            },
        };
        let step = if work.walked {
            Ok(PurgeFound {
                events: work.claimed.clone(),
                next: None,
            })
        } else {
            self.reader.purge_step(purge, work.after).await
        };
        let found = match step {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the store can't be read; a purge waits");
                // After a failed read redb refuses all reads until a commit reopens the file.
                if !error.is_damage() {
                    self.writer.post(Probe);
                }
                return work.wait();
            }
        };
        let is_claimed = |(event, slots): &(EventId, Vec<Slot>)| {
            let on_wire = |slot: &Slot| !self.dispatch.claimed_of(*slot, vec![*event]).0.is_empty();
            slots.iter().any(on_wire)
        };
        let (mut claimed, events): (Vec<_>, Vec<_>) =
            found.events.into_iter().partition(is_claimed);
        if !work.walked {
            claimed.extend_from_slice(&work.claimed);
        }
        let ends = found.next.is_none() && claimed.is_empty();
        let mut finished = false;
        if !events.is_empty() || ends {
            match self.advance_purge(purge, events, ends).await {
                Some(done) => finished = done,
                // The same step is made again.
                None => return work.wait(),
            }
        }
        work.after = found.next.unwrap_or(work.after);
        work.walked = found.next.is_none();
        work.claimed = claimed;
        if finished {
            work.of = None;
        }
        // Left are attempts on the wire, or endpoints whose bulk changes are in progress.
        finished || !work.walked || work.wait()
    }

    /// Makes a step. Returns whether the purge is finished; `None` if the step failed.
    async fn advance_purge(
        &self,
        purge: &Purge,
        events: Vec<(EventId, Vec<Slot>)>,
        ends: bool,
    ) -> Option<bool> {
        let ids: Vec<EventId> = events.iter().map(|(event, _)| *event).collect();
        let advance = AdvancePurge {
            organization: purge.organization.clone(),
            number: purge.number,
            events,
            ends,
        };
        match self.writer.submit(advance).await {
            Ok(advanced) if advanced.finished => {
                tracing::info!(
                    organization = purge.organization,
                    "what was to be purged is removed; earlier bytes can remain in free pages until `stormhook compact`"
                );
                Some(true)
            }
            Ok(_) => Some(false),
            Err(SubmitError::Damaged) => {
                let organization = &purge.organization;
                tracing::warn!(
                    organization,
                    events = ?ids,
                    "these events are damaged and can't be purged: run `stormhook check`"
                );
                Some(false)
            }
            Err(error) => {
                tracing::debug!(%error, "a step of a purge failed; it is made again");
                None
            }
        }
    }
}
