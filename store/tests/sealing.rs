//! Secrets at rest in a file: what can be read with which key, and what a change of the key leaves at any moment.

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
use std::sync::Arc;
use stormhook_store::endpoint::{CustomHeaders, EndpointChange};
use stormhook_store::maintenance::{Reseal, Resealed};
use stormhook_store::{
    AtRest, DeleteEndpoint, Form, Item, Key, Keys, Op, Options, RotateSecret, Sealing, Store,
    StoreError, UnixMs, check_file, compact_file, import_file, read_file, read_file_with_secrets,
    reseal_file,
};
use support::disk::{self, Disk, Kept, survive};
use support::*;

/// The value of a header of every endpoint.
const VALUE: &str = "planted-header-value";

fn key(n: u8) -> Key {
    Key::new(&[n; 32])
}

fn keys(current: Option<u8>, previous: Option<u8>) -> Arc<Keys> {
    Arc::new(Keys::new(current.map(key), previous.map(key)))
}

fn encrypted(n: u8) -> Form {
    Form::Encrypted(key(n).id())
}

/// A store with so many endpoints, whose steps write two of them.
fn with_endpoints(count: u8, keys: Arc<Keys>) -> Fixture {
    let mut fixture = Fixture::with(|options| {
        options.reseal_step = 2;
        options.keys = keys;
    });
    if let Some(form) = fixture.reader().form_wanted() {
        fixture.run(Reseal { to: form });
    }
    for n in 0..count {
        let id = fixture.endpoint_id();
        let mut new = new_endpoint(id, "org", &["*"]);
        new.settings.headers = CustomHeaders([("x-key".to_owned(), VALUE.to_owned())].into());
        new.secret = secret(n);
        new.seed = Some(seed(n));
        let created = fixture.run(stormhook_store::CreateEndpoint::from(new));
        created.unwrap();
    }
    fixture
}

/// Returns every secret of every endpoint, as text.
fn secrets(store: &Store) -> Vec<String> {
    let endpoints = store.reader().all_endpoints();
    let all = endpoints.iter().flat_map(|e| {
        assert!(e.sealed.is_none());
        let signs = e.secrets.iter().map(|live| {
            let seed = live.seed.as_ref().map(|seed| *seed.expose());
            format!("{} {} {seed:?}", e.id, live.secret.expose())
        });
        let headers = e
            .headers
            .0
            .values()
            .map(|value| format!("{} {value}", e.id));
        signs.chain(headers).collect::<Vec<_>>()
    });
    all.collect()
}

fn open(options: &Options, keys: Arc<Keys>) -> Result<Store, StoreError> {
    Store::open(Options {
        keys,
        ..options.clone()
    })
}

fn refusal(opened: Result<Store, StoreError>) -> String {
    let refused = opened.expect_err("it is refused");
    assert!(
        matches!(refused, StoreError::KeyMissing { .. }),
        "{refused}"
    );
    refused.to_string()
}

/// Whether the bytes of a file have this text in them.
fn holds(path: &Path, text: &[u8]) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).any(|part| part == text)
}

/// Everything of the first endpoint that is secret.
fn planted() -> [Vec<u8>; 3] {
    let secret = secret(1).expose().as_bytes().to_vec();
    [secret, vec![1; 32], VALUE.as_bytes().to_vec()]
}

#[test]
fn a_store_with_a_key_has_no_secret_in_its_file_and_opens_with_that_key_alone() {
    let mut fixture = with_endpoints(3, keys(Some(1), None));
    let expected = secrets(fixture.store());
    assert_eq!(expected.len(), 6);
    fixture.close();
    let path = fixture.options.path.clone();
    for secret in planted() {
        assert!(!holds(&path, &secret));
    }
    assert!(holds(&path, b"https://partner.example/hooks"));
    let wanted = key(1).id().to_string();
    let without = refusal(open(&fixture.options, keys(None, None)));
    assert!(
        without.contains(&format!(
            "encrypted with key {wanted}, and no key is configured"
        )),
        "{without}"
    );
    let another = refusal(open(&fixture.options, keys(Some(2), None)));
    let held = key(2).id();
    assert!(
        another.contains(&wanted) && another.contains(&format!("the configured key is {held}")),
        "{another}"
    );
    let store = open(&fixture.options, keys(Some(1), None)).unwrap();
    assert_eq!(secrets(&store), expected);
    assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
}

#[test]
fn without_the_key_everything_but_secrets_can_be_read_and_nothing_is_written() {
    let mut fixture = with_endpoints(2, keys(Some(1), None));
    fixture.order();
    fixture.close();
    let path = fixture.options.path.clone();
    let bytes = std::fs::read(&path).unwrap();
    let report = check_file(&path).unwrap();
    assert_eq!(report.damage, [""; 0]);
    assert_eq!(report.secrets, AtRest::of(encrypted(1)));
    let reader = read_file(&path).unwrap();
    assert_eq!(reader.at_rest(), AtRest::of(encrypted(1)));
    let endpoints = reader.all_endpoints();
    assert_eq!(endpoints.len(), 2);
    for endpoint in &endpoints {
        assert_eq!(endpoint.url, "https://partner.example/hooks");
        assert_eq!(endpoint.headers.0["x-key"], "");
        assert!(endpoint.signs_with_ed25519() && endpoint.secrets.is_empty());
    }
    let moved = reader.items(|_| ControlFlow::Continue(()));
    assert!(matches!(moved, Err(StoreError::KeyMissing { .. })));
    let other = read_file_with_secrets(&path, keys(Some(2), None)).map(drop);
    assert!(matches!(other, Err(StoreError::KeyMissing { .. })));
    drop(reader);
    assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
}

#[test]
fn secrets_that_are_there_are_encrypted_in_steps_which_go_on_after_a_restart() {
    let mut fixture = with_endpoints(7, keys(None, None));
    let expected = secrets(fixture.store());
    assert_eq!(fixture.reader().at_rest(), AtRest::default());
    fixture.options.keys = keys(Some(1), None);
    fixture.reopen();
    assert_eq!(fixture.reader().form_wanted(), Some(encrypted(1)));
    let unfinished = AtRest {
        form: encrypted(1),
        before: Some(Form::Plain),
    };
    let mut left = Vec::new();
    for _ in 0..2 {
        let step = fixture.run(Reseal { to: encrypted(1) });
        assert_eq!(step.at_rest, unfinished);
        left.push(step.left);
        fixture.expect_whole();
    }
    assert_eq!(left, [5, 3]);
    // What changes meanwhile is written in the new form, also if it had been the next.
    let last = fixture.reader().all_endpoints()[6].id;
    let change = EndpointChange {
        description: Some(Some("changed".to_owned())),
        ..EndpointChange::default()
    };
    fixture.change(last, change);
    fixture.reopen();
    assert_eq!(fixture.reader().at_rest(), unfinished);
    assert_eq!(fixture.reader().count_to_reseal(), 2);
    // Without the key it is refused already.
    fixture.close();
    refusal(open(&fixture.options, keys(None, None)));
    fixture.reopen();
    let step = fixture.run(Reseal { to: encrypted(1) });
    let done = Resealed {
        at_rest: AtRest::of(encrypted(1)),
        left: 0,
    };
    assert_eq!(step, done);
    assert_eq!(fixture.reader().form_wanted(), None);
    assert_eq!(secrets(fixture.store()), expected);
    fixture.expect_whole();
}

#[test]
fn an_endpoint_that_is_deleted_or_rotated_meanwhile_keeps_the_right_secrets() {
    let mut fixture = with_endpoints(5, keys(None, None));
    fixture.options.keys = keys(Some(1), None);
    fixture.reopen();
    let ids: Vec<_> = fixture
        .reader()
        .all_endpoints()
        .iter()
        .map(|e| e.id)
        .collect();
    let rotate = Op::RotateSecret(RotateSecret {
        id: ids[1],
        secret: secret(99),
        seed: seed(99),
        overlap_ms: HOUR_MS,
    });
    let delete = Op::DeleteEndpoint(DeleteEndpoint { id: ids[0] });
    // In one commit, before and after the step.
    let applied = fixture.apply(vec![rotate, Reseal { to: encrypted(1) }.into(), delete]);
    assert_eq!(applied.done.len(), 3);
    while fixture.run(Reseal { to: encrypted(1) }).left > 0 {}
    let expected = secrets(fixture.store());
    assert_eq!(expected.len(), 3 + 3 * 2);
    fixture.reopen();
    assert_eq!(secrets(fixture.store()), expected);
    fixture.expect_whole();
}

#[test]
fn once_the_key_is_changed_the_one_before_is_refused() {
    let mut fixture = with_endpoints(3, keys(Some(1), None));
    let expected = secrets(fixture.store());
    fixture.options.keys = keys(Some(2), Some(1));
    fixture.reopen();
    assert_eq!(fixture.reader().form_wanted(), Some(encrypted(2)));
    assert!(fixture.run(Reseal { to: encrypted(2) }).left > 0);
    fixture.close();
    for alone in [1, 2] {
        let refused = refusal(open(&fixture.options, keys(Some(alone), None)));
        assert!(refused.contains("is not finished"), "{refused}");
    }
    fixture.reopen();
    assert_eq!(fixture.run(Reseal { to: encrypted(2) }).left, 0);
    fixture.close();
    let refused = refusal(open(&fixture.options, keys(Some(1), None)));
    assert!(refused.contains(&key(2).id().to_string()), "{refused}");
    let store = open(&fixture.options, keys(Some(2), None)).unwrap();
    assert_eq!(secrets(&store), expected);
}

#[test]
fn a_stopped_store_is_decrypted_after_what_was_begun_before() {
    let mut fixture = with_endpoints(5, keys(Some(1), None));
    let expected = secrets(fixture.store());
    fixture.options.keys = keys(Some(2), Some(1));
    fixture.reopen();
    assert!(fixture.run(Reseal { to: encrypted(2) }).left > 0);
    fixture.close();
    let mut seen = Vec::new();
    let reseal = |keys: Arc<Keys>, seen: &mut Vec<AtRest>| {
        let path = &fixture.options.path;
        let now = UnixMs(START.0 + HOUR_MS);
        reseal_file(
            path,
            keys,
            Form::Plain,
            now,
            || 7,
            |done| seen.push(done.at_rest),
        )
    };
    let missing = reseal(keys(Some(2), None), &mut seen);
    assert!(matches!(missing, Err(StoreError::KeyMissing { .. })));
    reseal(keys(Some(2), Some(1)), &mut seen).unwrap();
    assert_eq!(seen.first(), Some(&AtRest::of(encrypted(2))));
    assert_eq!(seen.last(), Some(&AtRest::default()));
    let store = open(&fixture.options, keys(None, None)).unwrap();
    assert_eq!(secrets(&store), expected);
    assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
}

#[test]
fn an_encrypted_store_is_not_written_with_a_key_that_it_lacks() {
    let mut fixture = with_endpoints(1, keys(Some(1), None));
    let refused = fixture.try_apply(vec![Reseal { to: encrypted(2) }.into()]);
    let refused = refused.map(drop).unwrap_err();
    assert!(
        refused.to_string().contains(&key(2).id().to_string()),
        "{refused}"
    );
    assert_eq!(fixture.reader().at_rest(), AtRest::of(encrypted(1)));
    fixture.order();
    fixture.expect_whole();
}

#[test]
fn a_row_in_a_form_that_the_store_does_not_have_is_damage() {
    let plain = with_endpoints(2, keys(None, None));
    let mut rows = raw::Rows::new();
    let path = plain.options.path.clone();
    drop(plain.reader());
    let dir = plain.dir;
    raw::edit::<4>(&copied(&path, dir.path()), "endpoints", &mut |found| {
        rows.clone_from(found);
    });
    let mut fixture = with_endpoints(2, keys(Some(1), None));
    fixture.close();
    raw::edit::<4>(&fixture.options.path, "endpoints", &mut |found| {
        found.extend(rows.clone());
    });
    let named = check_file(&fixture.options.path).map(drop).unwrap_err();
    let named = named.to_string();
    assert!(
        named.contains("it is not encrypted, but the store is"),
        "{named}"
    );
    let refused = Store::open(fixture.options.clone()).map(drop).unwrap_err();
    assert!(refused.is_damage(), "{refused}");
}

/// Returns the path of a copy in the same folder.
fn copied(path: &Path, folder: &Path) -> std::path::PathBuf {
    let to = folder.join("copy.redb");
    std::fs::copy(path, &to).unwrap();
    to
}

#[test]
fn earlier_bytes_remain_in_free_pages_until_the_store_is_compacted() {
    let mut fixture = with_endpoints(40, keys(None, None));
    let expected = secrets(fixture.store());
    fixture.options.keys = keys(Some(1), None);
    fixture.options.reseal_step = 1_000;
    fixture.reopen();
    assert_eq!(fixture.run(Reseal { to: encrypted(1) }).left, 0);
    fixture.close();
    let path = fixture.options.path.clone();
    assert!(holds(&path, VALUE.as_bytes()), "or the test shows nothing");
    compact_file(&path).unwrap();
    for secret in planted() {
        assert!(!holds(&path, &secret));
    }
    fixture.reopen();
    assert_eq!(secrets(fixture.store()), expected);
    // And those of the key before.
    fixture.options.keys = keys(Some(2), Some(1));
    fixture.reopen();
    let before = key(1).id().to_string();
    assert_eq!(fixture.run(Reseal { to: encrypted(2) }).left, 0);
    fixture.close();
    compact_file(&path).unwrap();
    let id = u32::from_str_radix(&before, 16).unwrap().to_be_bytes();
    assert!(!holds(&path, &id));
}

#[test]
fn a_copy_is_encrypted_as_the_store_is_and_needs_the_same_key() {
    let mut fixture = with_endpoints(2, keys(Some(1), None));
    let expected = secrets(fixture.store());
    let path = fixture.dir.path().join("backup.redb");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    fixture.reader().copy_into(file, || true).unwrap().unwrap();
    for secret in planted() {
        assert!(!holds(&path, &secret));
    }
    let options = Options {
        path: path.clone(),
        ..fixture.options.clone()
    };
    refusal(open(&options, keys(None, None)));
    let store = open(&options, keys(Some(1), None)).unwrap();
    assert_eq!(secrets(&store), expected);
}

#[test]
fn a_store_is_moved_to_one_with_another_key_or_none() {
    let mut fixture = with_endpoints(3, keys(Some(1), None));
    let expected = secrets(fixture.store());
    fixture.close();
    let mut from = fixture.options.clone();
    for (n, to) in [keys(Some(2), None), keys(None, None), keys(Some(1), None)]
        .into_iter()
        .enumerate()
    {
        let mut items: Vec<Item> = Vec::new();
        let reader = read_file_with_secrets(&from.path, Arc::clone(&from.keys)).unwrap();
        let passed = reader.items(|item| {
            items.push(item);
            ControlFlow::Continue(())
        });
        passed.unwrap();
        let mut items = items.into_iter();
        let path = fixture.dir.path().join(format!("{n}.redb"));
        let sealing = Sealing::new(Arc::clone(&to), to.form(), 5);
        import_file(&path, sealing, || Ok::<_, StoreError>(items.next())).unwrap();
        from = Options {
            path: path.clone(),
            keys: Arc::clone(&to),
            ..from
        };
        assert_eq!(holds(&path, VALUE.as_bytes()), to.form() == Form::Plain);
        let store = Store::open(from.clone()).unwrap();
        assert_eq!(secrets(&store), expected, "store {n}");
        assert_eq!(store.reader().at_rest(), AtRest::of(to.form()));
        assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
    }
}

#[test]
fn an_import_into_an_empty_store_that_is_encrypted_needs_its_key() {
    let mut empty = with_endpoints(0, keys(Some(1), None));
    empty.close();
    let path = &empty.options.path;
    let import = |keys: Arc<Keys>| {
        let mut items = vec![Item::Position(stormhook_store::Position::default())].into_iter();
        let sealing = Sealing::new(Arc::clone(&keys), keys.form(), 5);
        import_file(path, sealing, || Ok::<_, StoreError>(items.next()))
    };
    let refused = import(keys(None, None));
    assert!(matches!(refused, Err(StoreError::KeyMissing { .. })));
    import(keys(Some(1), None)).unwrap();
    assert_eq!(read_file(path).unwrap().at_rest(), AtRest::of(encrypted(1)));
}

/// Opens an image as a daemon does after a crash.
fn after_crash(image: &[u8], options: &Options, keys: Arc<Keys>) -> Result<Store, StoreError> {
    let disk = Disk::of(image.to_vec());
    let options = Options {
        keys,
        ..options.clone()
    };
    Store::open_on(options, move || disk.open())
}

/// Brings a store on a disk to a form, one commit after the other, and looks at what a crash leaves at each moment.
/// Returns how many images there were.
fn look_at_every_crash(from: Option<u8>, to: Form, both: &Arc<Keys>, seed: u64) -> usize {
    let mut fixture = with_endpoints(5, keys(from, None));
    fixture.order();
    let expected = secrets(fixture.store());
    let before = fixture.reader().at_rest();
    fixture.close();
    let disk = Disk::of(std::fs::read(&fixture.options.path).unwrap());
    let options = Options {
        keys: Arc::clone(both),
        ..fixture.options.clone()
    };
    let opened = disk.clone();
    let mut store = Store::open_on(options.clone(), move || opened.open()).unwrap();
    store.accept().unwrap();
    let mut durable = disk.start_recording();
    for n in 0.. {
        let op = Reseal { to }.into();
        let applied = store.apply([op], fixture.now, n).unwrap();
        if format!("{:?}", applied.done).contains("left: 0") {
            break;
        }
    }
    drop(store);
    let mut random = Random::seeded(seed);
    let (mut unsynced, mut images) = (Vec::new(), 0);
    for done in disk.take_record() {
        match done {
            disk::Done::Changed(change) => unsynced.push(change),
            disk::Done::Synced => {
                let all = std::mem::take(&mut unsynced);
                survive(&mut durable, &all, Kept::All, &mut random);
            }
        }
        for kept in [Kept::All, Kept::Nothing, Kept::Some(4), Kept::Torn(4)] {
            let mut image = durable.clone();
            survive(&mut image, &unsynced, kept, &mut random);
            let mut store = after_crash(&image, &options, Arc::clone(both)).unwrap();
            let found = store.reader().at_rest();
            assert!(found == before || found.form == to, "{found:?}");
            assert_eq!(store.reader().check().unwrap().damage, [""; 0]);
            assert_eq!(secrets(&store), expected);
            // It opens with the keys that it says it needs, and with no fewer.
            let alone = after_crash(&image, &options, keys(None, None)).map(drop);
            assert_eq!(alone.is_err(), found != AtRest::default(), "{found:?}");
            // And it is brought to its end from there.
            let mut left = 1;
            while left > 0 || store.reader().at_rest() != AtRest::of(to) {
                store.apply([Reseal { to }.into()], fixture.now, 9).unwrap();
                left = store.reader().count_to_reseal();
            }
            assert_eq!(secrets(&store), expected);
            images += 1;
        }
    }
    images
}

#[test]
fn whatever_a_crash_leaves_of_a_change_of_form_is_whole_and_goes_on() {
    for (from, to, both) in [
        (None, encrypted(1), keys(Some(1), None)),
        (Some(1), encrypted(2), keys(Some(2), Some(1))),
        (Some(1), Form::Plain, keys(Some(1), None)),
    ] {
        let images = look_at_every_crash(from, to, &both, 3);
        assert!(images > 60, "{images} images");
    }
}
