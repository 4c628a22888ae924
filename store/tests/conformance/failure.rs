//! A commit that fails: no partial result, no false answer, and the next one continues from there.

use crate::support::disk::Disk;
use crate::support::*;
use stormhook_store::maintenance::Probe;
use stormhook_store::query::DeliveryFilter;
use stormhook_store::{
    Accepted, Applied, Done, EndpointId, NextStep, Op, QueueEntry, Store, StoreError,
};

struct Faulty {
    disk: Disk,
    store: Store,
    random: u128,
}

impl Faulty {
    fn new() -> Self {
        let disk = Disk::default();
        let opened = disk.clone();
        let store = Store::open_on(options("simulated".into()), move || opened.open());
        Self {
            disk,
            store: store.expect("a new store"),
            random: 1,
        }
    }

    fn apply(&mut self, ops: Vec<Op>) -> Result<Applied, StoreError> {
        self.random += 1;
        self.store.apply(ops, START, self.random << 20)
    }

    fn endpoint(&mut self) -> stormhook_store::Slot {
        let new = new_endpoint(EndpointId(self.random), "org", &["*"]);
        let applied = self.apply(vec![Op::CreateEndpoint(new.into())]);
        match applied.unwrap().done.pop() {
            Some(Done::CreateEndpoint(Ok(created))) => created.endpoint.slot,
            other => panic!("{other:?}"),
        }
    }

    fn expect_whole(&self) {
        assert_eq!(self.store.reader().check().unwrap().damage, [""; 0]);
    }
}

fn some_events(key: &str) -> Vec<Op> {
    vec![
        Op::Accept(keyed("org", key)),
        Op::Accept(event("org", "a.b")),
        Op::Accept(event("org", "a.b")),
    ]
}

#[test]
fn a_commit_for_which_there_is_no_room_leaves_no_trace() {
    let mut f = Faulty::new();
    let slot = f.endpoint();
    let before = f.apply(some_events("first")).unwrap();
    let open = open_of(&f.store);
    f.disk.fill_up(true);
    let large = vec![0; 4 << 20];
    let mut ops = some_events("second");
    let mut random = Random::seeded(3);
    // More than the cache holds, so that writes fail before the commit.
    for _ in 0..8 {
        let mut new = event("org", "a.b");
        new.data = large
            .iter()
            .map(|_| random.next().to_le_bytes()[0])
            .collect();
        ops.push(Op::Accept(new));
    }
    let error = f.apply(ops).expect_err("there is no room");
    assert!(error.is_disk_full(), "{error}");
    f.disk.fill_up(false);
    if matches!(error, StoreError::InDoubt(_)) {
        assert!(f.store.resolve_in_doubt().unwrap().is_none());
    }
    assert_eq!(open_of(&f.store), open);
    assert_eq!(f.store.reader().state(slot).last_sequence, 3);
    assert_eq!(f.store.reader().open_count(), 3);
    // The assigned numbers are assigned again, and the key is free.
    let after = f.apply(some_events("second")).unwrap();
    assert_eq!(after.commit, before.commit + 1);
    assert!(matches!(
        after.done[0],
        Done::Accept(Ok(Accepted {
            replayed: false,
            ..
        }))
    ));
    assert_eq!(f.store.reader().state(slot).last_sequence, 6);
    f.expect_whole();
}

#[test]
fn while_nobody_knows_whether_a_commit_happened_nothing_else_is_accepted() {
    let mut f = Faulty::new();
    f.endpoint();
    f.apply(some_events("first")).unwrap();
    f.disk.power_for(Some(2));
    assert!(matches!(
        f.apply(some_events("second")),
        Err(StoreError::InDoubt(_))
    ));
    assert!(matches!(
        f.apply(vec![Op::Probe(Probe)]),
        Err(StoreError::InDoubt(_))
    ));
    assert!(f.store.resolve_in_doubt().is_err());
    assert!(
        f.store.reader().check().is_err(),
        "readers get the error too"
    );
    f.disk.crash(&mut Random::seeded(1));
    let happened = f.store.resolve_in_doubt().unwrap().is_some();
    let expected = if happened { 6 } else { 3 };
    assert_eq!(open_of(&f.store).len(), expected);
    f.apply(some_events("third")).unwrap();
    assert_eq!(open_of(&f.store).len(), expected + 3);
    f.expect_whole();
}

#[test]
fn a_commit_whose_outcome_was_unknown_comes_to_what_the_file_says_wherever_it_broke() {
    let mut happened = 0;
    let mut undone = 0;
    for cut in 1..40 {
        let mut f = Faulty::new();
        let slot = f.endpoint();
        let done = f.apply(some_events("first")).unwrap().done;
        let [
            Done::Accept(Ok(Accepted {
                event: first,
                replayed: false,
            })),
            ..,
        ] = done.as_slice()
        else {
            panic!("{done:?}");
        };
        let id = pair_of(first.id, slot);
        let mut ops = some_events("second");
        ops.push(Op::Settle(Box::new(settle(id, NextStep::Success, START))));
        f.disk.power_for(Some(cut));
        let mut result = f.apply(ops);
        if result.is_ok() && !f.disk.power_is_gone() {
            break;
        }
        f.disk.crash(&mut Random::seeded(cut));
        if matches!(result, Err(StoreError::InDoubt(_))) {
            result = match f.store.resolve_in_doubt().expect("the power is back") {
                Some(applied) => Ok(applied),
                None => Err(StoreError::NotCommitted(Box::new(StoreError::InDoubt(
                    String::new(),
                )))),
            };
        } else {
            // The handle that was open when the power failed is useless: reopen as after any failure.
            f.store.resolve_in_doubt().expect("the power is back");
        }
        let reader = f.store.reader();
        let all = reader.deliveries(&DeliveryFilter::default(), None, 50);
        let count = all.unwrap().items.len();
        let settled = !reader.bare_delivery(id).unwrap().unwrap().status.is_open();
        match result {
            Ok(applied) => {
                happened += 1;
                assert_eq!(applied.done.len(), 4);
                assert!(!applied.changes.is_empty());
                assert_eq!((count, settled), (6, true), "cut {cut}");
                assert_eq!(reader.state(slot).last_sequence, 6);
                assert!(reader.state(slot).last_success_at.is_some());
                assert_eq!(reader.open_count(), 5);
            }
            Err(StoreError::NotCommitted(_)) => {
                undone += 1;
                assert_eq!((count, settled), (3, false), "cut {cut}");
                assert_eq!(reader.state(slot).last_sequence, 3);
                assert_eq!(reader.open_count(), 3);
            }
            Err(e) => panic!("cut {cut}: {e}"),
        }
        let next = f.apply(some_events("second")).unwrap();
        let replayed = matches!(
            next.done[0],
            Done::Accept(Ok(Accepted { replayed: true, .. }))
        );
        assert_eq!(replayed, settled, "cut {cut}");
        f.expect_whole();
    }
    assert!(undone > 0, "{happened} happened, {undone} undone");
}

#[test]
fn a_sync_that_fails_is_not_taken_for_a_commit_or_for_none_without_looking() {
    let mut f = Faulty::new();
    let slot = f.endpoint();
    f.disk.fail_syncs(true);
    let failed = f.apply(some_events("k"));
    f.disk.fail_syncs(false);
    let stored = match failed {
        Ok(_) => true,
        Err(StoreError::NotCommitted(_)) => false,
        Err(StoreError::InDoubt(_)) => f.store.resolve_in_doubt().unwrap().is_some(),
        Err(e) => panic!("{e}"),
    };
    let expected = if stored { 3 } else { 0 };
    assert_eq!(f.store.reader().state(slot).last_sequence, expected);
    let again = f.apply(some_events("k")).unwrap();
    assert_eq!(
        matches!(
            again.done[0],
            Done::Accept(Ok(Accepted { replayed: true, .. }))
        ),
        stored
    );
    f.expect_whole();
}

#[test]
fn a_file_that_lost_an_announced_commit_is_not_gone_on_with() {
    let mut f = Faulty::new();
    f.endpoint();
    f.apply(some_events("first")).unwrap();
    let earlier = f.disk.bytes();
    f.apply(some_events("second")).unwrap();
    f.disk.replace(earlier);
    f.disk.fill_up(true);
    let _ = f.apply(some_events("third"));
    f.disk.fill_up(false);
    match f.store.resolve_in_doubt() {
        Err(e) => assert!(e.to_string().contains("announced"), "{e}"),
        Ok(found) => panic!("{found:?}"),
    }
}

/// Damages every byte of the pages that list the tables and their types.
#[test]
fn a_damaged_list_of_tables_is_damage_and_never_a_new_store() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    fixture.orders(3);
    let path = fixture.options.path.clone();
    fixture.close();
    let sound = std::fs::read(&path).unwrap();
    let lists = ["meta", "generations", "deliveries"].map(str::as_bytes);
    let places: std::collections::BTreeSet<usize> = lists
        .iter()
        .flat_map(|name| {
            let found = sound.windows(name.len()).enumerate();
            found.filter(move |it| it.1 == *name).map(|(at, _)| at)
        })
        .flat_map(|at| at..at + 48)
        .collect();
    assert!(places.len() > 100, "{}", places.len());
    let opened = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Store::open(options(path.clone()))
            .and_then(|store| Ok((open_of(&store).len(), store.reader().check()?.damage)))
    };
    let mut told = 0;
    for at in places {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x30;
        match opened(&bytes) {
            Err(error) => {
                assert!(error.is_damage(), "byte {at}: {error}");
                told += 1;
            }
            Ok((_, damage)) if !damage.is_empty() => told += 1,
            Ok((open, _)) => assert_eq!(open, 3, "byte {at}"),
        }
        bytes[at] ^= 0x20;
        let (open, _) = opened(&bytes).unwrap_or_else(|e| panic!("byte {at}: {e}"));
        assert_eq!(open, 3, "one bit of byte {at}");
    }
    assert!(told > 10, "only {told} were told");
}

/// Returns a store with waiting deliveries as bytes, and these deliveries.
fn some_waiting() -> (Vec<u8>, Vec<QueueEntry>) {
    let mut f = Faulty::new();
    f.endpoint();
    for _ in 0..20 {
        let event = |_| Op::Accept(event("org", "order.created"));
        f.apply((0..50).map(event).collect()).unwrap();
    }
    let (disk, open) = (f.disk.clone(), open_of(&f.store));
    drop(f);
    (disk.bytes(), open)
}

/// Returns the offsets that are in use.
fn used(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| bytes[*at] != 0).collect()
}

#[test]
fn one_wrong_bit_anywhere_costs_nothing_and_is_named_by_check() {
    let (sound, open) = some_waiting();
    let used = used(&sound);
    let mut random = Random::seeded(9);
    let mut named = 0;
    // The figures in docs/reliability.md are from 1,500.
    let flips = std::env::var("STORMHOOK_DAMAGES").map_or(300, |n| n.parse().unwrap());
    for _ in 0..flips {
        let at = used[usize::try_from(random.below(used.len() as u64)).unwrap()];
        let bit = random.below(8);
        let flip = format!("bit {bit} of byte {at}");
        let disk = Disk::of(sound.clone());
        disk.flip(at, 1 << bit);
        let opened = disk.clone();
        let mut store = Store::open_on(options("simulated".into()), move || opened.open())
            .unwrap_or_else(|e| panic!("{flip}: {e}"));
        assert_eq!(open_of(&store), open, "{flip}");
        let damage = store.reader().check().expect("it can be checked").damage;
        named += usize::from(!damage.is_empty());
        for damage in &damage {
            assert!(damage.contains("has one wrong bit"), "{flip}: {damage}");
        }
        for (n, waiting) in open.iter().take(5).enumerate() {
            let settled = Op::Settle(Box::new(settle(waiting.id, NextStep::Success, START)));
            let accepted = Op::Accept(event("org", "a.b"));
            let applied = store.apply([settled, accepted], START, 7_000 + n as u128);
            assert!(applied.is_ok(), "{flip}: {:?}", applied.err());
        }
        assert_eq!(open_of(&store).len(), open.len(), "{flip}");
        drop(store);
        let again = Store::open_on(options("simulated".into()), move || disk.open());
        assert!(again.is_ok(), "{flip}: {:?}", again.err());
    }
    assert!(named > flips / 20, "check named {named} of {flips}");
}

#[test]
fn a_wrong_bit_is_gone_once_the_file_was_compacted() {
    let (sound, open) = some_waiting();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stormhook.redb");
    let used = used(&sound);
    let mut random = Random::seeded(4);
    for _ in 0..100 {
        let mut bytes = sound.clone();
        bytes[used[usize::try_from(random.below(used.len() as u64)).unwrap()]] ^= 8;
        std::fs::write(&path, bytes).unwrap();
        let named = stormhook_store::check_file(&path).unwrap().damage;
        // Much of the file is no longer in use.
        if !named.iter().any(|damage| damage.contains("one wrong bit")) {
            continue;
        }
        stormhook_store::compact_file(&path).unwrap();
        let report = stormhook_store::check_file(&path).unwrap();
        assert_eq!(report.damage, [""; 0]);
        let store = Store::open(options(path)).unwrap();
        assert_eq!(open_of(&store), open);
        return;
    }
    panic!("no bit was named");
}

/// More damage than can be corrected, under an open store that has not read the page yet.
#[test]
fn a_commit_that_meets_damage_leaves_the_file_as_it_was_and_later_ones_succeed() {
    let (sound, open) = some_waiting();
    let used = used(&sound);
    let mut random = Random::seeded(9);
    let mut failed = 0;
    for _ in 0..1_500 {
        let at = used[usize::try_from(random.below(used.len() as u64)).unwrap()];
        let wrong = 2 + usize::try_from(random.below(30)).unwrap();
        let flips: Vec<(usize, u8)> = (at..sound.len().min(at + wrong))
            .map(|at| (at, u8::try_from(1 + random.below(255)).unwrap()))
            .collect();
        failed += settle_all_on(&sound, &open, &flips);
        open_damaged(&sound, &flips);
    }
    assert!(failed > 20, "{failed} commits failed");
}

/// A damaged file opens, whether or not it can commit, and opens again; or it is refused and left unchanged.
fn open_damaged(sound: &[u8], flips: &[(usize, u8)]) {
    let at = flips[0].0;
    let disk = Disk::of(sound.to_vec());
    for (at, bits) in flips {
        disk.flip(*at, *bits);
    }
    let before = disk.bytes();
    let open = || {
        let disk = disk.clone();
        Store::open_on(options("simulated".into()), move || disk.open())
    };
    let Ok(mut store) = open() else {
        assert!(
            disk.bytes() == before,
            "byte {at}: a refused file was changed"
        );
        return;
    };
    let _may_fail = store.apply([Op::Accept(event("org", "a.b"))], START, 9);
    drop(store);
    let again = open();
    assert!(again.is_ok(), "byte {at}: {:?}", again.err());
}

/// Settles the waiting deliveries, one commit each, on a file that is damaged meanwhile. Returns how many commits
/// failed.
fn settle_all_on(sound: &[u8], open: &[QueueEntry], flips: &[(usize, u8)]) -> u32 {
    let at = flips[0].0;
    let disk = Disk::of(sound.to_vec());
    let opened = disk.clone();
    let mut store = Store::open_on(options("simulated".into()), move || opened.open()).unwrap();
    store.accept().unwrap();
    for (at, bits) in flips {
        disk.flip(*at, *bits);
    }
    let mut failed = 0;
    for (n, waiting) in open.iter().take(20).enumerate() {
        let before = disk.bytes();
        let settled = Op::Settle(Box::new(settle(waiting.id, NextStep::Success, START)));
        let Err(error) = store.apply([settled], START, 77 + n as u128) else {
            continue;
        };
        failed += 1;
        assert!(
            disk.bytes() == before,
            "byte {at}: a failed commit changed the file"
        );
        // If something is damaged that every commit needs, the file is not reopened, with an error.
        if matches!(error, StoreError::InDoubt(_)) {
            let again = store.resolve_in_doubt();
            assert!(again.is_err_and(|e| e.is_damage()), "byte {at}: {error}");
            break;
        }
        assert!(error.is_damage(), "byte {at}: {error}");
        let accepted = store.apply([Op::Accept(event("org", "a.b"))], START, 7_000 + n as u128);
        let damage = store.reader().check().expect("it can be checked").damage;
        assert!(
            accepted.is_ok() || !damage.is_empty(),
            "byte {at}: {:?}",
            accepted.err()
        );
    }
    failed
}

#[test]
fn a_file_that_can_t_be_written_to_is_named_by_check_and_healed_by_compact() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    for _ in 0..20 {
        fixture.orders(5);
    }
    let open = fixture.open();
    let path = fixture.options.path.clone();
    fixture.close();
    let sound = std::fs::read(&path).unwrap();
    let heads: Vec<usize> = (4_096..sound.len())
        .filter(|at| at % 4_096 < 256 && sound[*at] != 0)
        .collect();
    let mut random = Random::seeded(3);
    let mut healed = 0;
    for _ in 0..600 {
        let at = heads[usize::try_from(random.below(heads.len() as u64)).unwrap()];
        let mut bytes = sound.clone();
        bytes[at] ^= 3 << random.below(7);
        std::fs::write(&path, &bytes).unwrap();
        let refused = match Store::open(options(path.clone())) {
            Ok(mut store) => store.apply([Op::Probe(Probe)], START, 1).is_err(),
            Err(e) => e.to_string().contains("`stormhook compact`"),
        };
        if !refused {
            continue;
        }
        match stormhook_store::check_file(&path) {
            Ok(report) => assert_ne!(report.damage, [""; 0], "byte {at}"),
            // It can't even be read.
            Err(e) => assert!(e.is_damage(), "byte {at}: {e}"),
        }
        // If rows are damaged too, it is left as it is.
        if stormhook_store::compact_file(&path).is_err() {
            continue;
        }
        let mut store = Store::open(options(path.clone())).expect("it opens");
        assert!(
            store.apply([Op::Probe(Probe)], START, 2).is_ok(),
            "byte {at}"
        );
        assert_eq!(open_of(&store), open, "byte {at}");
        healed += 1;
        if healed == 2 {
            return;
        }
    }
    assert!(healed > 0, "no file was refused for the engine's own pages");
}
