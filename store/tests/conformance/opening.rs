//! Opening the file.

use crate::support::*;
use stormhook_store::StoreError;

#[test]
fn a_second_opener_is_told_that_the_file_is_open() {
    let mut fixture = Fixture::new();
    match stormhook_store::Store::open(fixture.options.clone()) {
        Err(StoreError::AlreadyOpen { path }) => assert_eq!(path, fixture.options.path),
        other => panic!("{other:?}"),
    }
    // The first one is unaffected, and releases the file when it closes.
    fixture.order();
    fixture.reopen();
    fixture.order();
}

#[test]
fn the_file_is_made_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let mode = std::fs::metadata(&fixture.options.path)
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let beside: Vec<_> = std::fs::read_dir(fixture.dir.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left of making it");
}
