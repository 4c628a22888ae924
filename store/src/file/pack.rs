//! Packs: the events of one commit in one compressed value, and the cache of recently used packs.
//!
//! Packing makes the file a third of the size that one row per event would need, and file size determines the cost of a
//! commit, a restart and a backup (docs/adr/0001-store-layout.md).

use crate::error::StoreError;
use crate::event::Event;
use crate::file::record;
use crate::file::tables;
use crate::ids::EventId;
use redb::ReadableTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of events in one pack before compression; a larger event has its own pack.
pub(crate) const PACK_BYTES: usize = 64 << 10;
/// Memory for unpacked events.
const CACHE_BYTES: usize = 16 << 20;
/// zstd's fastest ordinary level: higher ones cost more than they save on a few hundred bytes of JSON.
const LEVEL: i32 = 1;
/// The maximum unpacked size of one pack: a full one and an event of the largest configurable size.
const UNPACKED_LIMIT: usize = 32 << 20;
/// Last event id and unpacked length: they precede the compressed part, so that a reader can skip a pack.
const HEAD_BYTES: usize = 20;

/// The events of one pack, in order of id.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) events: Vec<Arc<Event>>,
    bytes: usize,
}

/// Returns the size of an event in memory and, approximately, in a pack.
pub(crate) fn size_of(event: &Event) -> usize {
    event.data.as_ref().map_or(0, Vec::len) + event.organization.len() + event.event_type.len() + 96
}

impl Pack {
    pub(crate) fn new(events: Vec<Arc<Event>>) -> Self {
        let bytes = events.iter().map(|e| size_of(e)).sum();
        Self { events, bytes }
    }

    pub(crate) fn find(&self, id: EventId) -> Option<Arc<Event>> {
        let at = self.events.binary_search_by_key(&id, |e| e.id).ok()?;
        self.events.get(at).cloned()
    }

    /// Returns the size of its events in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn last(&self) -> EventId {
        self.events.last().map_or(EventId(0), |e| e.id)
    }

    /// Returns the row of this pack with the key `first`.
    pub(crate) fn encode(
        &self,
        first: EventId,
        zstd: &mut zstd::bulk::Compressor<'static>,
    ) -> Result<Vec<u8>, StoreError> {
        let mut raw = Vec::with_capacity(self.bytes);
        for event in &self.events {
            record::content(&mut raw, event.as_ref())?;
        }
        let packed = zstd
            .compress(&raw)
            .map_err(|e| StoreError::damaged("a pack to be written", e.to_string()))?;
        let raw_len = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        record::write_with("packs", &tables::event_key(first), |out| {
            out.extend_from_slice(&self.last().0.to_be_bytes());
            out.extend_from_slice(&raw_len.to_be_bytes());
            out.extend_from_slice(&packed);
            Ok(())
        })
    }

    /// Reads a row.
    pub(crate) fn decode(key: &[u8; 16], bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |detail: String| {
            StoreError::damaged(format!("the pack of {}", tables::event_of(key)), detail)
        };
        let content = record::content_of("packs", key, bytes)?;
        let (head, packed) = content
            .split_at_checked(HEAD_BYTES)
            .ok_or_else(|| damaged("it is truncated".to_owned()))?;
        let raw_len = head
            .iter()
            .skip(16)
            .fold(0usize, |acc, &b| (acc << 8) | usize::from(b));
        if raw_len > UNPACKED_LIMIT {
            return Err(damaged(format!("it claims {raw_len} bytes unpacked")));
        }
        let raw = zstd::bulk::decompress(packed, raw_len).map_err(|e| damaged(e.to_string()))?;
        let mut rest = raw.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let (event, used) = record::read_next::<Event>("packs", rest)?;
            events.push(Arc::new(event));
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(Self::new(events))
    }

    /// Returns the last event id of a row, without unpacking it.
    pub(crate) fn last_of(key: &[u8; 16], bytes: &[u8]) -> Result<EventId, StoreError> {
        let content = record::content_of("packs", key, bytes)?;
        let id = content
            .first_chunk()
            .ok_or_else(|| StoreError::damaged("a row of packs", "it is truncated"))?;
        Ok(tables::event_of(id))
    }
}

/// Returns the first pack key to read in order to get every event from this one on: the pack that holds the first may
/// begin before it.
pub(crate) fn first_key(
    packs: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    from: EventId,
) -> Result<[u8; 16], StoreError> {
    let from = tables::event_key(from);
    let before = packs.range::<&[u8; 16]>(..=&from)?.next_back();
    Ok(before.transpose()?.map_or(from, |(key, _)| *key.value()))
}

/// Returns the one pack that can hold the event, with its key; `None` if none reaches its id.
pub(crate) fn around(
    packs: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    id: EventId,
) -> Result<Option<(EventId, Arc<Pack>)>, StoreError> {
    let upto = tables::event_key(id);
    let Some(row) = packs.range::<&[u8; 16]>(..=&upto)?.next_back() else {
        return Ok(None);
    };
    let (key, value) = row?;
    if Pack::last_of(key.value(), value.value())? < id {
        return Ok(None);
    }
    let pack = Arc::new(Pack::decode(key.value(), value.value())?);
    Ok(Some((tables::event_of(key.value()), pack)))
}

/// Splits events of one commit into packs.
pub(crate) fn split(events: Vec<Arc<Event>>) -> Vec<Pack> {
    let mut packs = Vec::new();
    let mut run = Vec::new();
    let mut bytes = 0;
    for event in events {
        let size = size_of(&event);
        if !run.is_empty() && bytes + size > PACK_BYTES {
            packs.push(Pack::new(std::mem::take(&mut run)));
            bytes = 0;
        }
        bytes += size;
        run.push(event);
    }
    if !run.is_empty() {
        packs.push(Pack::new(run));
    }
    packs
}

/// Recently used packs; the least recently used are dropped first. First attempts find their bodies here.
#[derive(Debug, Default)]
pub(crate) struct PackCache {
    /// The sweep may change packs that begin before this at any time, so none of them is kept: a reader of an older
    /// snapshot would bring back removed data.
    kept_from: EventId,
    packs: BTreeMap<EventId, (u64, Arc<Pack>)>,
    uses: BTreeMap<u64, EventId>,
    clock: u64,
    bytes: usize,
}

impl PackCache {
    pub(crate) fn insert(&mut self, first: EventId, pack: Arc<Pack>) {
        if first < self.kept_from {
            return;
        }
        self.remove(first);
        self.clock += 1;
        self.bytes += pack.bytes;
        self.uses.insert(self.clock, first);
        self.packs.insert(first, (self.clock, pack));
        while self.bytes > CACHE_BYTES && self.packs.len() > 1 {
            let Some((_, oldest)) = self.uses.pop_first() else {
                break;
            };
            if let Some((_, gone)) = self.packs.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }

    /// Keeps nothing that begins before `from`, from now on.
    pub(crate) fn keep_from(&mut self, from: EventId) {
        self.kept_from = self.kept_from.max(from);
        while let Some((&first, _)) = self.packs.first_key_value()
            && first < self.kept_from
        {
            self.remove(first);
        }
    }

    fn remove(&mut self, first: EventId) {
        if let Some((used, gone)) = self.packs.remove(&first) {
            self.uses.remove(&used);
            self.bytes -= gone.bytes;
        }
    }

    /// Returns the event if its pack is cached. A pack with a greater key may exist in between: then the event is not
    /// in this one, which `find` reports too.
    pub(crate) fn find(&mut self, id: EventId) -> Option<Arc<Event>> {
        let (&first, entry) = self.packs.range_mut(..=id).next_back()?;
        let event = entry.1.find(id)?;
        self.clock += 1;
        self.uses.remove(&entry.0);
        entry.0 = self.clock;
        self.uses.insert(self.clock, first);
        Some(event)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self {
            kept_from: self.kept_from,
            ..Self::default()
        };
    }
}

/// Returns the compressor for packs. It is kept, since creating one costs more than a small pack.
pub(crate) fn compressor() -> Result<zstd::bulk::Compressor<'static>, StoreError> {
    zstd::bulk::Compressor::new(LEVEL)
        .map_err(|e| StoreError::damaged("the compressor", e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Timestamp;

    fn event(id: u128, data: Vec<u8>) -> Arc<Event> {
        Arc::new(Event {
            id: EventId(id),
            organization: "org".into(),
            event_type: "order.created".into(),
            timestamp: Timestamp(5),
            timestamp_text: None,
            idempotency_key: Some("k".into()),
            deliveries: 2,
            data: Some(data),
        })
    }

    #[test]
    fn a_pack_reads_back_and_a_flipped_bit_is_found() {
        let mut zstd = zstd::bulk::Compressor::new(LEVEL).unwrap();
        let pack = Pack::new((1..50).map(|n| event(n, vec![b'x'; 700])).collect());
        let key = tables::event_key(EventId(1));
        let bytes = pack.encode(EventId(1), &mut zstd).unwrap();
        assert_eq!(Pack::decode(&key, &bytes).unwrap().events, pack.events);
        assert_eq!(Pack::last_of(&key, &bytes).unwrap(), EventId(49));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Pack::decode(&key, &flipped).is_err(), "byte {at}");
            assert!(Pack::last_of(&key, &flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_cache_forgets_the_least_recently_used() {
        let mut cache = PackCache::default();
        for n in 1..=17u128 {
            cache.insert(
                EventId(n),
                Arc::new(Pack::new(vec![event(n, vec![0; 1 << 20])])),
            );
            assert!(cache.find(EventId(1)).is_some(), "1 is used all the time");
        }
        assert!(cache.find(EventId(2)).is_none());
        assert!(cache.bytes <= CACHE_BYTES);
    }
}
