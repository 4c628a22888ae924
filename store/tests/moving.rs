//! A file that is made of the items of another one answers as that one does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't continue fails"
)]

mod support;

use std::ops::ControlFlow;
use std::path::Path;
use stormhook_store::{
    Encoded, Item, NextStep, Op, Options, Sealing, Store, StoreError, discard_import, import_file,
    mark_moved, moved_to, read_file, reopen,
};
use support::history::{answers, encoded, expect_same, fill, go_on};
use support::*;

/// Returns the items of a stopped store.
fn items(path: &Path) -> Vec<Item> {
    let mut items = Vec::new();
    let all = read_file(path).unwrap().items(|item| {
        items.push(item);
        ControlFlow::Continue(())
    });
    all.unwrap();
    items
}

fn import(path: &Path, items: Vec<Item>) -> Result<(), StoreError> {
    // As they are in an export.
    let mut all = items.into_iter().map(|item| {
        let Encoded { kind, key, record } = item.encode()?;
        Item::decode(kind, &key, &record)
    });
    import_file(path, Sealing::plain(), || all.next().transpose())
}

/// A store of another path, with the clock and the random numbers of this one.
fn at(fixture: &Fixture, path: &Path) -> Fixture {
    let mut other = Fixture::new();
    other.close();
    other.now = fixture.now;
    other.options = Options {
        path: path.to_owned(),
        ..fixture.options.clone()
    };
    other.reopen();
    other
}

#[test]
fn a_history_from_a_seed_is_the_same_in_the_other_file() {
    for seed in 0..6 {
        // Many generations, or none.
        let mut fixture = Fixture::with(|options| {
            options.fold_items = if seed % 2 == 0 { 16 } else { 32_768 };
        });
        fill(&mut fixture, seed, 400);
        if seed > 2 {
            let horizon = fixture.now.0 - 3_600_000;
            fixture.sweep(
                stormhook_store::UnixMs(horizon),
                stormhook_store::UnixMs(horizon),
            );
        }
        fixture.reopen();
        let expected = answers(&mut fixture);
        fixture.close();
        let before = items(&fixture.options.path);
        let path = fixture.dir.path().join("other.redb");
        import(&path, before.clone()).unwrap();
        assert_eq!(encoded(&items(&path)), encoded(&before), "seed {seed}");
        let mut other = at(&fixture, &path);
        fixture.reopen();
        expect_same(&answers(&mut other), &expected);
        other.expect_whole();
        (fixture.random, other.random) = (Random::seeded(seed), Random::seeded(seed));
        expect_same(&go_on(&mut other), &go_on(&mut fixture));
        other.expect_whole();
    }
}

#[test]
fn gaps_that_the_sweep_left_are_kept_and_the_lists_are_whole() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let first = fixture.order();
    let swept = fixture.orders(3_000);
    let ends = swept.iter().map(|event| {
        let ended = settle(pair(event, &endpoint), NextStep::Success, fixture.now);
        Op::Settle(Box::new(ended))
    });
    let ends: Vec<Op> = ends.collect();
    fixture.apply(ends);
    fixture.pass_ms(DAY_MS);
    let last = fixture.order();
    fixture.sweep(fixture.now, fixture.now);
    let filter = of_endpoint(endpoint.id);
    let sequences = |fixture: &Fixture| -> Vec<u64> {
        let all = fixture.all_deliveries(&filter, 10);
        all.iter().map(|d| d.sequence).collect()
    };
    assert_eq!(sequences(&fixture), [3_002, 1]);
    fixture.close();
    let path = fixture.dir.path().join("other.redb");
    import(&path, items(&fixture.options.path)).unwrap();
    let mut other = at(&fixture, &path);
    assert_eq!(sequences(&other), [3_002, 1]);
    other.expect_whole();
    let next = other.order();
    assert_eq!(other.delivery(pair(&next, &endpoint)).sequence, 3_003);
    assert!(first.id < last.id && last.id < next.id);
}

#[test]
fn an_import_that_did_not_end_keeps_the_daemon_away_until_it_is_repeated_or_given_up() {
    let mut fixture = Fixture::new();
    fill(&mut fixture, 1, 100);
    fixture.close();
    let all = items(&fixture.options.path);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let stops_after = |count: usize| {
        let mut rest = all.iter().take(count).cloned();
        let cause = || StoreError::damaged("the export", "it ends here");
        import_file(&path, Sealing::plain(), || {
            rest.next().map(Some).ok_or_else(cause)
        })
        .unwrap_err()
    };
    for count in [0, 1, 20, all.len()] {
        assert!(stops_after(count).to_string().contains("it ends here"));
        assert!(!path.exists());
        let refused = Store::open(options(path.clone())).unwrap_err();
        assert!(
            matches!(refused, StoreError::Importing { .. })
                && refused.to_string().contains("run `stormhook import` again"),
            "{refused}"
        );
        assert!(!path.exists(), "not even an empty store is made");
    }
    assert!(discard_import(&path).unwrap());
    assert!(!discard_import(&path).unwrap());
    drop(Store::open(options(path.clone())).unwrap());

    stops_after(20);
    import(&path, all.clone()).unwrap();
    assert_eq!(encoded(&items(&path)), encoded(&all));
    drop(Store::open(options(path)).unwrap());
}

#[test]
fn only_an_empty_store_that_nobody_uses_is_imported_into() {
    let mut fixture = Fixture::new();
    let empty = items(&{
        fixture.close();
        fixture.options.path.clone()
    });
    // A daemon was started on it, and stopped: nothing is in it.
    import(&fixture.options.path, empty.clone()).unwrap();
    fixture.reopen();
    let busy = import(&fixture.options.path, empty.clone()).unwrap_err();
    assert!(matches!(busy, StoreError::AlreadyOpen { .. }), "{busy}");
    fixture.endpoint("org", &["*"]);
    fixture.close();
    let occupied = import(&fixture.options.path, empty).unwrap_err();
    assert!(
        matches!(occupied, StoreError::Occupied { .. }),
        "{occupied}"
    );
    fixture.reopen();
    assert_eq!(fixture.reader().all_endpoints().len(), 1);
}

#[test]
fn items_that_do_not_fit_together_are_refused() {
    let mut fixture = Fixture::new();
    fixture.endpoint("org", &["*"]);
    let orders = fixture.orders(2);
    fixture.accept(keyed("org", "k"));
    fixture.close();
    let all = items(&fixture.options.path);
    let path = fixture.dir.path().join("other.redb");
    let of = |kind: &str| all.iter().position(|item| item.kind() == kind).unwrap();
    let without = |at: usize| {
        let mut items = all.clone();
        items.remove(at);
        items
    };
    let mut twice = all.clone();
    twice.push(all[of("key")].clone());
    twice.push(all[of("event")].clone());
    let mut same_number = all.clone();
    if let Item::Delivery(d) = &mut same_number[of("delivery") + 2] {
        assert_eq!(d.id.event, orders[1].id);
        d.sequence = 1;
    }
    for (items, why) in [
        (Vec::new(), "there are none"),
        (without(of("position")), "not in its place"),
        (without(of("endpoint")), "doesn't exist"),
        (without(of("event")), "not in its place"),
        (twice, "not in its place"),
        (same_number, "sequence number 1"),
    ] {
        let refused = import(&path, items).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert!(!path.exists());
    }
    import(&path, all.clone()).unwrap();
}

#[test]
fn a_moved_store_is_opened_again_only_when_the_mark_is_taken_away() {
    let mut fixture = Fixture::new();
    fixture.order();
    fixture.close();
    let path = fixture.options.path.clone();
    mark_moved(&path, "postgres://db.example/stormhook").unwrap();
    let refused = Store::open(fixture.options.clone())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("postgres://db.example/stormhook")
            && refused.contains("`stormhook reopen`"),
        "{refused}"
    );
    // It is still read.
    assert!(!items(&path).is_empty());
    let to = reopen(&path).unwrap();
    assert_eq!(to.as_deref(), Some("postgres://db.example/stormhook"));
    assert_eq!(moved_to(&path).unwrap(), None);
    assert_eq!(reopen(&path).unwrap(), None);
    fixture.reopen();
}

#[test]
fn damage_in_the_store_ends_the_export() {
    let mut fixture = Fixture::new();
    let endpoint = fixture.endpoint("org", &["*"]);
    let order = fixture.order();
    let id = pair(&order, &endpoint);
    let mut key = [0; 20];
    key[..16].copy_from_slice(&id.event.0.to_be_bytes());
    key[16..].copy_from_slice(&id.slot.0.to_be_bytes());
    fixture.damage("deliveries", &key);
    fixture.close();
    let reader = read_file(&fixture.options.path).unwrap();
    let ended = reader.items(|_| ControlFlow::Continue(()));
    assert!(ended.unwrap_err().is_damage());
}
