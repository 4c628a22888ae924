//! What was done to many deliveries at once: a mark of an endpoint ends what is open, a recovery opens what ended badly. Both hold before
//! they are written out, and this says what a delivery is then. It reads and writes nothing.

use crate::delivery::{Delivery, Trigger};
use crate::endpoint::{EndedUpTo, Endpoint};
use crate::rows::{Job, Jobs};

/// How many rows one step of work in bulk writes.
pub const ROWS_PER_STEP: usize = 1_000;

/// The delivery as readers see it: what was done to many at once holds before it is worked off.
pub(crate) fn as_read(stored: Delivery, endpoint: Option<&Endpoint>, jobs: &Jobs) -> Delivery {
    moves(&stored, endpoint, jobs).pop().unwrap_or(stored)
}

/// Whether a stored delivery is open, or reads as open because a recover had no room for its round yet.
pub(crate) fn reads_as_open(stored: &Delivery, endpoint: Option<&Endpoint>, jobs: &Jobs) -> bool {
    let read = || as_read(stored.clone(), endpoint, jobs).status.is_open();
    stored.due.is_some() || (!jobs.is_empty() && read())
}

/// What a stored delivery has become since by what was done to many at once, one move after the other. A mark of its endpoint
/// ends what is open, a recover after that opens what ended badly, and a later mark ends it again: stamps tell which came first.
pub(crate) fn moves(stored: &Delivery, endpoint: Option<&Endpoint>, jobs: &Jobs) -> Vec<Delivery> {
    let mut moves = Vec::new();
    let last = |moves: &Vec<Delivery>| moves.last().unwrap_or(stored).clone();
    let mark_over = |d: &Delivery| {
        let mark = endpoint.and_then(|e| e.mark_over(d.opened));
        mark.filter(|_| d.status.is_open())
    };
    let first = mark_over(stored);
    if let Some(mark) = first {
        moves.extend(ended(last(&moves), mark));
    }
    let recovers = |job: &&Job| {
        let was_bad = stored.status.is_bad() || first.is_some_and(|mark| mark.stamp < job.stamp);
        was_bad && job.recovers(stored)
    };
    if let Some(job) = jobs.values().find(recovers) {
        let mut opened = last(&moves);
        opened.reopened(Trigger::Replay, job.stamp, job.at);
        let second = mark_over(&opened);
        moves.push(opened);
        if let Some(mark) = second {
            moves.extend(ended(last(&moves), mark));
        }
    }
    moves
}

/// What a mark makes of an open delivery; `None` of one that has ended.
fn ended(mut d: Delivery, mark: &EndedUpTo) -> Option<Delivery> {
    d.ended_in_bulk(mark.reason, mark.at).ok().map(|()| d)
}
