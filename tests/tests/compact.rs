//! `compact`: refused while a daemon runs, and harmless wherever it is killed.

use crate::support::{Daemon, Draw, Setup, within};
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;

/// Returns the directory of a killed daemon that holds events, and their number. Many small commits left free space in
/// the file.
async fn stopped() -> (Setup, usize) {
    let mut daemon = Daemon::start().await;
    let mut draw = Draw::seeded(7);
    for _ in 0..10 {
        let noise: String = (0..6_000)
            .map(|_| format!("{:016x}", draw.next()))
            .collect();
        daemon.client().event("a.b", json!(noise)).await;
    }
    for n in 0..300 {
        daemon.client().event("a.b", json!(n)).await;
    }
    daemon.kill().await;
    (daemon.into_setup(), 310)
}

#[tokio::test]
async fn a_running_daemons_store_is_not_compacted_and_the_process_is_named() {
    let daemon = Daemon::start().await;
    let folder = daemon.setup.data_dir().display().to_string();
    let refused = daemon.setup.run(&["compact", "--data-dir", &folder]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains(&format!("process {}", daemon.pid())),
        "{said}"
    );
    daemon.client().event("a.b", json!(1)).await;
}

#[tokio::test]
async fn a_compacted_store_is_the_same_store() {
    let (setup, events) = stopped().await;
    let folder = setup.data_dir().display().to_string();
    let store = setup.data_dir().join("stormhook.redb");
    let before = store.metadata().unwrap().len();
    let compacted = setup
        .run(&["compact", "--data-dir", &folder, "--json"])
        .await;
    assert!(compacted.status.success(), "{compacted:?}");
    let said: serde_json::Value = serde_json::from_slice(&compacted.stdout).unwrap();
    let after = store.metadata().unwrap().len();
    assert_eq!(
        (&said["beforeBytes"], &said["afterBytes"]),
        (&json!(before), &json!(after))
    );
    assert!(after < before, "{said}");
    let again = setup.run(&["compact", "--data-dir", &folder]).await;
    let words = String::from_utf8(again.stdout).unwrap();
    assert!(words.starts_with("Nothing to compact"), "{words}");
    let daemon = setup.start().await;
    assert_eq!(
        daemon.client().all("/v1/events?limit=250").await.len(),
        events
    );
    let nowhere = daemon.setup.folder().display().to_string();
    let absent = daemon.setup.run(&["compact", "--data-dir", &nowhere]).await;
    assert_eq!(absent.status.code(), Some(2), "{absent:?}");
}

#[tokio::test]
async fn a_compaction_that_is_killed_leaves_the_store_as_it_was() {
    let (setup, events) = stopped().await;
    let folder = setup.data_dir().display().to_string();
    let fresh = setup.data_dir().join("stormhook.redb.compacting");
    let mut draw = Draw::seeded(11);
    let mut killed = 0;
    for _ in 0..12 {
        let mut command = setup.command();
        command.args(["compact", "--data-dir", &folder]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && !fresh.exists() {
            tokio::task::yield_now().await;
        }
        // The moment matters here; nothing is waited for.
        tokio::time::sleep(Duration::from_micros(draw.below(20_000))).await;
        let _ended = child.start_kill();
        let ended = within("the killed command ends", child.wait())
            .await
            .unwrap();
        killed += u32::from(!ended.success());
        let checked = setup.run(&["check", "--data-dir", &folder]).await;
        assert!(checked.status.success(), "{checked:?}");
    }
    assert!(killed > 0, "none was killed in the middle");
    let daemon = setup.start().await;
    assert_eq!(
        daemon.client().all("/v1/events?limit=250").await.len(),
        events
    );
    let left: Vec<_> = std::fs::read_dir(daemon.setup.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("compacting"))
        .collect();
    assert_eq!(left, [""; 0]);
}
