//! Room among endpoints: whose turn it is, and how many attempts the endpoints of each class may have in flight.
//!
//! Endpoints with something to send stand in a ring, one ring per class, so that a class without room is skipped in one
//! step. Stamps keep the turns fair across rings. A slow endpoint is recognized after a second. Until an endpoint has
//! answered once it gets a single attempt, and only some newcomers are tried at a time, those with most to send first.
//! So a thousand hanging newcomers can't take every place before they are recognized, and a newcomer that answers is
//! soon found among them.

use super::queue::{Class, Queue};
use std::collections::VecDeque;
use stormhook_store::Slot;

/// How many attempts may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In total; 0 counts as 1.
    pub max_in_flight: usize,
    /// To one endpoint; 0 counts as 1.
    pub max_per_endpoint: usize,
}

/// The most first attempts, to endpoints that have never answered, that may still be answered soon.
const MAX_YOUNG: usize = 64;
/// How long after its start an attempt counts as one that may be answered soon.
pub(super) const YOUNG_MS: u64 = 250;

const CLASSES: [Class; 3] = [Class::Fast, Class::Slow, Class::Unknown];

/// One value for each class.
#[derive(Default)]
struct PerClass<T> {
    fast: T,
    slow: T,
    unknown: T,
}

impl<T> PerClass<T> {
    fn of(&self, class: Class) -> &T {
        match class {
            Class::Fast => &self.fast,
            Class::Slow => &self.slow,
            Class::Unknown => &self.unknown,
        }
    }

    fn of_mut(&mut self, class: Class) -> &mut T {
        match class {
            Class::Fast => &mut self.fast,
            Class::Slow => &mut self.slow,
            Class::Unknown => &mut self.unknown,
        }
    }
}

/// The rings, and the attempts in flight by class.
pub(super) struct Admission {
    limits: Limits,
    on_wire: PerClass<usize>,
    rings: PerClass<VecDeque<(u64, Slot)>>,
    /// Newcomers with much to send.
    eager: VecDeque<(u64, Slot)>,
    young: usize,
    turn: u64,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        let mut new = Self {
            limits,
            on_wire: PerClass::default(),
            rings: PerClass::default(),
            eager: VecDeque::new(),
            young: 0,
            turn: 0,
        };
        new.set_limits(limits);
        new
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = Limits {
            max_in_flight: limits.max_in_flight.max(1),
            max_per_endpoint: limits.max_per_endpoint.max(1),
        };
    }

    /// Returns the attempts in flight in total.
    pub(super) fn total(&self) -> usize {
        CLASSES.iter().map(|class| self.on_wire.of(*class)).sum()
    }

    /// Returns the attempts in flight to endpoints that have never answered.
    pub(super) fn probes(&self) -> usize {
        self.on_wire.unknown
    }

    pub(super) fn is_full(&self) -> bool {
        self.total() >= self.limits.max_in_flight
    }

    /// Returns how many attempts slow endpoints may have in flight: half, so that the others always find room.
    fn slow_room(&self) -> usize {
        self.limits.max_in_flight.div_ceil(2)
    }

    /// Whether some endpoint of this class may start an attempt.
    pub(super) fn is_open(&self, class: Class) -> bool {
        let max = self.limits.max_in_flight;
        let (slow, unknown) = (self.on_wire.slow, self.on_wire.unknown);
        !self.is_full()
            && match class {
                Class::Fast => true,
                Class::Slow => slow < self.slow_room(),
                // Newcomers find room beside the slow ones, but if they all hang, some is left to the fast ones.
                Class::Unknown => self.young < MAX_YOUNG && slow + unknown < max - spare(max),
            }
    }

    /// Whether this endpoint may start an attempt when its class may. Its first one always: only its class decides.
    /// Further ones leave some places to endpoints that have none.
    pub(super) fn has_room(&self, queue: &Queue) -> bool {
        let held = queue.on_wire;
        if held == 0 {
            return true;
        }
        let (taken, most) = match queue.class {
            Class::Fast => (self.total(), self.limits.max_in_flight),
            Class::Slow => (self.on_wire.slow, self.slow_room()),
            Class::Unknown => return false,
        };
        held < self.limits.max_per_endpoint && taken < most - spare(most)
    }

    /// An attempt to this endpoint starts.
    pub(super) fn start(&mut self, queue: &mut Queue) {
        queue.on_wire += 1;
        *self.on_wire.of_mut(queue.class) += 1;
        if queue.class == Class::Unknown {
            queue.young = true;
            self.young += 1;
        }
    }

    /// The attempt of a newcomer was not answered as soon as most are.
    pub(super) fn grown(&mut self, queue: &mut Queue) {
        if std::mem::take(&mut queue.young) {
            self.young = self.young.saturating_sub(1);
        }
    }

    /// Whether newcomers are waiting for their turn.
    pub(super) fn have_newcomers(&self) -> bool {
        !self.rings.unknown.is_empty() || !self.eager.is_empty()
    }

    /// An attempt to this endpoint ended.
    pub(super) fn finish(&mut self, queue: &mut Queue) {
        queue.on_wire = queue.on_wire.saturating_sub(1);
        let of_class = self.on_wire.of_mut(queue.class);
        *of_class = of_class.saturating_sub(1);
        self.grown(queue);
    }

    /// Moves an endpoint, with its attempts in flight, to another class.
    pub(super) fn reclass(&mut self, queue: &mut Queue, class: Class) {
        if queue.class == class {
            return;
        }
        let old = self.on_wire.of_mut(queue.class);
        *old = old.saturating_sub(queue.on_wire);
        *self.on_wire.of_mut(class) += queue.on_wire;
        queue.class = class;
        if queue.stamp.is_some() {
            self.join(queue);
        }
    }

    /// Puts an endpoint at the end of its class's ring, which voids an earlier place.
    pub(super) fn join(&mut self, queue: &mut Queue) {
        self.turn += 1;
        queue.stamp = Some(self.turn);
        queue.stands_eager = queue.is_eager();
        let ring = if queue.stands_eager {
            &mut self.eager
        } else {
            self.rings.of_mut(queue.class)
        };
        ring.push_back((self.turn, queue.slot));
    }

    /// Takes the endpoint whose turn it is, among all classes with room. `is_valid` says whether a place is not void.
    pub(super) fn next(&mut self, is_valid: impl Fn(Slot, u64) -> bool) -> Option<Slot> {
        if self.is_open(Class::Unknown)
            && let Some((_, slot)) = front(&mut self.eager, &is_valid)
        {
            take_front(&mut self.eager);
            return Some(slot);
        }
        let mut best: Option<(u64, Class)> = None;
        for class in CLASSES {
            if self.is_open(class)
                && let Some((stamp, _)) = front(self.rings.of_mut(class), &is_valid)
                && best.is_none_or(|(other, _)| stamp < other)
            {
                best = Some((stamp, class));
            }
        }
        let (_, class) = best?;
        take_front(self.rings.of_mut(class))
    }

    /// Drops void places if they outnumber the `endpoints` that could have one.
    pub(super) fn sweep(&mut self, endpoints: usize, is_valid: impl Fn(Slot, u64) -> bool) {
        let PerClass {
            fast,
            slow,
            unknown,
        } = &mut self.rings;
        for ring in [fast, slow, unknown, &mut self.eager] {
            if ring.len() > 2 * endpoints + 64 {
                ring.retain(|(stamp, slot)| is_valid(*slot, *stamp));
            }
        }
    }
}

/// Returns the first place of a ring that is not void; drops void ones before it.
fn front(
    ring: &mut VecDeque<(u64, Slot)>,
    is_valid: impl Fn(Slot, u64) -> bool,
) -> Option<(u64, Slot)> {
    while let Some(&(stamp, slot)) = ring.front() {
        if is_valid(slot, stamp) {
            return Some((stamp, slot));
        }
        ring.pop_front();
    }
    None
}

fn take_front(ring: &mut VecDeque<(u64, Slot)>) -> Option<Slot> {
    let (_, slot) = ring.pop_front()?;
    if ring.is_empty() {
        ring.shrink_to(64);
    }
    Some(slot)
}

/// How many of `most` places are kept free: an eighth.
fn spare(most: usize) -> usize {
    most / 8
}
