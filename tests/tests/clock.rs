//! The real process while the wall clock jumps, as set by an operator or a time server: by hours, in both directions,
//! while it runs and between two starts. The clock is faked from outside by `libfaketime`; the monotonic clock is not
//! affected.

use crate::support::{Daemon, Receiver, Reply, Setup, until};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const RETRY: Duration = Duration::from_millis(400);

/// Returns `libfaketime`, if it is installed.
fn fake() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let folders = folders.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: no libfaketime here");
    }
    found
}

/// Returns a setup whose wall clock has the offset in its file.
fn setup(fake: &std::path::Path) -> Setup {
    let setup = Setup::new();
    let file = setup.folder().join("clock");
    std::fs::write(&file, "+0").unwrap();
    setup
        .env("LD_PRELOAD", fake.to_str().unwrap())
        .env("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

/// Sets another time from now on. Written to another file and renamed: a partial one is never read.
fn jump(daemon: &Daemon, to: &str) {
    let file = daemon.setup.folder().join("clock");
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, to).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

#[tokio::test]
async fn a_clock_that_jumps_makes_no_attempt_early_and_none_wait_for_it() {
    let Some(fake) = fake() else { return };
    let schedule = format!("[{}]", vec![r#""400ms""#; 20].join(","));
    let setup = setup(&fake).set("retry.schedule", &schedule);
    let mut daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::Status(503)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["a"]).await;
    api.event("a", json!(1)).await;
    let mut seen = receiver.wait_for(1).await.len();
    for (to, ahead, restarts) in [
        ("+3h", true, false),
        ("-2h", false, false),
        ("-30h", false, false),
        ("-30h", false, true),
        ("+40h", true, false),
        ("-1h", false, true),
        ("-50h", false, true),
        ("+0", true, false),
    ] {
        jump(&daemon, to);
        if restarts {
            // Events show the store's time; of attempts only the minute is stored.
            daemon.client().event("b", json!(1)).await;
            daemon.kill().await;
            daemon.start_again().await;
        }
        // Whether it began to wait for the first of them before or after the jump.
        let requests = receiver.wait_for(seen + 2).await;
        let gaps = requests.windows(2).map(|two| two[1].at - two[0].at);
        if !ahead && !restarts {
            let early: Vec<_> = gaps.skip(seen - 1).filter(|gap| *gap < RETRY).collect();
            assert!(early.is_empty(), "{to}: {early:?}");
        }
        seen = requests.len();
    }
    receiver.answer(Reply::Status(204));
    until("it is delivered", async || {
        let stats = daemon.client().stats("").await;
        (stats["delivery.success.count"] == 1).then_some(())
    })
    .await;
    let checked = daemon.setup.data_dir().display().to_string();
    assert!(daemon.stop().await.success());
    let checked = daemon.setup.run(&["check", "--data-dir", &checked]).await;
    assert!(checked.status.success(), "{checked:?}");
}

#[tokio::test]
async fn what_is_overdue_after_a_jump_ahead_goes_a_few_at_a_time() {
    const EVENTS: usize = 300;
    const AT_ONCE: usize = 8;
    let Some(fake) = fake() else { return };
    let setup = setup(&fake)
        .set("retry.schedule", r#"["1h", "1h"]"#)
        .set("delivery.max_in_flight_per_endpoint", &AT_ONCE.to_string());
    let daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::Status(503)).await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let line = json!({"organizationId": "org_1", "type": "a", "data": 1}).to_string() + "\n";
    api.batch(&line.repeat(EVENTS)).await;
    receiver.wait_for(EVENTS).await;
    until("all wait for their retry", async || {
        (api.stats("").await["queue.retrying"] == EVENTS).then_some(())
    })
    .await;
    receiver.answer(Reply::held(204));
    jump(&daemon, "+2h");
    // The next event makes it look at the clock.
    api.event("a", json!(2)).await;
    for round in 1..=5 {
        let so_far = EVENTS + round * AT_ONCE;
        receiver.wait_for(so_far).await;
        let stats = api.stats("").await;
        assert_eq!(stats["queue.in_flight"], AT_ONCE, "{stats}");
        assert_eq!(receiver.count(), so_far);
        receiver.release(AT_ONCE);
    }
    receiver.release(EVENTS);
    until("all are delivered", async || {
        (api.stats("").await["delivery.success.count"] == EVENTS + 1).then_some(())
    })
    .await;
    assert_eq!(receiver.count(), 2 * EVENTS + 1);
}

#[tokio::test]
async fn a_leap_of_days_expires_nothing_also_where_a_restart_falls_into_it() {
    let Some(fake) = fake() else { return };
    let schedule = format!("[{}]", vec![r#""100ms""#; 20].join(","));
    let setup = setup(&fake).set("retry.schedule", &schedule);
    let mut daemon = setup.start().await;
    let receiver = Receiver::answering(Reply::Status(503)).await;
    let api = daemon.client();
    let partner = api.endpoint(&receiver.url("/"), &["a"]).await;
    let partner = format!("/v1/endpoints/{}", partner["id"].as_str().unwrap());
    let rotate = format!("{partner}/rotate-secret");
    api.post(&rotate, json!({})).await.expect(200);
    let keyed =
        json!({"organizationId": "org_1", "type": "b", "data": 1, "idempotencyKey": "once"});
    let first = api.post("/v1/events", keyed.clone()).await.expect(202);
    api.event("a", json!(1)).await;
    // More consecutive failures than needed to disable it, except for the days that they must last.
    let mut seen = receiver.wait_for(10).await.len();
    for (to, restarts) in [
        ("+6d", false),
        ("+0", false),
        ("+6d", true),
        ("+6d", false),
        ("+0", true),
    ] {
        jump(&daemon, to);
        if restarts {
            daemon.kill().await;
            daemon.start_again().await;
        }
        let api = daemon.client();
        let again = api.post("/v1/events", keyed.clone()).await;
        assert_eq!(again.status, 200, "{to}, restarts {restarts}: {again:?}");
        assert_eq!(again.json()["id"], first["id"], "{to}, restarts {restarts}");
        api.event("a", json!(2)).await;
        seen = receiver.wait_for(seen + 3).await.len();
        let now = api.get(&partner).await.expect(200);
        assert_eq!(now["active"], true, "{to}, restarts {restarts}: {now}");
        let secrets = api.get(&format!("{partner}/secret")).await.expect(200);
        let previous = secrets["previous"].as_array().unwrap().len();
        assert_eq!(previous, 1, "{to}, restarts {restarts}: {secrets}");
    }
    assert!(daemon.stop().await.success());
}
