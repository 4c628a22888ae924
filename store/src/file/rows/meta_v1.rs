//! The row of `meta` in version 1 of the format.

use super::Meta;
use crate::file::tables::Sums;
use crate::ids::{EventId, UnixMs};
use serde::Deserialize;

/// Version 1, without sums and without the paced time.
#[derive(Deserialize)]
pub(super) struct MetaV1 {
    commit: u64,
    last_event: EventId,
    last_stamp: u64,
    next_slot: u32,
    next_generation: u64,
    next_job: u64,
    sweep_after: EventId,
    swept_before: UnixMs,
    deliveries_swept_before: UnixMs,
}

impl From<MetaV1> for Meta {
    fn from(old: MetaV1) -> Self {
        Self {
            commit: old.commit,
            last_event: old.last_event,
            last_stamp: old.last_stamp,
            next_slot: old.next_slot,
            next_generation: old.next_generation,
            next_bulk: old.next_job,
            sweep_after: old.sweep_after,
            swept_before: old.swept_before,
            deliveries_swept_before: old.deliveries_swept_before,
            paced: UnixMs(0),
            sums: Sums::default(),
            version: 1,
        }
    }
}
