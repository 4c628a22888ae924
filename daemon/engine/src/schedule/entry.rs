//! An open delivery in 29 bytes, as the queues keep it. A million of them are held in memory, so nothing is aligned and
//! numbers have 48 bits: milliseconds until the year 10889, and more sequence numbers than a file will ever have.

use stormhook_store::{DeliveryId, EventId, QueueEntry, Slot, Trigger, UnixMs};

const MAX_48_BITS: u64 = (1 << 48) - 1;

// Flags in addition to those of `QueueEntry`.
const MANUAL: u8 = 8;
const REPLAY: u8 = 16;
const DEAD: u8 = 32;

/// A [`QueueEntry`] without its slot, which its queue knows.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    event: [u8; 16],
    due: [u8; 6],
    sequence: [u8; 6],
    flags: u8,
}

fn pack(value: u64) -> [u8; 6] {
    let [_, _, rest @ ..] = value.min(MAX_48_BITS).to_be_bytes();
    rest
}

fn unpack([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

impl Entry {
    pub(super) fn new(waiting: &QueueEntry) -> Self {
        let trigger = match waiting.trigger {
            Trigger::Schedule => 0,
            Trigger::Manual => MANUAL,
            Trigger::Replay => REPLAY,
        };
        Self {
            event: waiting.id.event.0.to_be_bytes(),
            due: pack(waiting.due.0),
            sequence: pack(waiting.sequence),
            flags: waiting.flags() | trigger,
        }
    }

    pub(super) fn waiting(self, slot: Slot) -> QueueEntry {
        QueueEntry {
            id: DeliveryId {
                event: self.event(),
                slot,
            },
            due: self.due(),
            sequence: self.sequence(),
            retrying: self.is(QueueEntry::RETRYING),
            fresh: self.is(QueueEntry::FRESH),
            later_round: self.is(QueueEntry::LATER_ROUND),
            trigger: match self.flags & (MANUAL | REPLAY) {
                0 => Trigger::Schedule,
                MANUAL => Trigger::Manual,
                _ => Trigger::Replay,
            },
        }
    }

    fn is(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn event(self) -> EventId {
        EventId(u128::from_be_bytes(self.event))
    }

    pub(super) fn due(self) -> UnixMs {
        UnixMs(unpack(self.due))
    }

    pub(super) fn sequence(self) -> u64 {
        unpack(self.sequence)
    }

    pub(super) fn retrying(self) -> bool {
        self.is(QueueEntry::RETRYING)
    }

    pub(super) fn fresh(self) -> bool {
        self.is(QueueEntry::FRESH)
    }

    pub(super) fn later_round(self) -> bool {
        self.is(QueueEntry::LATER_ROUND)
    }

    /// Whether it was removed but still occupies its place.
    pub(super) fn dead(self) -> bool {
        self.is(DEAD)
    }

    pub(super) fn kill(&mut self) {
        self.flags |= DEAD;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_returns_its_fields(
            event: u128, slot: u32, due in 0..=MAX_48_BITS, sequence in 0..=MAX_48_BITS,
            flags: (bool, bool, bool), trigger in prop::sample::select(vec![Trigger::Schedule, Trigger::Manual, Trigger::Replay]),
        ) {
            let slot = Slot(slot);
            let waiting = QueueEntry {
                id: DeliveryId { event: EventId(event), slot },
                due: UnixMs(due), sequence,
                retrying: flags.0, fresh: flags.1, later_round: flags.2, trigger,
            };
            prop_assert_eq!(Entry::new(&waiting).waiting(slot), waiting);
        }
    }

    #[test]
    fn an_entry_has_29_bytes() {
        assert_eq!(size_of::<Entry>(), 29);
    }
}
