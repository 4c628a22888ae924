//! The tables and their keys: fixed width, big-endian, time first, so that byte order is time order and rows of one
//! commit are stored together. `store/FORMAT.md` describes the bytes.

use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::rare::Rare;
pub(crate) use crate::file::sums::Raw;
use crate::file::sums::{Sum, Writing};
use crate::ids::{ApiKeyId, AuditId, DeliveryId, EventId, Slot, UnixMs};
use crate::stats::Level;
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

type Bytes = &'static [u8];
pub(crate) type Def<const N: usize> = TableDefinition<'static, &'static [u8; N], Bytes>;
pub(crate) type Reading<const N: usize> = ReadOnlyTable<&'static [u8; N], Bytes>;

macro_rules! tables {
    (
        $(#[$meta_doc:meta])* $meta:ident: $META:ident[$meta_width:literal], without a sum;
        $($(#[$doc:meta])* $field:ident: $name:ident[$width:literal];)*
        @rarely { $($(#[$rare_doc:meta])* $rare:ident: $RARE:ident[$rare_width:literal];)* }
    ) => {
        $(#[$meta_doc])* pub(crate) const $META: Def<$meta_width> = TableDefinition::new(stringify!($meta));
        $($(#[$doc])* pub(crate) const $name: Def<$width> = TableDefinition::new(stringify!($field));)*
        $($(#[$rare_doc])* pub(crate) const $RARE: Def<$rare_width> = TableDefinition::new(stringify!($rare));)*

        /// The sums of the rows of each table.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) struct Sums {
            $($(#[$doc])* pub(crate) $field: Sum,)*
            $($(#[$rare_doc])* pub(crate) $rare: Sum,)*
        }

        impl Sums {
            /// Returns the sum of the table with this name. `meta` has none.
            pub(crate) fn of(&self, table: &str) -> Option<Sum> {
                match table {
                    $(stringify!($field) => Some(self.$field),)*
                    $(stringify!($rare) => Some(self.$rare),)*
                    _ => None,
                }
            }
        }

        /// Every table, in one write transaction. Opening one costs about a hundredth of a commit, so those that few
        /// commits change are opened when they are used.
        pub(crate) struct Tables<'t> {
            $(#[$meta_doc])* pub(crate) $meta: Raw<'t, $meta_width>,
            $($(#[$doc])* pub(crate) $field: Writing<'t, $width>,)*
            $($(#[$rare_doc])* pub(crate) $rare: Rare<'t, $rare_width>,)*
        }

        impl<'t> Tables<'t> {
            /// Opens the tables; `sums` are those of the last commit.
            pub(crate) fn open(txn: &'t WriteTransaction, sums: &Sums) -> Result<Self, StoreError> {
                // If the engine panics it leaves its lock poisoned, and closing an open table would panic again. So
                // each panic is caught here, and the open tables are left open: they end with the transaction.
                let mut failed = None;
                let $meta = opened(&mut failed, || txn.open_table($META));
                $(let $field = opened(&mut failed, || txn.open_table($name));)*
                match ($meta, $($field,)*) {
                    (Some($meta), $(Some($field),)*) => Ok(Self {
                        $meta,
                        $($field: Writing::new($field, sums.$field),)*
                        $($rare: Rare::new(txn, $RARE, sums.$rare),)*
                    }),
                    left_open => {
                        std::mem::forget(left_open);
                        Err(failed.unwrap_or_else(|| StoreError::damaged("the file's list of tables", "no table opened")))
                    }
                }
            }

            /// Makes those that are opened when they are used, in a file that may not have them yet.
            pub(crate) fn make_rare(&mut self) -> Result<(), StoreError> {
                $(self.$rare.opened()?;)*
                Ok(())
            }

            /// Computes the sums of a file that has none.
            pub(crate) fn sum_up(&mut self) -> Result<(), StoreError> {
                $(let sum = sum_of_readable(&*self.$field)?; self.$field.set_sum(sum);)*
                Ok(())
            }

            /// Returns the sums including the changes of this transaction.
            pub(crate) fn sums(&self) -> Sums {
                Sums {
                    $($field: self.$field.sum(),)*
                    $($rare: self.$rare.sum(),)*
                }
            }
        }

        /// Every table, open in one read transaction.
        pub(crate) struct ReadTables {
            $(#[$meta_doc])* pub(crate) $meta: Reading<$meta_width>,
            $($(#[$doc])* pub(crate) $field: Reading<$width>,)*
            $($(#[$rare_doc])* pub(crate) $rare: Reading<$rare_width>,)*
        }

        impl ReadTables {
            pub(crate) fn open(txn: &ReadTransaction) -> Result<Self, StoreError> {
                Ok(Self {
                    $meta: txn.open_table($META)?,
                    $($field: txn.open_table($name)?,)*
                    $($rare: txn.open_table($RARE)?,)*
                })
            }

            /// Writes every row into the tables of a file that has none yet.
            pub(crate) fn copy_to<C: Copies>(&self, txn: &WriteTransaction, copying: &mut C) -> Result<(), C::Error> {
                copying.table(stringify!($meta), &self.$meta, &mut txn.open_table($META)?)?;
                $(copying.table(stringify!($field), &self.$field, &mut txn.open_table($name)?)?;)*
                $(copying.table(stringify!($rare), &self.$rare, &mut txn.open_table($RARE)?)?;)*
                Ok(())
            }

            /// For each table, the bytes of keys and values, of the tree around them, and of unused space.
            pub(crate) const BYTES: &[fn(&Self) -> Result<(u64, u64, u64), StoreError>] = &[
                |views| bytes_of(&views.$meta),
                $(|views| bytes_of(&views.$field),)*
                $(|views| bytes_of(&views.$rare),)*
            ];
        }
    };
}

/// Copies one table after another of a snapshot.
pub(crate) trait Copies {
    /// Why the copy ends early.
    type Error: From<redb::TableError>;

    /// Writes the rows of one table into another, which is empty.
    fn table<const N: usize>(
        &mut self,
        name: &str,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<(), Self::Error>;
}

/// Sums the rows of a table up to the first page that can't be read. That page is damage, which `check` names.
fn sum_of_readable<const N: usize>(
    table: &impl ReadableTable<&'static [u8; N], Bytes>,
) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    let read = guarded(|| {
        for row in table.iter()? {
            let (key, value) = row?;
            sum.add(key.value(), value.value());
        }
        Ok(())
    });
    match read {
        Err(e) if !e.is_damage() => Err(e),
        _ => Ok(sum),
    }
}

fn opened<T>(
    failed: &mut Option<StoreError>,
    open: impl FnOnce() -> Result<T, redb::TableError>,
) -> Option<T> {
    match guarded(|| Ok(open()?)) {
        Ok(table) => Some(table),
        Err(e) => {
            failed.get_or_insert(e);
            None
        }
    }
}

fn bytes_of<const N: usize>(table: &Reading<N>) -> Result<(u64, u64, u64), StoreError> {
    let stats = table.stats()?;
    Ok((
        stats.stored_bytes(),
        stats.metadata_bytes(),
        stats.fragmented_bytes(),
    ))
}

tables! {
    /// One row, key 0: the last commit and the state after it.
    meta: META[1], without a sum;
    /// slot → settings.
    endpoints: ENDPOINTS[4];
    /// slot → running state, as of the last fold.
    states: STATES[4];
    /// slot, first event id → revision.
    revisions: REVISIONS[20];
    /// first event id → the events of one commit.
    packs: PACKS[16];
    /// event id, slot → delivery.
    deliveries: DELIVERIES[20];
    /// due ms, event id, slot → an open delivery's place in the queue.
    due: DUE[28];
    /// event id, slot → nothing: an abandoned or failed delivery.
    bad: BAD[20];
    /// commit → its changes to the lazily written tables.
    journal: JOURNAL[8];
    /// generation → its bounds and the Bloom filter of its keys.
    generations: GENERATIONS[8];
    /// generation, slot → event ids in order of sequence.
    history: HISTORY[12];
    /// generation, first fingerprint → a sorted block of idempotency keys.
    keys: KEYS[24];
    /// level, start ms → counters of all endpoints.
    counters: COUNTERS[9];
    /// level, start ms, slot → histograms, and the counters of one endpoint.
    windows: WINDOWS[13];
    /// slot, number → a bulk change in progress.
    bulk: BULK[12];
    @rarely {
        /// id → an API key.
        api_keys: API_KEYS[16];
        /// id → an entry of the audit log.
        audit: AUDIT[16];
        /// number → a purge in progress.
        purges: PURGES[8];
    }
}

pub(crate) fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    for (to, from) in key
        .iter_mut()
        .zip(parts.iter().flat_map(|part| part.iter()))
    {
        *to = *from;
    }
    key
}

/// Returns `width` bytes of a key from `at` on, as a number.
pub(crate) fn number(key: &[u8], at: usize, width: usize) -> u128 {
    key.iter()
        .skip(at)
        .take(width)
        .fold(0, |acc, &b| (acc << 8) | u128::from(b))
}

fn number_u64(key: &[u8], at: usize) -> u64 {
    u64::try_from(number(key, at, 8)).unwrap_or(u64::MAX)
}

fn number_u32(key: &[u8], at: usize) -> u32 {
    u32::try_from(number(key, at, 4)).unwrap_or(u32::MAX)
}

/// Returns the key of an endpoint.
pub fn slot_key(slot: Slot) -> [u8; 4] {
    slot.0.to_be_bytes()
}

pub(crate) fn slot_of(key: &[u8; 4]) -> Slot {
    Slot(u32::from_be_bytes(*key))
}

pub(crate) fn event_key(event: EventId) -> [u8; 16] {
    event.0.to_be_bytes()
}

pub(crate) fn api_key_key(id: ApiKeyId) -> [u8; 16] {
    id.0.to_be_bytes()
}

pub(crate) fn api_key_of(key: &[u8; 16]) -> ApiKeyId {
    ApiKeyId(u128::from_be_bytes(*key))
}

pub(crate) fn audit_key(id: AuditId) -> [u8; 16] {
    id.0.to_be_bytes()
}

pub(crate) fn audit_of(key: &[u8; 16]) -> AuditId {
    AuditId(u128::from_be_bytes(*key))
}

pub(crate) fn event_of(key: &[u8; 16]) -> EventId {
    EventId(u128::from_be_bytes(*key))
}

pub(crate) fn revision_key(slot: Slot, from: EventId) -> [u8; 20] {
    join(&[&slot.0.to_be_bytes(), &from.0.to_be_bytes()])
}

pub(crate) fn revision_of(key: &[u8; 20]) -> (Slot, EventId) {
    (Slot(number_u32(key, 0)), EventId(number(key, 4, 16)))
}

/// Returns the key of a delivery.
pub fn delivery_key(id: DeliveryId) -> [u8; 20] {
    join(&[&id.event.0.to_be_bytes(), &id.slot.0.to_be_bytes()])
}

pub(crate) fn delivery_of(key: &[u8; 20]) -> DeliveryId {
    DeliveryId {
        event: EventId(number(key, 0, 16)),
        slot: Slot(number_u32(key, 16)),
    }
}

/// Returns the key of `due`: a time, then the pair.
pub(crate) fn timed_key(at: UnixMs, id: DeliveryId) -> [u8; 28] {
    join(&[
        &at.0.to_be_bytes(),
        &id.event.0.to_be_bytes(),
        &id.slot.0.to_be_bytes(),
    ])
}

pub(crate) fn timed_of(key: &[u8; 28]) -> (UnixMs, DeliveryId) {
    let id = DeliveryId {
        event: EventId(number(key, 8, 16)),
        slot: Slot(number_u32(key, 24)),
    };
    (UnixMs(number_u64(key, 0)), id)
}

pub(crate) fn count_key(count: u64) -> [u8; 8] {
    count.to_be_bytes()
}

pub(crate) fn count_of(key: &[u8; 8]) -> u64 {
    u64::from_be_bytes(*key)
}

pub(crate) fn history_key(generation: u64, slot: Slot) -> [u8; 12] {
    join(&[&generation.to_be_bytes(), &slot.0.to_be_bytes()])
}

pub(crate) fn history_of(key: &[u8; 12]) -> (u64, Slot) {
    (number_u64(key, 0), Slot(number_u32(key, 8)))
}

/// Returns the key of a bulk change.
pub fn bulk_key(slot: Slot, number: u64) -> [u8; 12] {
    join(&[&slot.0.to_be_bytes(), &number.to_be_bytes()])
}

pub(crate) fn bulk_of(key: &[u8; 12]) -> (Slot, u64) {
    (Slot(number_u32(key, 0)), number_u64(key, 4))
}

pub(crate) fn generation_of_block(key: &[u8; 24]) -> u64 {
    number_u64(key, 0)
}

pub(crate) fn block_key(generation: u64, fingerprint: u128) -> [u8; 24] {
    join(&[&generation.to_be_bytes(), &fingerprint.to_be_bytes()])
}

pub(crate) fn counters_key(level: Level, start: UnixMs) -> [u8; 9] {
    join(&[&[level.byte()], &start.0.to_be_bytes()])
}

pub(crate) fn counters_start(key: &[u8; 9]) -> UnixMs {
    UnixMs(number_u64(key, 1))
}

pub(crate) fn window_key(level: Level, start: UnixMs, slot: Slot) -> [u8; 13] {
    join(&[
        &[level.byte()],
        &start.0.to_be_bytes(),
        &slot.0.to_be_bytes(),
    ])
}

pub(crate) fn window_of(key: &[u8; 13]) -> (UnixMs, Slot) {
    (UnixMs(number_u64(key, 1)), Slot(number_u32(key, 9)))
}

/// Returns the level in a key of counters or of a window.
pub(crate) fn level_of(key: &[u8]) -> Option<Level> {
    let byte = key.first().copied();
    Level::ALL
        .into_iter()
        .find(|level| Some(level.byte()) == byte)
}
