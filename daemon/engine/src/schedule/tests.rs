//! The schedule against a model that keeps every delivery in one plain list, and a test for each guarantee.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stormhook_store::endpoint::{Ordering, Settings};
use stormhook_store::{EndpointId, EventId, Trigger};

const AMPLE: Limits = Limits {
    max_in_flight: 512,
    max_per_endpoint: 32,
};

fn endpoint(slot: u32) -> Endpoint {
    Endpoint {
        id: EndpointId(u128::from(slot)),
        slot: Slot(slot),
        organization: "org".into(),
        settings: Settings {
            url: "https://partner.example/".into(),
            active: true,
            ..Settings::default()
        },
        secrets: Vec::new(),
        created_at: UnixMs(0),
        updated_at: UnixMs(0),
        deleted_at: None,
        sealed: None,
    }
}

/// The store's state of an endpoint that answers well.
fn healthy() -> EndpointState {
    EndpointState {
        last_success_at: Some(UnixMs(1)),
        ..EndpointState::default()
    }
}

fn waiting(slot: u32, sequence: u64, due: u64) -> QueueEntry {
    QueueEntry {
        id: DeliveryId {
            event: EventId(u128::from(sequence) << 8),
            slot: Slot(slot),
        },
        due: UnixMs(due),
        sequence,
        retrying: false,
        fresh: true,
        later_round: false,
        trigger: Trigger::Schedule,
    }
}

fn retry(of: QueueEntry, due: u64) -> QueueEntry {
    QueueEntry {
        due: UnixMs(due),
        retrying: true,
        fresh: false,
        ..of
    }
}

/// Returns a schedule with endpoints `0..count`, all known to be fast.
fn with_endpoints(count: u32, limits: Limits) -> Schedule {
    let mut schedule = Schedule::new(limits);
    for slot in 0..count {
        schedule.endpoint(&endpoint(slot), Some(&healthy()), UnixMs(0));
    }
    schedule
}

fn claims(schedule: &mut Schedule, now: u64) -> Vec<QueueEntry> {
    std::iter::from_fn(|| schedule.next(UnixMs(now)))
        .map(|claim| claim.waiting)
        .collect()
}

fn settle(schedule: &mut Schedule, id: DeliveryId, took_ms: u64) {
    schedule.answered(id, took_ms);
    schedule.ended(id);
}

#[derive(Debug, Clone)]
enum Step {
    Accept(u32),
    NewRound(u32, u64),
    Next,
    Answer(usize, u64),
    Retry(usize, u64),
    End(usize),
    Pass(u64),
    Active(u32, bool),
    Fifo(u32, bool),
    Hold(usize),
    Change(usize, u64),
    Cancel(usize),
    Release(usize),
    EndAll(u32),
    SetBack(usize),
    Postpone(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0u32..4;
    prop_oneof![
        8 => slot.clone().prop_map(Step::Accept),
        1 => (slot.clone(), 0u64..3_000).prop_map(|(s, d)| Step::NewRound(s, d)),
        8 => Just(Step::Next),
        4 => (any::<usize>(), 0u64..1_500).prop_map(|(i, t)| Step::Answer(i, t)),
        3 => (any::<usize>(), 0u64..5_000).prop_map(|(i, d)| Step::Retry(i, d)),
        3 => any::<usize>().prop_map(Step::End),
        3 => (0u64..2_000).prop_map(Step::Pass),
        1 => (slot.clone(), any::<bool>()).prop_map(|(s, a)| Step::Active(s, a)),
        1 => (slot.clone(), any::<bool>()).prop_map(|(s, f)| Step::Fifo(s, f)),
        1 => any::<usize>().prop_map(Step::Hold),
        1 => (any::<usize>(), 0u64..3_000).prop_map(|(i, d)| Step::Change(i, d)),
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Release),
        1 => slot.prop_map(Step::EndAll),
        2 => any::<usize>().prop_map(Step::SetBack),
        2 => any::<usize>().prop_map(Step::Postpone),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Waits,
    Wire,
    Answered,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    waiting: QueueEntry,
    at: At,
    held: bool,
    /// When it is tried again, if it could not be read.
    again: UnixMs,
}

impl Pair {
    fn goes_at(&self) -> UnixMs {
        self.again.max(self.waiting.due)
    }
}

struct Model {
    schedule: Schedule,
    limits: Limits,
    endpoints: Vec<Endpoint>,
    pairs: BTreeMap<DeliveryId, Pair>,
    /// Claimed, and ended meanwhile by a bulk change.
    over: BTreeSet<DeliveryId>,
    /// By endpoint: nothing is claimed before this time, and during trouble one at a time.
    back_until: [u64; 4],
    in_trouble: [bool; 4],
    sequences: u64,
    now: u64,
}

impl Model {
    fn new(limits: Limits) -> Self {
        let mut schedule = Schedule::new(limits);
        let endpoints: Vec<_> = (0..4).map(endpoint).collect();
        for (i, endpoint) in endpoints.iter().enumerate() {
            let state = (i % 2 == 0).then(healthy);
            schedule.endpoint(endpoint, state.as_ref(), UnixMs(0));
        }
        Self {
            schedule,
            limits,
            endpoints,
            pairs: BTreeMap::new(),
            over: BTreeSet::new(),
            back_until: [0; 4],
            in_trouble: [false; 4],
            sequences: 0,
            now: 1_000,
        }
    }

    /// Returns the `index`th of the deliveries that are `wanted`.
    fn pick(&self, index: usize, wanted: impl Fn(&Pair) -> bool) -> Option<Pair> {
        let found: Vec<_> = self.pairs.values().filter(|p| wanted(p)).collect();
        (!found.is_empty()).then(|| *found[index % found.len()])
    }

    fn put(&mut self, waiting: QueueEntry, at: At, held: bool) {
        // Until the store announces another one.
        let again = self.pairs.get(&waiting.id).filter(|p| p.waiting == waiting);
        let again = again.map_or(UnixMs(0), |p| p.again);
        let pair = Pair {
            waiting,
            at,
            held,
            again,
        };
        self.pairs.insert(waiting.id, pair);
    }

    fn add(&mut self, slot: u32, due: u64, later_round: bool) {
        self.sequences += 1;
        let new = QueueEntry {
            fresh: !later_round,
            later_round,
            ..waiting(slot, self.sequences, due)
        };
        self.schedule.waiting(&new);
        self.put(new, At::Waits, false);
    }

    fn of(&self, slot: Slot) -> impl Iterator<Item = &Pair> {
        self.pairs
            .values()
            .filter(move |p| p.waiting.id.slot == slot)
    }

    fn check_claim(&self, claim: Claim) {
        let (waiting, now) = (claim.waiting, UnixMs(self.now));
        let pair = self.pairs[&waiting.id];
        assert_eq!((pair.at, pair.held), (At::Waits, false), "{pair:?}");
        assert_eq!(pair.waiting, waiting);
        assert!(pair.goes_at() <= now);
        let endpoint = &self.endpoints[waiting.id.slot.index()];
        assert!(endpoint.receives());
        let others: Vec<_> = self.of(waiting.id.slot).collect();
        let on_wire = others.iter().filter(|p| p.at == At::Wire).count();
        assert!(on_wire < self.limits.max_per_endpoint);
        let slot = waiting.id.slot.index();
        assert!(self.back_until[slot] <= self.now, "claimed while it waits");
        assert!(!self.in_trouble[slot] || on_wire == 0, "more than one try");
        let rank = |p: &Pair| (p.goes_at(), p.waiting.id.event);
        let waits = others.iter().filter(|p| p.at == At::Waits);
        if endpoint.ordering == Ordering::Fifo {
            assert!(others.iter().all(|p| p.at == At::Waits));
            let mut in_line = waits.filter(|p| !p.waiting.later_round || p.goes_at() <= now);
            assert!(in_line.all(|p| p.waiting.sequence >= waiting.sequence));
        } else {
            let mut free = waits.filter(|p| !p.held);
            assert!(free.all(|p| rank(p) >= rank(&pair)));
        }
    }

    fn next(&mut self) -> bool {
        let Some(claim) = self.schedule.next(UnixMs(self.now)) else {
            return false;
        };
        self.check_claim(claim);
        self.put(claim.waiting, At::Wire, false);
        let on_wire = self.pairs.values().filter(|p| p.at == At::Wire).count();
        assert!(on_wire <= self.limits.max_in_flight);
        true
    }

    fn answer(&mut self, pair: Pair, took_ms: u64) {
        self.schedule.answered(pair.waiting.id, took_ms);
        self.put(pair.waiting, At::Answered, false);
        let slot = pair.waiting.id.slot.index();
        (self.back_until[slot], self.in_trouble[slot]) = (0, false);
    }

    /// Ends a claim without an attempt.
    fn give_back(&mut self, pair: Pair) {
        if self.over.remove(&pair.waiting.id) {
            self.pairs.remove(&pair.waiting.id);
        } else {
            self.put(pair.waiting, At::Waits, false);
        }
    }

    fn postpone(&mut self, pair: Pair) {
        let id = pair.waiting.id;
        self.schedule.postpone(&pair.waiting, UnixMs(self.now));
        self.give_back(pair);
        let now = UnixMs(self.now);
        if let Some(pair) = self.pairs.get_mut(&id) {
            pair.again = self.schedule.postponed.again_at(id).expect("it waits");
            assert!(pair.again > now && pair.again <= now.plus_ms(30_000));
        }
    }

    fn set_back(&mut self, pair: Pair) {
        let slot = pair.waiting.id.slot.index();
        self.schedule.set_back(&pair.waiting, UnixMs(self.now));
        self.give_back(pair);
        // It was readable.
        if let Some(pair) = self.pairs.get_mut(&pair.waiting.id) {
            pair.again = UnixMs(0);
        }
        let queue = self.schedule.queues[slot].as_ref().expect("it has a queue");
        let until = queue.backoff.waiting(UnixMs(self.now)).expect("it waits");
        self.back_until[slot] = until.0;
        self.in_trouble[slot] = true;
    }

    fn end_all(&mut self, slot: u32) {
        let slot = Slot(slot);
        let of_slot: Vec<_> = self.of(slot).copied().collect();
        for pair in of_slot {
            if pair.at == At::Waits {
                self.pairs.remove(&pair.waiting.id);
            } else {
                self.over.insert(pair.waiting.id);
            }
        }
        self.schedule.end_all(slot);
        let claims = self.over.iter().any(|id| id.slot == slot);
        assert_eq!(self.schedule.has_ended_claims(slot), claims);
    }

    fn configure(&mut self, slot: u32, change: impl FnOnce(&mut Endpoint)) {
        let endpoint = &mut self.endpoints[slot as usize];
        change(endpoint);
        self.schedule.endpoint(endpoint, None, UnixMs(self.now));
    }

    fn change(&mut self, pair: Pair, due: u64) {
        let changed = QueueEntry {
            trigger: Trigger::Manual,
            ..retry(pair.waiting, self.now + due)
        };
        self.schedule.waiting(&changed);
        self.put(changed, At::Waits, true);
    }

    fn step(&mut self, step: &Step) {
        let waits = |p: &Pair| p.at == At::Waits;
        match *step {
            Step::Accept(slot) if self.endpoints[slot as usize].active => {
                self.add(slot, self.now, false);
            }
            Step::Accept(_) => {}
            Step::NewRound(slot, after) => self.add(slot, self.now + after, true),
            Step::Next => {
                self.next();
            }
            Step::Answer(i, took) => {
                if let Some(pair) = self.pick(i, |p| p.at == At::Wire) {
                    self.answer(pair, took);
                }
            }
            Step::Retry(i, after) => {
                if let Some(pair) = self.pick(i, |p| p.at == At::Answered) {
                    // If a bulk change ended it, a later one reopened it.
                    let again = retry(pair.waiting, self.now + after);
                    self.over.remove(&again.id);
                    self.schedule.waiting(&again);
                    self.put(again, At::Waits, false);
                }
            }
            Step::End(i) => {
                if let Some(pair) = self.pick(i, |p| p.at == At::Answered) {
                    self.schedule.ended(pair.waiting.id);
                    self.over.remove(&pair.waiting.id);
                    self.pairs.remove(&pair.waiting.id);
                }
            }
            Step::Pass(ms) => self.now += ms,
            Step::Active(slot, active) => self.configure(slot, |e| e.settings.active = active),
            Step::Fifo(slot, fifo) => self.configure(slot, |e| {
                e.settings.ordering = if fifo {
                    Ordering::Fifo
                } else {
                    Ordering::Parallel
                };
            }),
            Step::Hold(i) => {
                if let Some(pair) = self.pick(i, |p| !p.held) {
                    let held = self.schedule.hold(pair.waiting.id).is_ok();
                    assert_eq!(held, waits(&pair));
                    self.put(pair.waiting, pair.at, held);
                }
            }
            Step::Change(i, due) => {
                if let Some(pair) = self.pick(i, |p| p.held) {
                    self.change(pair, due);
                }
            }
            Step::Cancel(i) => {
                if let Some(pair) = self.pick(i, |p| p.held) {
                    self.schedule.ended(pair.waiting.id);
                    self.pairs.remove(&pair.waiting.id);
                    self.schedule.release(pair.waiting.id);
                }
            }
            Step::Release(i) => {
                if let Some(pair) = self.pick(i, |p| p.held) {
                    self.schedule.release(pair.waiting.id);
                    self.put(pair.waiting, pair.at, false);
                }
            }
            Step::EndAll(slot) => self.end_all(slot),
            Step::SetBack(i) => {
                if let Some(pair) = self.pick(i, |p| p.at == At::Wire) {
                    self.set_back(pair);
                }
            }
            Step::Postpone(i) => {
                if let Some(pair) = self.pick(i, |p| p.at == At::Wire) {
                    self.postpone(pair);
                }
            }
        }
        self.check_gauges();
    }

    fn check_gauges(&self) {
        let mut expected = Gauges::default();
        for pair in self.pairs.values() {
            let active = self.endpoints[pair.waiting.id.slot.index()].active;
            match (active, pair.waiting.retrying) {
                (false, _) => expected.held += 1,
                (true, false) => expected.pending += 1,
                (true, true) => expected.retrying += 1,
            }
            expected.in_flight += usize::from(pair.at == At::Wire);
        }
        let shown = self.schedule.gauges(UnixMs(self.now));
        expected.overdue_ms = shown.overdue_ms;
        assert_eq!(shown, expected);
        assert_eq!(self.schedule.open_count(), self.pairs.len());
    }

    /// Enables everything and answers every attempt: nothing may be left over.
    fn drain(&mut self) {
        for slot in 0..4 {
            self.configure(slot, |e| e.settings.active = true);
        }
        for pair in self.pairs.values_mut().filter(|p| p.held) {
            pair.held = false;
            self.schedule.release(pair.waiting.id);
        }
        for _ in 0..20_000 {
            while self.next() {}
            if let Some(pair) = self.pick(0, |p| p.at == At::Wire) {
                self.answer(pair, 1);
            } else if let Some(pair) = self.pick(0, |p| p.at == At::Answered) {
                self.schedule.ended(pair.waiting.id);
                self.pairs.remove(&pair.waiting.id);
            } else if let Some(wake) = self.schedule.next_wake() {
                assert!(wake.0 > self.now, "a wake-up in the past");
                self.now = wake.0;
            } else {
                break;
            }
        }
        assert!(self.pairs.is_empty(), "left behind: {:?}", self.pairs);
        assert_eq!(
            self.schedule.postponed.len(),
            0,
            "of deliveries that don't exist"
        );
        assert_eq!(self.schedule.next_wake(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_schedule_does_what_a_plain_list_would(
        steps in prop::collection::vec(step(), 0..300), max_in_flight in 1usize..12, max_per_endpoint in 1usize..5,
    ) {
        let mut model = Model::new(Limits { max_in_flight, max_per_endpoint });
        for step in &steps {
            model.step(step);
        }
        model.drain();
    }

    #[test]
    fn between_two_claims_of_one_endpoint_every_other_that_is_ready_gets_one(
        backlogs in prop::collection::vec(1u64..20, 2..8),
    ) {
        let count = u32::try_from(backlogs.len()).unwrap();
        let mut schedule = with_endpoints(count, AMPLE);
        let mut left: Vec<u64> = backlogs.clone();
        for (slot, backlog) in (0u32..).zip(&backlogs) {
            for sequence in 1..=*backlog {
                schedule.waiting(&waiting(slot, sequence, 5));
            }
        }
        let mut since: Vec<Vec<usize>> = vec![Vec::new(); backlogs.len()];
        while let Some(claim) = schedule.next(UnixMs(10)) {
            let slot = claim.waiting.id.slot.index();
            left[slot] -= 1;
            let seen = std::mem::take(&mut since[slot]);
            if left[slot] + 1 < backlogs[slot] {
                for other in (0..backlogs.len()).filter(|o| *o != slot && left[*o] > 0) {
                    prop_assert!(seen.contains(&other), "{other} got nothing between two of {slot}");
                }
            }
            since.iter_mut().for_each(|s| s.push(slot));
            settle(&mut schedule, claim.waiting.id, 1);
        }
        prop_assert_eq!(schedule.open_count(), 0);
    }
}

#[test]
fn a_single_healthy_endpoint_reaches_its_limit_immediately() {
    let mut schedule = with_endpoints(1, AMPLE);
    for sequence in 1..=100 {
        schedule.waiting(&waiting(0, sequence, 1));
    }
    assert_eq!(claims(&mut schedule, 1).len(), 32);
}

#[test]
fn a_newcomer_gets_one_attempt_and_after_a_quick_answer_as_many_as_others() {
    let mut schedule = Schedule::new(AMPLE);
    schedule.endpoint(&endpoint(0), None, UnixMs(0));
    for sequence in 1..=100 {
        schedule.waiting(&waiting(0, sequence, 1));
    }
    let first = claims(&mut schedule, 1);
    assert_eq!(first.len(), 1);
    settle(&mut schedule, first[0].id, 3);
    assert_eq!(claims(&mut schedule, 4).len(), 32);
}

#[test]
fn a_thousand_hanging_newcomers_leave_room_for_a_healthy_endpoint_and_for_the_next_newcomer() {
    let mut schedule = Schedule::new(AMPLE);
    for slot in 0..1_000 {
        schedule.endpoint(&endpoint(slot), None, UnixMs(0));
        for sequence in 1..=10 {
            schedule.waiting(&waiting(slot, sequence, 1));
        }
    }
    schedule.endpoint(&endpoint(1_000), Some(&healthy()), UnixMs(0));
    let mut now = 1;
    let mut sequence = 0;
    for _ in 0..200 {
        let hanging = claims(&mut schedule, now);
        assert!(hanging.iter().all(|w| w.id.slot != Slot(1_000)));
        assert!(schedule.on_wire() <= 448, "an eighth is left to the fast");
        sequence += 1;
        schedule.waiting(&waiting(1_000, sequence, now));
        let healthy = claims(&mut schedule, now);
        assert_eq!(healthy.len(), 1, "the healthy one goes immediately");
        settle(&mut schedule, healthy[0].id, 20);
        now += 100;
    }
    // The hanging attempts time out. Every newcomer has had a turn before any has had several.
    let mut tried = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let wire: Vec<_> = schedule.flights.keys().copied().collect();
        for id in wire {
            tried.insert(id.slot);
            schedule.answered(id, 15_000);
            schedule.waiting(&retry(waiting(id.slot.0, 1, now), now + 60_000));
        }
        now += 15_000;
        claims(&mut schedule, now);
    }
    assert_eq!(tried.len(), 1_000);
}

#[test]
fn a_newcomer_with_much_to_send_is_soon_found_among_a_thousand_that_hang() {
    let mut schedule = Schedule::new(AMPLE);
    for slot in 0..=1_000 {
        schedule.endpoint(&endpoint(slot), None, UnixMs(0));
    }
    for slot in 0..1_000 {
        schedule.waiting(&waiting(slot, 1, 1));
    }
    let mut found = None;
    for sequence in 1..=100 {
        // One event every 10 ms, and nothing answers.
        let now = sequence * 10;
        schedule.waiting(&waiting(1_000, sequence, now));
        let claimed = claims(&mut schedule, now);
        if claimed.iter().any(|w| w.id.slot == Slot(1_000)) {
            found = Some(now);
            break;
        }
    }
    assert!(found.is_some_and(|now| now <= 300), "{found:?}");
}

#[test]
fn a_newcomer_finds_room_beside_those_that_hang_under_a_small_bound_too() {
    let limits = Limits {
        max_in_flight: 8,
        max_per_endpoint: 8,
    };
    let mut schedule = Schedule::new(limits);
    for slot in 0..7 {
        schedule.endpoint(&endpoint(slot), None, UnixMs(0));
    }
    for slot in 0..6 {
        schedule.waiting(&waiting(slot, 1, 1));
    }
    assert_eq!(claims(&mut schedule, 1).len(), 6);
    assert_eq!(claims(&mut schedule, 2_500), []);
    schedule.waiting(&waiting(6, 1, 2_500));
    assert_eq!(claims(&mut schedule, 2_500).len(), 1);
}

#[test]
fn one_endpoint_uses_its_limit_except_for_an_eighth() {
    for (max, per_endpoint, expected) in [
        (1, 1, 1),
        (2, 2, 2),
        (4, 4, 4),
        (8, 8, 7),
        (8, 3, 3),
        (64, 64, 56),
    ] {
        let limits = Limits {
            max_in_flight: max,
            max_per_endpoint: per_endpoint,
        };
        let mut schedule = with_endpoints(2, limits);
        for sequence in 1..=100 {
            schedule.waiting(&waiting(0, sequence, 1));
        }
        assert_eq!(claims(&mut schedule, 1).len(), expected, "{max}");
    }
}

#[test]
fn slow_endpoints_start_nothing_while_they_hold_half() {
    let limits = Limits {
        max_in_flight: 8,
        max_per_endpoint: 8,
    };
    let mut schedule = with_endpoints(10, limits);
    for slot in 0..9 {
        schedule.waiting(&waiting(slot, 1, 1));
    }
    for claim in claims(&mut schedule, 1) {
        settle(&mut schedule, claim.id, 1_000);
    }
    for claim in claims(&mut schedule, 1) {
        settle(&mut schedule, claim.id, 1_000);
    }
    for slot in 0..9 {
        schedule.waiting(&waiting(slot, 2, 1));
    }
    let slow: Vec<_> = std::iter::from_fn(|| schedule.next(UnixMs(2_000))).collect();
    assert_eq!((slow.len(), slow.iter().all(|c| c.slow)), (4, true));
    schedule.waiting(&waiting(9, 1, 1));
    assert_eq!(claims(&mut schedule, 2_000).len(), 1);
    // One attempt that ends in time makes its endpoint fast again.
    settle(&mut schedule, slow[0].waiting.id, 10);
    assert_eq!(claims(&mut schedule, 2_000).len(), 1);
}

#[test]
fn an_attempt_that_passes_a_second_makes_its_endpoint_slow_without_being_told() {
    let mut schedule = with_endpoints(2, AMPLE);
    schedule.waiting(&waiting(0, 1, 1));
    claims(&mut schedule, 1);
    schedule.waiting(&waiting(0, 2, 1));
    assert!(!schedule.next(UnixMs(1_000)).unwrap().slow);
    schedule.waiting(&waiting(0, 3, 1));
    assert!(schedule.next(UnixMs(1_001)).unwrap().slow);
}

#[test]
fn a_newcomer_that_hangs_gets_its_second_attempt_when_the_first_has_passed_a_second() {
    let mut schedule = Schedule::new(AMPLE);
    schedule.endpoint(&endpoint(0), None, UnixMs(0));
    for sequence in 1..=3 {
        schedule.waiting(&waiting(0, sequence, 1));
    }
    assert_eq!(claims(&mut schedule, 10).len(), 1);
    assert_eq!(schedule.next_wake(), Some(UnixMs(1_010)));
    assert_eq!(claims(&mut schedule, 1_010).len(), 2);
}

#[test]
fn a_deactivated_endpoint_is_sent_nothing_until_it_is_active_again_and_then_the_oldest_first() {
    let mut schedule = with_endpoints(1, AMPLE);
    let mut off = endpoint(0);
    off.settings.active = false;
    schedule.waiting(&waiting(0, 1, 100));
    schedule.waiting(&retry(waiting(0, 2, 0), 50));
    schedule.endpoint(&off, None, UnixMs(0));
    assert_eq!(claims(&mut schedule, 1_000), []);
    assert_eq!(schedule.next_wake(), None);
    assert_eq!(schedule.gauges(UnixMs(1_000)).held, 2);
    let id = waiting(0, 1, 0).id;
    let why = schedule.waiting_for(id, UnixMs(100), UnixMs(1_000));
    assert_eq!(why, WaitingFor::EndpointInactive);
    schedule.endpoint(&endpoint(0), None, UnixMs(1_000));
    let order: Vec<_> = claims(&mut schedule, 1_000)
        .iter()
        .map(|w| w.sequence)
        .collect();
    assert_eq!(order, [2, 1]);
}

#[test]
fn a_rate_limit_spreads_attempts_over_time() {
    let mut schedule = Schedule::new(AMPLE);
    let mut limited = endpoint(0);
    limited.settings.rate_limit_per_second = Some(5.0);
    schedule.endpoint(&limited, Some(&healthy()), UnixMs(0));
    for sequence in 1..=20 {
        schedule.waiting(&waiting(0, sequence, 0));
    }
    let mut starts = Vec::new();
    let mut now = UnixMs(0);
    while schedule.open_count() > 0 {
        for claim in claims(&mut schedule, now.0) {
            starts.push(now.0);
            settle(&mut schedule, claim.id, 1);
        }
        let last = waiting(0, 20, 0);
        if schedule.open_count() > 0 {
            let why = schedule.waiting_for(last.id, last.due, now);
            assert_eq!(why, WaitingFor::RateLimit);
            now = schedule.next_wake().unwrap();
        }
    }
    let expected: Vec<_> = [0; 5]
        .into_iter()
        .chain((1..=15).map(|i| i * 200))
        .collect();
    assert_eq!(starts, expected);
}

#[test]
fn a_failed_head_holds_a_fifo_endpoint_up_and_a_later_round_does_not() {
    let mut schedule = Schedule::new(AMPLE);
    let mut fifo = endpoint(0);
    fifo.settings.ordering = Ordering::Fifo;
    schedule.endpoint(&fifo, Some(&healthy()), UnixMs(0));
    for sequence in 1..=3 {
        schedule.waiting(&waiting(0, sequence, 1));
    }
    let head = claims(&mut schedule, 1);
    assert_eq!(head.iter().map(|w| w.sequence).collect::<Vec<_>>(), [1]);
    schedule.answered(head[0].id, 5);
    assert_eq!(
        claims(&mut schedule, 6),
        [],
        "not before the outcome is recorded"
    );
    schedule.waiting(&retry(head[0], 60_000));
    assert_eq!(claims(&mut schedule, 7), []);
    assert_eq!(schedule.next_wake(), Some(UnixMs(60_000)));
    let second = waiting(0, 2, 1);
    let why = schedule.waiting_for(second.id, second.due, UnixMs(7));
    assert_eq!(why, WaitingFor::FifoPredecessor);
    // The same head in a later round, with the same wait.
    schedule.hold(head[0].id).unwrap();
    schedule.waiting(&QueueEntry {
        later_round: true,
        ..retry(head[0], 60_000)
    });
    schedule.release(head[0].id);
    let next = claims(&mut schedule, 8);
    assert_eq!(next.iter().map(|w| w.sequence).collect::<Vec<_>>(), [2]);
    settle(&mut schedule, next[0].id, 1);
    // When it is due, it goes in its old place.
    assert_eq!(claims(&mut schedule, 60_000)[0].sequence, 1);
}

#[test]
fn a_lack_of_resources_holds_up_only_its_endpoint_for_longer_and_longer() {
    let mut schedule = with_endpoints(2, AMPLE);
    for sequence in 1..=100 {
        schedule.waiting(&waiting(0, sequence, 1));
    }
    let together = claims(&mut schedule, 10);
    assert_eq!(together.len(), 32);
    for waiting in &together {
        schedule.set_back(waiting, UnixMs(10));
    }
    let mut now = 10;
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(claims(&mut schedule, now), [], "it waits");
        schedule.waiting(&waiting(1, now, now));
        let other = claims(&mut schedule, now);
        assert_eq!(other.len(), 1, "the other one goes immediately");
        settle(&mut schedule, other[0].id, 5);
        let wake = schedule.next_wake().unwrap().0;
        waits.push(wake - now);
        now = wake;
        let tried = claims(&mut schedule, now);
        let sequences: Vec<_> = tried.iter().map(|w| w.sequence).collect();
        assert_eq!(sequences, [1], "one try, of the first");
        schedule.set_back(&tried[0], UnixMs(now));
    }
    assert_eq!(
        waits,
        [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
    );
    assert_eq!(schedule.open_count(), 100);
    // One successful attempt shows that it is over.
    assert_eq!(claims(&mut schedule, now), []);
    now = schedule.next_wake().unwrap().0;
    let tried = claims(&mut schedule, now);
    settle(&mut schedule, tried[0].id, 5);
    assert_eq!(claims(&mut schedule, now).len(), 32);
}

#[test]
fn an_unreadable_delivery_is_tried_less_and_less_often_and_the_others_go_meanwhile() {
    let mut schedule = with_endpoints(1, AMPLE);
    let unreadable = waiting(0, 1, 5);
    schedule.waiting(&unreadable);
    let mut now = 10;
    let mut waits = Vec::new();
    for sequence in 2..10 {
        // As the store knows it, whenever it is tried.
        assert_eq!(claims(&mut schedule, now), [unreadable]);
        assert_eq!(schedule.claim_of(unreadable.id), Some(unreadable));
        schedule.postpone(&unreadable, UnixMs(now));
        assert_eq!(schedule.claim_of(unreadable.id), None);
        schedule.waiting(&waiting(0, sequence, now));
        let other = claims(&mut schedule, now);
        assert_eq!(other.len(), 1);
        settle(&mut schedule, other[0].id, 5);
        assert_eq!(claims(&mut schedule, now), []);
        let wake = schedule.next_wake().unwrap().0;
        waits.push(wake - now);
        now = wake;
    }
    assert_eq!(
        waits,
        [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]
    );
    // The store announces its due time.
    let again = retry(unreadable, now + 7);
    schedule.waiting(&again);
    assert_eq!(claims(&mut schedule, now + 7), [again]);
    assert_eq!(schedule.postponed.len(), 0);
}

#[test]
fn where_nothing_can_be_read_few_of_many_are_tried() {
    let mut schedule = with_endpoints(100, AMPLE);
    for sequence in 1..=100 {
        for slot in 0..100 {
            schedule.waiting(&waiting(slot, sequence, 1));
        }
    }
    let (mut now, mut tries) = (1, 0);
    while now < 60_000 {
        while let Some(claim) = schedule.next(UnixMs(now)) {
            schedule.postpone(&claim.waiting, UnixMs(now));
            tries += 1;
        }
        now = schedule.next_wake().unwrap().0;
    }
    assert!((60..=100).contains(&tries), "{tries} in a minute");
    // Once one can be read, everything goes.
    let mut read = 0;
    while schedule.open_count() > 0 {
        while let Some(claim) = schedule.next(UnixMs(now)) {
            settle(&mut schedule, claim.waiting.id, 1);
            read += 1;
        }
        now = schedule.next_wake().map_or(now, |at| at.0);
        assert!(now < 100_000, "{} left", schedule.open_count());
    }
    assert_eq!((read, schedule.postponed.len()), (10_000, 0));
}

#[test]
fn a_delivery_set_back_can_be_held_cancelled_and_discarded_and_keeps_its_place_in_a_fifo_queue() {
    let mut schedule = Schedule::new(AMPLE);
    let mut fifo = endpoint(0);
    fifo.settings.ordering = Ordering::Fifo;
    schedule.endpoint(&fifo, Some(&healthy()), UnixMs(0));
    for sequence in 1..=4 {
        schedule.waiting(&waiting(0, sequence, 1));
    }
    let head = claims(&mut schedule, 1);
    schedule.set_back(&head[0], UnixMs(1));
    assert_eq!(schedule.claimed_count(), 0);
    schedule.hold(head[0].id).unwrap();
    schedule.release(head[0].id);
    let order: Vec<_> = claims(&mut schedule, 1_001)
        .iter()
        .map(|w| w.sequence)
        .collect();
    assert_eq!(order, [1]);
    schedule.set_back(&head[0], UnixMs(1_001));
    // Cancelled.
    schedule.hold(head[0].id).unwrap();
    schedule.ended(head[0].id);
    schedule.release(head[0].id);
    let next = claims(&mut schedule, 3_001);
    assert_eq!(next[0].sequence, 2);
    schedule.set_back(&next[0], UnixMs(3_001));
    // Discarded.
    schedule.end_all(Slot(0));
    assert_eq!(schedule.open_count(), 0);
    assert_eq!(claims(&mut schedule, 60_000), []);
}

#[test]
fn a_million_waiting_over_ten_thousand_endpoints_take_less_than_sixty_megabytes() {
    let mut schedule = with_endpoints(10_000, AMPLE);
    for sequence in 1..=100 {
        for slot in 0..10_000 {
            // Half of them are retries, in no order.
            let new = waiting(slot, sequence, 1);
            let later = u64::from(slot % 7) * 1_000 + 5_000 - sequence;
            schedule.restore(&if slot % 2 == 0 {
                new
            } else {
                retry(new, later)
            });
        }
    }
    assert_eq!(schedule.open_count(), 1_000_000);
    let bytes: usize = schedule
        .queues
        .iter()
        .flatten()
        .map(|queue| size_of::<Queue>() + 8 + queue.backlog.bytes())
        .sum();
    assert!(bytes < 60_000_000, "{bytes}");
}

#[test]
fn removed_entries_take_no_room() {
    let mut schedule = with_endpoints(1, AMPLE);
    let mut fine = endpoint(0);
    for round in 0..10_000u64 {
        let new = waiting(0, round + 1, 10);
        schedule.waiting(&new);
        // An earlier wake-up each time, and a change of ring.
        fine.settings.rate_limit_per_second = (round % 2 == 0).then_some(1.0);
        schedule.endpoint(&fine, None, UnixMs(0));
        assert_eq!(schedule.next(UnixMs(0)), None);
        schedule.hold(new.id).unwrap();
        schedule.ended(new.id);
        schedule.release(new.id);
    }
    assert!(schedule.timers.len() <= 66 && schedule.started.is_empty());
    assert_eq!((schedule.open_count(), schedule.held.len()), (0, 0));
    fine.deleted_at = Some(UnixMs(0));
    schedule.endpoint(&fine, None, UnixMs(0));
    assert!(schedule.queues[0].is_none());
}
