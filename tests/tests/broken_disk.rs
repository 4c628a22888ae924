//! The real process on a disk that returns `EIO`: every call of a kind fails for the daemon until the disk works again.
//! The fault is injected from outside by `strace`, which can make system calls of a running process fail.

use crate::support::{Daemon, load, until, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Calls that fail together, and from which call on.
const FAULTS: [(&str, &[&str]); 5] = [
    ("no sync", &["fdatasync:error=EIO"]),
    ("one sync in three", &["fdatasync:error=EIO:when=2+3"]),
    ("no write", &["pwrite64:error=EIO"]),
    ("one write in seven", &["pwrite64:error=EIO:when=5+7"]),
    // What is read after a failed sync can't be read either, so that the file can't be reopened.
    (
        "no sync and no read",
        &["fdatasync:error=EIO", "pread64:error=EIO"],
    ),
];

/// Whether this machine lets one process trace another: `strace` is installed and permitted.
pub(crate) fn can_trace() -> bool {
    let probe = std::process::Command::new("strace")
        .args(["-qq", "-e", "trace=none", "true"])
        .output();
    probe.is_ok_and(|output| output.status.success())
}

/// Makes calls of the daemon fail from now on. `None` if attaching is not permitted; some kernels restrict it to root.
pub(crate) async fn broken(daemon: &Daemon, faults: &[&str]) -> Option<Child> {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-p", &daemon.pid().to_string()]);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    command.stderr(Stdio::piped()).kill_on_drop(true);
    let mut tracer = command.spawn().unwrap();
    let mut said = BufReader::new(tracer.stderr.take().unwrap());
    let mut line = String::new();
    within("strace attaches", said.read_line(&mut line))
        .await
        .unwrap();
    if !line.contains("attached") {
        return None;
    }
    // Its further output is read, so that it never blocks.
    tokio::spawn(async move { said.read_to_end(&mut Vec::new()).await });
    Some(tracer)
}

/// Ends the fault. When it is stopped, `strace` detaches from every thread first.
pub(crate) async fn mended(mut tracer: Child) {
    let pid = Pid::from_raw(tracer.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    within("strace lets go", tracer.wait()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_told_of_nothing_is_lost_and_the_daemon_goes_on_by_itself() {
    if !can_trace() {
        eprintln!("skipped: no strace here, or it may not trace");
        return;
    }
    let seed = load::seed();
    let mut daemon = load::setup().start().await;
    let load = load::Load::start(&daemon, seed).await;
    let api = daemon.client();
    let post = async || {
        let body = json!({"organizationId": "org_2", "type": "a", "data": 1});
        api.post("/v1/events", body).await
    };
    let rounds = 2 * FAULTS.len();
    for (what, faults) in FAULTS.iter().cycle().take(rounds) {
        let before = load.acknowledged();
        until("events are acknowledged", async || {
            (load.acknowledged() > before + 5).then_some(())
        })
        .await;
        let Some(tracer) = broken(&daemon, faults).await else {
            eprintln!("skipped: a running process may not be attached to here");
            return;
        };
        let refused = until(what, async || {
            let answer = post().await;
            (answer.status != 202).then_some(answer)
        })
        .await;
        refused.problem(503, "store_failed");
        // It is running, and reports that it can't accept events.
        api.get("/healthz").await.expect_ok();
        if faults.iter().all(|fault| !fault.contains("when=")) {
            let ready = api.get("/readyz").await;
            let why = ready.json()["status"].as_str().unwrap().to_owned();
            assert_eq!(
                (ready.status.as_u16(), &*why),
                (503, "the last commit failed")
            );
            for _ in 0..20 {
                post().await.problem(503, "store_failed");
            }
        }
        mended(tracer).await;
        until("events are accepted again", async || {
            (post().await.status == 202).then_some(())
        })
        .await;
        api.get("/readyz").await.expect_ok();
    }
    let checked = api.call("POST", "/v1/check").json(json!({})).send().await;
    assert_eq!(checked.json()["damage"], json!([]));
    load.finish(&daemon, 0).await;
    assert!(daemon.stop().await.success());
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
    // Each outage is logged when it begins, however many commits fail in it.
    assert!(
        log.matches("a commit failed; no attempt starts").count() >= rounds,
        "{log}"
    );
    assert!(log.lines().count() < 400, "{log}");
}
