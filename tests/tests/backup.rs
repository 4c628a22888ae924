//! Backups: the contents of one made under load, restoring it by putting it in place, and that nothing incomplete is
//! ever accepted as one.

use crate::support::{Client, Daemon, Draw, Receiver, Reply, Setup, until, within};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Ids of acknowledged events, in the order of acknowledgement.
type Ledger = Arc<Mutex<Vec<String>>>;

/// Sends one event after another until told to stop.
async fn send(api: Client, ledger: Ledger, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let id = api.event("order.created", json!({"n": 1})).await;
        ledger.lock().unwrap().push(id);
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Returns a setup whose daemon finds this backup in place of its store.
fn restored(backup: &Path) -> Setup {
    let setup = Setup::new();
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(setup.data_dir())
        .unwrap();
    std::fs::copy(backup, setup.data_dir().join("stormhook.redb")).unwrap();
    setup
}

fn ids(rows: &[Value]) -> Vec<String> {
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    rows.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_restored_by_putting_it_in_place_and_delivers_what_was_open() {
    let setup = Setup::new().set("retry.schedule", r#"["1s","1s","1s","1s","1s"]"#);
    let mut daemon = setup.start().await;
    let receiver = Receiver::start().await;
    receiver.answer_by(|request| Reply::Status(if request.path == "/down" { 503 } else { 200 }));
    for path in ["/up", "/down"] {
        daemon.client().endpoint(&receiver.url(path), &["*"]).await;
    }
    let ledger = Ledger::default();
    let (stop, stopped) = watch::channel(false);
    let senders: Vec<_> = (0..4)
        .map(|_| tokio::spawn(send(daemon.client(), Arc::clone(&ledger), stopped.clone())))
        .collect();
    let acknowledged = async |count: usize| {
        until("there is load", async || {
            (ledger.lock().unwrap().len() >= count).then_some(())
        })
        .await;
        ledger.lock().unwrap().clone()
    };
    let before = acknowledged(200).await;
    let backup = daemon.setup.folder().join("backup.redb");
    let (socket, file) = (daemon.setup.socket(), backup.display().to_string());
    let arguments = ["backup", &file, "--socket", socket.to_str().unwrap()];
    let made = daemon.setup.run(&arguments).await;
    assert!(made.status.success(), "{made:?}");
    let during = ledger.lock().unwrap().len();
    acknowledged(during + 20).await;
    stop.send(true).unwrap();
    for sender in senders {
        sender.await.unwrap();
    }
    let mode = backup.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut all = ids(&daemon.client().all("/v1/events?limit=250").await);
    all.reverse();
    daemon.kill().await;
    // No longer down: open deliveries in the backup are delivered, and nothing else is sent.
    receiver.answer(Reply::Status(200));
    let setup = restored(&backup);
    let folder = setup.data_dir().display().to_string();
    let checked = setup.run(&["check", "--data-dir", &folder]).await;
    assert!(checked.status.success(), "{checked:?}");
    let mut daemon = setup.start().await;
    let mut kept = ids(&daemon.client().all("/v1/events?limit=250").await);
    kept.reverse();
    assert_eq!(kept[..], all[..kept.len()], "a moment of the store, whole");
    assert!(kept.len() < all.len(), "there was load after it");
    let there: BTreeSet<_> = kept.iter().collect();
    assert!(before.iter().all(|id| there.contains(id)));
    until("what was open is delivered", async || {
        let open = "/v1/deliveries?limit=250&status=";
        let pending = daemon.client().all(&format!("{open}PENDING")).await.len();
        let retrying = daemon.client().all(&format!("{open}RETRYING")).await.len();
        (pending + retrying == 0).then_some(())
    })
    .await;
    let delivered = daemon
        .client()
        .all("/v1/deliveries?limit=250&status=SUCCESS")
        .await;
    assert_eq!(delivered.len(), kept.len() * 2);
    assert!(daemon.stop().await.success());
}

/// Returns a daemon whose store is larger than the buffers of a connection.
async fn large(setup: Setup) -> Daemon {
    let daemon = setup.start().await;
    let mut draw = Draw::seeded(7);
    for _ in 0..40 {
        let noise: String = (0..12_500)
            .map(|_| format!("{:016x}", draw.next()))
            .collect();
        daemon.client().event("a.b", json!(noise)).await;
    }
    daemon
}

#[tokio::test]
async fn one_backup_is_made_at_a_time_and_nothing_of_it_has_a_name() {
    let mut daemon = large(Setup::new()).await;
    let api = daemon.client();
    let mut first = api.open().await;
    let ask = b"POST /v1/backup HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    first.write_all(ask).await.unwrap();
    let mut head = [0; 15];
    within("the backup begins", first.read_exact(&mut head))
        .await
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let refused = api.call("POST", "/v1/backup").send().await;
    refused.problem(503, "busy");
    // A check doesn't use the slot of a backup.
    api.post("/v1/check", json!({})).await.expect(200);
    let expected = ["admin-token", "stormhook.redb"].map(str::to_owned);
    assert_eq!(
        names(&daemon.setup.data_dir()),
        BTreeSet::from(expected.clone())
    );
    // A client that disconnects makes room for the next one.
    drop(first);
    let whole = until("the place is free", async || {
        let answer = api.call("POST", "/v1/backup").send().await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let length = whole.header("content-length").unwrap().to_owned();
    assert_eq!(length, whole.body.len().to_string());
    assert!(whole.body.len() > 3 << 20, "{length}");
    let mut cut = api.open().await;
    cut.write_all(ask).await.unwrap();
    within("the backup begins", cut.read_exact(&mut head))
        .await
        .unwrap();
    daemon.kill().await;
    assert_eq!(names(&daemon.setup.data_dir()), BTreeSet::from(expected));
}

#[tokio::test]
async fn a_backup_is_refused_where_it_would_take_the_last_room() {
    let daemon = Setup::new()
        .set("limits.disk_reserve", r#""1000000GiB""#)
        .start()
        .await;
    let answer = daemon.client().call("POST", "/v1/backup").send().await;
    let problem = answer.problem(503, "storage_full");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("limits.disk_reserve"), "{detail}");
    let socket = daemon.setup.socket();
    let file = daemon.setup.folder().join("backup.redb");
    let arguments = [
        "backup",
        file.to_str().unwrap(),
        "--socket",
        socket.to_str().unwrap(),
    ];
    let refused = daemon.setup.run(&arguments).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_stopped_store_is_backed_up_without_being_touched() {
    let mut daemon = Daemon::start().await;
    let event = daemon.client().event("a.b", json!(1)).await;
    daemon.kill().await;
    let store = daemon.setup.data_dir().join("stormhook.redb");
    let bytes = std::fs::read(&store).unwrap();
    let folder = daemon.setup.data_dir().display().to_string();
    let backup = daemon.setup.folder().join("backup.redb");
    let file = backup.display().to_string();
    let arguments = ["backup", &file, "--data-dir", &folder, "--json"];
    let made = daemon.setup.run(&arguments).await;
    assert!(made.status.success(), "{made:?}");
    let said: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(
        (&said["events"], &said["checked"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(said["bytes"], backup.metadata().unwrap().len());
    assert!(std::fs::read(&store).unwrap() == bytes, "it was written to");
    // An existing file is never overwritten.
    let again = daemon.setup.run(&arguments).await;
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    let daemon = restored(&backup).start().await;
    daemon
        .client()
        .get(&format!("/v1/events/{event}"))
        .await
        .expect(200);
}

/// Listens on a socket, answers the first request with these bytes, and closes the connection or holds it open.
fn pretender(socket: PathBuf, answer: Vec<u8>, hold: bool) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                // A connection that only checks whether somebody listens sends nothing.
                let mut asked = [0; 1];
                if stream.read_exact(&mut asked).await.is_ok() {
                    let _ = stream.write_all(&answer).await;
                    if hold {
                        std::future::pending::<()>().await;
                    }
                    // Read to its end, so that closing is not a reset.
                    let mut rest = vec![0; 64 << 10];
                    let _ = stream.read(&mut rest).await;
                }
            });
        }
    });
}

fn said(length: usize, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nx-request-id: req_1\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn what_is_cut_or_no_store_never_gets_the_name_of_a_backup() {
    let mut daemon = Daemon::start().await;
    daemon.client().event("a.b", json!(1)).await;
    let whole = daemon.client().call("POST", "/v1/backup").send().await;
    daemon.kill().await;
    let whole = whole.body.to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\nx-request-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let mut flipped = whole.clone();
    let middle = flipped
        .windows(4)
        .position(|w| w == [0x28, 0xb5, 0x2f, 0xfd])
        .expect("a zstd frame");
    flipped[middle + 12] ^= 1;
    let half = whole.len() / 2;
    for (answer, status) in [
        (said(whole.len(), &whole[..half]), 3),
        (said(whole.len(), &[]), 3),
        // Truncated, as by something that then adjusts the length.
        (said(half, &whole[..half]), 1),
        (said(flipped.len(), &flipped), 1),
        (said(20, &[b'x'; 20]), 1),
        (said(0, &[]), 1),
        (said(whole.len(), &whole), 0),
        (chunked.to_vec(), 1),
    ] {
        let setup = Setup::new();
        pretender(setup.socket(), answer, false);
        let folder = setup.folder().join("backups");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("backup.redb").display().to_string();
        let socket = setup.socket().display().to_string();
        let made = setup.run(&["backup", &file, "--socket", &socket]).await;
        assert_eq!(made.status.code(), Some(status), "{made:?}");
        let expected = (status == 0).then(|| "backup.redb".to_owned());
        assert_eq!(names(&folder), expected.into_iter().collect());
    }
}

#[tokio::test]
async fn an_interrupted_backup_takes_its_file_along() {
    let setup = Setup::new();
    pretender(setup.socket(), said(1_000, b"some"), true);
    let folder = setup.folder().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let mut command = setup.command();
    let child = command
        .arg("backup")
        .arg(folder.join("backup.redb"))
        .arg("--socket")
        .arg(setup.socket())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    until("some of it has come", async || {
        let names = names(&folder);
        let name = names.first()?;
        assert!(name.ends_with(".partial"), "{name}");
        let length = folder.join(name).metadata().ok()?.len();
        (length == 4).then_some(())
    })
    .await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = within("it ends", child.wait_with_output()).await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(names(&folder), BTreeSet::new());
}
