//! The one row of `meta`: the state after the last commit.

use crate::batch::Numbers;
use crate::error::StoreError;
use crate::file::record;
use crate::file::sums::Sum;
use crate::file::tables::{ReadTables, Sums};
use crate::ids::{EventId, UnixMs};
use crate::sealing::AtRest;
use serde::{Deserialize, Serialize};

/// The state after the last commit: the one row of `meta`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) commit: u64,
    pub(crate) last_event: EventId,
    pub(crate) last_stamp: u64,
    pub(crate) next_slot: u32,
    pub(crate) next_generation: u64,
    pub(crate) next_bulk: u64,
    /// The last pack that the current pass of the sweep has seen.
    pub(crate) sweep_after: EventId,
    /// Up to when events were swept: the horizon continues from here.
    pub(crate) swept_before: UnixMs,
    /// Up to when deliveries were swept.
    pub(crate) deliveries_swept_before: UnixMs,
    /// The paced time of the last commit: expiry continues from here. 0 if unknown.
    pub(crate) paced: UnixMs,
    /// The sums of the rows of the other tables.
    pub(crate) sums: Sums,
    /// In which form secrets are kept. Follows the other fields in the row, since version 4.
    #[serde(skip)]
    pub(crate) at_rest: AtRest,
    /// The version of the record that this was read from.
    #[serde(skip)]
    pub(crate) version: u8,
}

impl Meta {
    /// Returns the row.
    pub(crate) fn write(&self) -> Result<Vec<u8>, StoreError> {
        record::write("meta", &[0], &(self, self.at_rest))
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            last_event: self.last_event,
            last_stamp: self.last_stamp,
            next_slot: self.next_slot,
            next_bulk: self.next_bulk,
        }
    }

    pub(crate) fn set_numbers(&mut self, numbers: Numbers) {
        let Numbers {
            last_event,
            last_stamp,
            next_slot,
            next_bulk,
        } = numbers;
        self.last_event = last_event;
        self.last_stamp = last_stamp;
        self.next_slot = next_slot;
        self.next_bulk = next_bulk;
    }
}

/// Version 1, without sums and without the paced time.
#[derive(Deserialize)]
struct MetaV1 {
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
            at_rest: AtRest::default(),
            version: 1,
        }
    }
}

/// The fields of version 4 in their order: as now, without the sum of the last table.
type MetaV4 = (
    (u64, EventId, u64, u32, u64, u64),
    (EventId, UnixMs, UnixMs, UnixMs),
    [Sum; 16],
);

pub(crate) fn read_meta(key: &[u8; 1], bytes: &[u8]) -> Result<Meta, StoreError> {
    let (version, content) = record::versioned("meta", key, bytes)?;
    match version {
        1 => record::read_content::<MetaV1>("meta", content).map(Meta::from),
        2 | 3 => {
            // Without the sums of the last tables, which were not there: as if they were empty.
            let mut content = content.to_vec();
            record::content(&mut content, &[Sum::default(); 3])?;
            let meta: Meta = record::read_content("meta", &content)?;
            Ok(Meta { version, ..meta })
        }
        4 => {
            let (old, at_rest): (MetaV4, AtRest) = record::read_content("meta", content)?;
            let mut content = Vec::new();
            record::content(&mut content, &(old, Sum::default()))?;
            let meta: Meta = record::read_content("meta", &content)?;
            Ok(Meta {
                at_rest,
                version,
                ..meta
            })
        }
        _ => {
            let (meta, at_rest): (Meta, AtRest) = record::read_content("meta", content)?;
            Ok(Meta {
                at_rest,
                version,
                ..meta
            })
        }
    }
}

impl ReadTables {
    /// Returns the state after the last commit.
    pub(crate) fn meta(&self) -> Result<Meta, StoreError> {
        match self.meta.get(&[0])? {
            Some(row) => read_meta(&[0], row.value()),
            None => Err(StoreError::damaged("the row of meta", "it is missing")),
        }
    }

    /// Returns the number of the commit of this snapshot.
    pub(crate) fn commit(&self) -> Result<u64, StoreError> {
        self.meta().map(|meta| meta.commit)
    }
}
