//! Moves between a store in a file and one in a database, with real daemons: nothing is lost, nothing is sent twice, and
//! producers and receivers notice nothing.

use crate::support::{Client, Daemon, Receiver, Recorded, Reply, Setup, until, within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stormhook_test_postgres::Server;
use tokio::io::AsyncWriteExt;

const ORGANIZATIONS: usize = 6;

/// A schedule that outlasts a move.
fn setup() -> Setup {
    let schedule = format!("[{}]", vec![r#""2s""#; 20].join(","));
    Setup::new().set("retry.schedule", &schedule)
}

fn on(server: &Server, setup: Setup) -> Setup {
    setup
        .set("store.url", &format!("{:?}", server.store_url()))
        .set("store.lease", r#""2s""#)
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Runs a command on the configuration of this setup.
async fn command(setup: &Setup, arguments: &[&str]) -> Output {
    let config = setup.write_config().display().to_string();
    let all = [arguments, &["--config", &config]].concat();
    setup.run(&all).await
}

async fn succeeds(setup: &Setup, arguments: &[&str]) {
    let output = command(setup, arguments).await;
    assert!(output.status.success(), "{output:?}");
}

/// Runs a command that is refused, and returns what it says.
async fn refused(setup: &Setup, arguments: &[&str]) -> String {
    let output = command(setup, arguments).await;
    assert!(!output.status.success(), "{output:?}");
    text(&output.stderr)
}

/// Starts a daemon that refuses, and returns what it says.
async fn does_not_start(setup: Setup) -> (Setup, String) {
    match setup.try_start().await {
        Ok(_) => panic!("it started"),
        Err(refused) => (refused.setup, refused.log),
    }
}

/// Exports a store that moves.
async fn export(setup: &Setup, to: &str, file: &Path) {
    let file = file.display().to_string();
    let arguments = [
        "export",
        "--with-secrets",
        "--moves-to",
        to,
        "--output",
        &file,
    ];
    succeeds(setup, &arguments).await;
}

/// A receiver whose `/flaky` endpoints are down until they are not.
struct Partner {
    receiver: Receiver,
    up: Arc<AtomicBool>,
}

impl Partner {
    async fn start() -> Self {
        let receiver = Receiver::start().await;
        let up = Arc::new(AtomicBool::new(false));
        let is_up = Arc::clone(&up);
        receiver.answer_by(move |request| {
            let fails = request.path.contains("flaky") && !is_up.load(Ordering::SeqCst);
            Reply::Status(if fails { 503 } else { 200 })
        });
        Self { receiver, up }
    }

    fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    /// Creates three endpoints in each organization: one that answers, one that does not, and one of those in order.
    async fn endpoints(&self, api: &Client) {
        for n in 0..ORGANIZATIONS {
            for (path, ordering) in [
                ("good", "parallel"),
                ("flaky", "parallel"),
                ("flaky-fifo", "fifo"),
            ] {
                let body = json!({"organizationId": format!("org_{n}"), "eventTypes": ["*"],
                    "url": self.receiver.url(&format!("/{n}/{path}")), "ordering": ordering});
                api.post("/v1/endpoints", body).await.expect(201);
            }
        }
    }

    /// What it received, by delivery.
    fn by_delivery(&self) -> BTreeMap<String, Vec<Recorded>> {
        let mut by_delivery: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
        for request in self.receiver.requests() {
            by_delivery
                .entry(request.header("x-stormcom-delivery"))
                .or_default()
                .push(request);
        }
        by_delivery
    }

    /// Each endpoint's sequence numbers are 1, 2, 3 …; each delivery has attempts 1, 2, 3 … of which only the last can
    /// have succeeded, so none was sent again after it had ended.
    fn expect_exactly_once(&self, events: usize) {
        let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (delivery, requests) in self.by_delivery() {
            let attempts: Vec<u64> = requests
                .iter()
                .map(|r| r.header("x-stormcom-attempt").parse().unwrap())
                .collect();
            let expected: Vec<u64> = (1..).take(attempts.len()).collect();
            assert_eq!(attempts, expected, "{delivery} to {}", requests[0].path);
            if requests[0].path.contains("good") {
                assert_eq!(attempts.len(), 1, "{delivery}");
            }
            let sequence = requests[0].header("x-stormcom-sequence").parse().unwrap();
            numbers
                .entry(requests[0].path.clone())
                .or_default()
                .push(sequence);
        }
        assert_eq!(numbers.len(), ORGANIZATIONS * 3);
        for (path, mut numbers) in numbers {
            numbers.sort_unstable();
            let expected: Vec<u64> = (1..).take(events).collect();
            assert_eq!(numbers, expected, "{path}");
        }
    }
}

/// Sends events to each organization, with keys.
async fn send(api: &Client, keys: std::ops::Range<usize>) -> Vec<(Value, String)> {
    let mut sent = Vec::new();
    for n in keys {
        for organization in 0..ORGANIZATIONS {
            let event = json!({"organizationId": format!("org_{organization}"), "type": "order.created",
                "data": {"n": n}, "idempotencyKey": format!("key-{n}")});
            let answer = api.post("/v1/events", event.clone()).await.expect(202);
            sent.push((event, answer["id"].as_str().unwrap().to_owned()));
        }
    }
    sent
}

/// Each event is known by its key.
async fn expect_known(api: &Client, sent: &[(Value, String)]) {
    for (event, id) in sent {
        let again = api.post("/v1/events", event.clone()).await.expect(200);
        assert_eq!(again["id"].as_str(), Some(id.as_str()));
    }
}

async fn count(api: &Client, status: &str) -> usize {
    api.all(&format!("/v1/deliveries?status={status}"))
        .await
        .len()
}

async fn delivered(api: &Client, deliveries: usize) {
    until("everything is delivered", async || {
        (count(api, "SUCCESS").await == deliveries).then_some(())
    })
    .await;
}

/// Waits until everything that can be delivered was, and the rest has failed at least once.
async fn settled(api: &Client, retrying: usize) {
    until("everything was tried", async || {
        // Of a FIFO endpoint only the first is tried.
        let (pending, tried) = (count(api, "PENDING").await, count(api, "RETRYING").await);
        let fifo = retrying - ORGANIZATIONS;
        (pending + tried == retrying && tried >= retrying - fifo).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_a_database_and_back_and_nothing_is_lost_or_sent_twice() {
    let server = Server::start();
    let partner = Partner::start().await;
    let mut first = setup().start().await;
    partner.endpoints(&first.client()).await;
    let mut sent = send(&first.client(), 0..5).await;
    settled(&first.client(), ORGANIZATIONS * 10).await;
    assert!(first.stop().await.success());
    let file = first.setup.folder().join("move.ndjson");
    export(&first.setup, "the database", &file).await;

    let setups = [(); 2].map(|()| on(&server, setup()));
    succeeds(&setups[0], &["migrate"]).await;
    let name = file.display().to_string();
    succeeds(&setups[0], &["import", &name]).await;
    let (source, why) = does_not_start(first.into_setup()).await;
    assert!(
        why.contains("was moved to the database") && why.contains("`stormhook reopen`"),
        "{why}"
    );
    let mut daemons = Vec::new();
    for setup in setups {
        daemons.push(setup.start().await);
    }
    let api = daemons[1].client();
    expect_known(&api, &sent).await;
    sent.extend(send(&api, 5..8).await);
    partner.set_up(true);
    delivered(&api, ORGANIZATIONS * 3 * 8).await;
    partner.expect_exactly_once(8);

    // And back, with some outstanding again.
    partner.set_up(false);
    sent.extend(send(&api, 8..10).await);
    settled(&api, ORGANIZATIONS * 4).await;
    for daemon in &mut daemons {
        assert!(daemon.stop().await.success());
    }
    let on_database = daemons.remove(0).into_setup();
    let file = on_database.folder().join("back.ndjson");
    export(&on_database, "a file", &file).await;
    let (_database, why) = does_not_start(on_database).await;
    assert!(why.contains("was moved to a file"), "{why}");
    let name = file.display().to_string();
    // The source still has what it had: another directory is needed.
    let occupied = refused(&source, &["import", &name]).await;
    assert!(occupied.contains("is not empty"), "{occupied}");
    let back = setup();
    succeeds(&back, &["import", &name]).await;
    let last = back.start().await;
    let api = last.client();
    expect_known(&api, &sent).await;
    partner.set_up(true);
    delivered(&api, ORGANIZATIONS * 3 * 10).await;
    partner.expect_exactly_once(10);
    let checked = api.post("/v1/check", json!({})).await.expect(200);
    assert_eq!(checked["damage"], json!([]));
}

/// A stopped store with an endpoint and some events, and its export.
async fn exported() -> (Setup, PathBuf) {
    let receiver = Receiver::answering(Reply::Status(503)).await;
    let mut daemon = setup().start().await;
    let api = daemon.client();
    let headers = json!({"headers": {"x-api-key": "topsecretvalue"}});
    api.endpoint_with(&receiver.url("/"), &["*"], headers).await;
    for n in 0..40 {
        api.event("order.created", json!({"n": n})).await;
    }
    assert!(daemon.stop().await.success());
    let setup = daemon.into_setup();
    let file = setup.folder().join("export.ndjson");
    let name = file.display().to_string();
    succeeds(&setup, &["export", "--with-secrets", "--output", &name]).await;
    (setup, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_with_secrets_is_private_and_one_without_has_none() {
    let (source, file) = exported().await;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let plain = command(&source, &["export"]).await;
    assert!(plain.status.success());
    assert!(!text(&plain.stdout).contains("topsecretvalue"));
    assert!(!text(&plain.stdout).contains("\"record\""));
    // A terminal, of util-linux.
    let config = source.config_path().display().to_string();
    let binary = crate::support::binary().display().to_string();
    let shell = format!("{binary} export --with-secrets --config {config}");
    let mut terminal = source.program("script");
    terminal.args(["-qec", &shell, "/dev/null"]);
    let output = within("it ends", terminal.stdin(Stdio::null()).output()).await;
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("not written to a terminal"), "{said}");
    assert!(!said.contains("record"), "{said}");
    let filtered = ["export", "--with-secrets", "--organization", "org_1"];
    assert!(
        refused(&source, &filtered)
            .await
            .contains("cannot be used with")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_export_is_refused_and_leaves_nothing_that_a_daemon_would_use() {
    let (source, file) = exported().await;
    let whole = std::fs::read(&file).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let (last, before) = lines.split_last().unwrap();
    let mut changed = whole.clone();
    let middle = whole.len() / 2;
    // Another letter of base64.
    changed[middle] = if whole[middle] == b'B' { b'C' } else { b'B' };
    let newer = text(&whole).replacen("\"version\":1", "\"version\":2", 1);
    let recounted = text(last).replacen("\"event\":40", "\"event\":41", 1);
    let mut swapped = before.to_vec();
    swapped.swap(1, 2);
    let cases = [
        (changed, "is damaged"),
        (before.concat(), "incomplete"),
        (whole[..whole.len() / 3].to_vec(), "incomplete"),
        (newer.into_bytes(), "has version 2"),
        (
            [before.concat(), recounted.into_bytes()].concat(),
            "the number of items",
        ),
        (
            [before[1..].concat(), last.to_vec()].concat(),
            "the first line",
        ),
        (
            [swapped.concat(), last.to_vec()].concat(),
            "not in its place",
        ),
    ];
    let server = Server::start();
    let target = on(&server, setup());
    succeeds(&target, &["migrate"]).await;
    let mut target = (setup(), target);
    let bad = source.folder().join("bad.ndjson");
    let name = bad.display().to_string();
    for (bytes, why) in cases {
        std::fs::write(&bad, bytes).unwrap();
        let of_file = refused(&target.0, &["import", &name]).await;
        assert!(of_file.contains(why), "{of_file}");
        assert!(!target.0.data_dir().join("stormhook.redb").exists());
        let of_database = refused(&target.1, &["import", &name]).await;
        assert!(of_database.contains(why), "{of_database}");
    }
    let good = file.display().to_string();
    for setup in [&mut target.0, &mut target.1] {
        let taken = std::mem::replace(setup, Setup::new());
        let (taken, why) = does_not_start(taken).await;
        assert!(why.contains("run `stormhook import` again"), "{why}");
        succeeds(&taken, &["import", &good]).await;
        let again = refused(&taken, &["import", &good]).await;
        assert!(again.contains("is not empty"), "{again}");
        let daemon = taken.start().await;
        assert_eq!(daemon.client().all("/v1/events").await.len(), 40);
        let busy = refused(&daemon.setup, &["import", &good]).await;
        assert!(busy.contains("stop"), "{busy}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_is_run_again_or_given_up() {
    let (_source, file) = exported().await;
    let whole = std::fs::read(&file).unwrap();
    let server = Server::start();
    let database = on(&server, setup());
    succeeds(&database, &["migrate"]).await;
    for (is_database, target) in [(false, setup()), (true, database)] {
        let config = target.write_config().display().to_string();
        let mut import = target.command();
        import.args(["import", "-", "--config", &config]);
        let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = import.stdin.take().unwrap();
        stdin.write_all(&whole[..whole.len() / 2]).await.unwrap();
        stdin.flush().await.unwrap();
        let mark = target.data_dir().join("stormhook.redb.importing");
        until("the import has begun", async || {
            let url = server.store_url();
            let begun = match is_database {
                true => is_importing(&url).await,
                false => mark.exists(),
            };
            begun.then_some(())
        })
        .await;
        import.kill().await.unwrap();
        let (target, why) = does_not_start(target).await;
        assert!(why.contains("run `stormhook import` again"), "{why}");
        succeeds(&target, &["import", "--discard"]).await;
        let nothing = command(&target, &["import", "--discard"]).await;
        assert!(text(&nothing.stdout).contains("Nothing to do"));
        let name = file.display().to_string();
        succeeds(&target, &["import", &name]).await;
        let daemon = target.start().await;
        assert_eq!(daemon.client().all("/v1/events").await.len(), 40);
    }
}

async fn is_importing(url: &str) -> bool {
    let connecting = tokio_postgres::connect(url, tokio_postgres::NoTls);
    let (client, connection) = connecting.await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT importing FROM stormhook.meta", &[]);
    row.await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_needs_a_stopped_store_and_can_be_taken_back() {
    let daemon = setup().start().await;
    let file = daemon.setup.folder().join("move.ndjson");
    let name = file.display().to_string();
    let moves = [
        "export",
        "--with-secrets",
        "--moves-to",
        "postgres://u:secret@new.internal/d",
        "--output",
        &name,
    ];
    let runs = refused(&daemon.setup, &moves).await;
    assert!(runs.contains("stop it first"), "{runs}");
    // Without the mark, a daemon that runs is exported.
    let online = ["export", "--with-secrets", "--output", &name];
    succeeds(&daemon.setup, &online).await;
    std::fs::remove_file(&file).unwrap();
    let mut daemon = daemon;
    assert!(daemon.stop().await.success());
    let setup = daemon.into_setup();
    succeeds(&setup, &moves).await;
    std::fs::remove_file(&file).unwrap();
    let again = refused(&setup, &moves).await;
    // Without the password: whoever starts a daemon here reads it.
    let to = "was moved to postgres://u:***@new.internal/d";
    assert!(again.contains(to), "{again}");
    let (setup, _) = does_not_start(setup).await;
    succeeds(&setup, &["reopen"]).await;
    let nothing = command(&setup, &["reopen"]).await;
    assert!(text(&nothing.stdout).contains("Nothing to do"));
    let daemon: Daemon = setup.start().await;
    assert!(daemon.client().get("/readyz").await.status.is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_exported_for_analysis_as_a_file_is() {
    let (source, file) = exported().await;
    let server = Server::start();
    let database = on(&server, setup());
    succeeds(&database, &["migrate"]).await;
    let name = file.display().to_string();
    succeeds(&database, &["import", &name]).await;
    let of_file = command(&source, &["export"]).await;
    let of_database = command(&database, &["export"]).await;
    assert!(of_file.status.success() && of_database.status.success());
    assert_eq!(text(&of_database.stdout), text(&of_file.stdout));
    let arguments = ["export", "--organization", "org_2", "--since", "1h"];
    let filtered = command(&database, &arguments).await;
    assert_eq!(
        text(&filtered.stdout).lines().count(),
        1,
        "only the last line"
    );
}
