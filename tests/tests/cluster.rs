//! Many daemons on one PostgreSQL: each takes every call, and what the store in a file promises holds over the end of any
//! of them and of the server.

mod cut;
mod database;
mod disk;
mod upgrade;

use crate::support::{Client, Daemon, Draw, Setup, load, until, within};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;
use stormhook_test_postgres::{Authority, Server, unused_address};

/// The lease of the daemons in these tests.
const LEASE: &str = r#""2s""#;
/// Faults of one run.
const FAULTS: usize = 12;

fn on(server: &Server, setup: Setup) -> Setup {
    setup
        .set("store.url", &format!("{:?}", server.store_url()))
        .set("store.lease", LEASE)
}

/// Prepares the database, and starts daemons on it, one after the other.
async fn start(server: &Server, count: usize, setup: impl Fn() -> Setup) -> Vec<Daemon> {
    start_each(count, |_| on(server, setup())).await
}

/// The same with a setup for each of them that names the database.
async fn start_each(count: usize, setup: impl Fn(usize) -> Setup) -> Vec<Daemon> {
    let first = setup(0);
    first.write_config();
    let config = first.config_path();
    let migrate = ["migrate", "--config", config.to_str().unwrap()];
    assert!(first.run(&migrate).await.status.success());
    let mut daemons = vec![first.start().await];
    for number in 1..count {
        daemons.push(setup(number).start().await);
    }
    shared_out(&daemons[0], count).await;
    daemons
}

/// Waits until each of so many daemons has its share.
async fn shared_out(asked: &Daemon, count: usize) {
    let most = 256_usize.div_ceil(count) as u64;
    until("each daemon has its share", async || {
        let cluster = asked.client().get("/v1/cluster").await.json();
        let shards: Vec<u64> = cluster["daemons"]
            .as_array()?
            .iter()
            .map(|daemon| daemon["shards"].as_u64().unwrap())
            .collect();
        let whole = shards.iter().sum::<u64>() == 256;
        (shards.len() == count && whole && shards.iter().all(|n| *n <= most)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_refuses_a_database_that_is_not_prepared_and_says_what_to_run() {
    let server = Server::start();
    let refused = on(&server, Setup::new()).try_start().await;
    let Err(refused) = refused else {
        panic!("it started");
    };
    assert!(!refused.status.success());
    let setup = refused.setup;
    setup.write_config();
    let config = setup.config_path();
    let config = config.to_str().unwrap();
    assert!(
        refused.log.contains("run `stormhook migrate`"),
        "{}",
        refused.log
    );
    let check = setup.run(&["migrate", "--check", "--config", config]).await;
    assert_eq!(check.status.code(), Some(1));
    assert!(
        setup
            .run(&["migrate", "--config", config])
            .await
            .status
            .success()
    );
    let check = setup.run(&["migrate", "--check", "--config", config]).await;
    assert_eq!(check.status.code(), Some(0));
    let mut daemon = setup.start().await;
    assert!(daemon.stop().await.success());
}

/// The authority is one of the platform's, and the password is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_reaches_the_database_over_tls_and_shows_no_password() {
    let authority = Authority::new();
    let address = unused_address();
    let access = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    let issued = authority.issue(&["db.test"]);
    let server = Server::start_over_tcp(address, Some(&issued), access, None);
    server.sql("ALTER USER postgres PASSWORD 'k3pt-secret'");
    let trusting = |authority: &Authority| {
        let setup = Setup::new();
        let roots = setup.folder().join("roots.pem");
        std::fs::write(&roots, authority.pem()).unwrap();
        let url = format!(
            "postgres://postgres:k3pt-secret@db.test/postgres?hostaddr={address}&sslmode=verify-full&channel_binding=require"
        );
        setup
            .set("store.url", &format!("{url:?}"))
            .env("SSL_CERT_FILE", roots.to_str().unwrap())
    };
    let setup = trusting(&authority);
    let config = setup.write_config();
    let config = config.to_str().unwrap();
    let mut shown = String::new();
    for arguments in [&["migrate"][..], &["config"]] {
        let ran = setup
            .run(&[arguments, &["--config", config]].concat())
            .await;
        assert!(ran.status.success(), "{ran:?}");
        shown.extend([ran.stdout, ran.stderr].map(|text| String::from_utf8(text).unwrap()));
    }
    assert!(shown.contains("postgres://postgres:***@db.test"), "{shown}");
    let mut daemon = setup.set("log.level", r#""debug""#).start().await;
    let secured = "SELECT count(*) > 1 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'stormhook'";
    assert_eq!(server.sql(secured), "t");
    shown.push_str(daemon.ready_line());
    assert!(daemon.stop().await.success());
    shown.push_str(&daemon.log());
    let Err(refused) = trusting(&Authority::new()).try_start().await else {
        panic!("it started");
    };
    assert_eq!(refused.status.code(), Some(1));
    let said = "the server's certificate is not signed by a trusted authority: name its authority with sslrootcert=FILE";
    assert!(refused.log.contains(said), "{}", refused.log);
    shown.push_str(&refused.log);
    assert!(!shown.contains("k3pt-secret"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_daemon_takes_every_call() {
    let server = Server::start();
    let daemons = start(&server, 3, Setup::new).await;
    let receiver = crate::support::Receiver::start().await;
    for number in 0..12 {
        // Each call goes to another daemon than the one before.
        let api = |n: usize| daemons[(number + n) % 3].client();
        let organization = format!("org_{number}");
        let body =
            json!({"organizationId": organization, "url": receiver.url("/"), "eventTypes": ["*"]});
        let created = api(0).call("POST", "/v1/endpoints").json(body).send().await;
        assert_eq!(created.status, 201, "{created:?}");
        let endpoint = created.json()["id"].as_str().unwrap().to_owned();
        let event = json!({"organizationId": organization, "type": "order.created", "data": number, "idempotencyKey": "k"});
        let sent = api(1)
            .call("POST", "/v1/events")
            .json(event.clone())
            .send()
            .await;
        assert_eq!(sent.status, 202, "{sent:?}");
        assert_eq!(sent.json()["deliveries"], 1);
        let again = api(2)
            .call("POST", "/v1/events")
            .json(event.clone())
            .send()
            .await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.json()["id"], sent.json()["id"]);
        let mut other = event;
        other["data"] = json!("other");
        let conflict = api(0).call("POST", "/v1/events").json(other).send().await;
        assert_eq!(conflict.json()["code"], "idempotency_conflict");
        let id = sent.json()["id"].as_str().unwrap().to_owned();
        let delivered = until("it is delivered", async || {
            let path = format!("/v1/deliveries?eventId={id}");
            let found = api(2).get(&path).await.json()["data"][0].clone();
            (found["status"] == "SUCCESS").then_some(found)
        })
        .await;
        let delivery = format!("/v1/deliveries/{}", delivered["id"].as_str().unwrap());
        for n in 0..3 {
            let shown = api(n).get(&delivery).await.json();
            assert_eq!(shown["attempts"][0]["responseCode"], 200, "{shown}");
            let event = api(n).get(&format!("/v1/events/{id}")).await.json();
            assert_eq!(event["data"], number);
        }
        let retried = api(1).post(&format!("{delivery}/retry"), json!({})).await;
        assert_eq!(retried.status, 200, "{retried:?}");
        let path = format!("/v1/endpoints/{endpoint}");
        let off = api(2)
            .call("PATCH", &path)
            .json(json!({"active": false}))
            .send()
            .await;
        assert_eq!(off.json()["active"], false);
        assert_eq!(api(0).get(&path).await.json()["active"], false);
    }
    // Lists over all organizations are the same everywhere.
    for daemon in &daemons {
        assert_eq!(daemon.client().all("/v1/endpoints").await.len(), 12);
        assert_eq!(daemon.client().all("/v1/events").await.len(), 12);
        assert_eq!(daemon.client().all("/v1/deliveries").await.len(), 12);
        let stats = daemon.client().get("/v1/stats?window=all").await.json();
        assert_eq!(stats["ingest.accepted.count"], 12);
        assert_eq!(stats["idempotency.replay.count"], 12);
        assert_eq!(stats["idempotency.conflict.count"], 12);
        assert!(stats["queue.pending"].is_u64(), "{stats}");
    }
}

/// Whether a daemon takes a token, over TCP.
async fn takes(daemon: &Daemon, token: &str) -> bool {
    let client = Client::tcp(daemon.address(), Some(token.to_owned()));
    let status = client.get("/v1/cluster").await.status.as_u16();
    // One that is wrong may be one too many.
    assert!([200, 401, 429].contains(&status), "{status}");
    status == 200
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_daemons_take_the_token_of_the_first_and_no_other_makes_one() {
    let mut server = Server::start();
    let mut daemons = start(&server, 2, Setup::new).await;
    let token = daemons[0].token();
    let file = daemons[1].setup.data_dir().join("admin-token");
    assert!(!file.exists());
    // A third one brings a token of its own.
    let setup = on(&server, Setup::new());
    std::fs::create_dir(setup.data_dir()).unwrap();
    let own = "0123456789abcdef0123456789abcdef";
    std::fs::write(setup.data_dir().join("admin-token"), own).unwrap();
    let third = setup.start().await;
    let said = "the token in this file is not that of the database, so it is refused; copy admin-token from the daemon that made it";
    assert_eq!(third.log().matches(said).count(), 1, "{}", third.log());
    for daemon in [&daemons[0], &daemons[1], &third] {
        assert!(takes(daemon, &token).await);
        assert!(!takes(daemon, own).await);
    }
    let missing = Client::tcp(daemons[1].address(), None);
    let missing = missing.get("/v1/cluster").await;
    let detail = missing.json()["detail"].to_string();
    assert!(detail.contains("of the daemon that made it"), "{detail}");
    // The database is not asked for each call.
    server.stop();
    assert!(takes(&daemons[1], &token).await);
    assert!(!takes(&daemons[1], own).await);
    server.start_again();
    // Another token counts as soon as the daemons have looked at the database.
    let digest = format!("sha256(convert_to('{own}', 'UTF8'))");
    server.sql(&format!(
        "UPDATE stormhook.meta SET admin_token_digest = {digest}"
    ));
    for daemon in [&daemons[0], &daemons[1], &third] {
        until("the other token counts", async || {
            takes(daemon, own).await.then_some(())
        })
        .await;
        assert!(!takes(daemon, &token).await);
    }
    // One whose file is lost is taken out of the database, and the next daemon that starts makes another.
    server.sql("UPDATE stormhook.meta SET admin_token_digest = NULL");
    assert!(daemons[1].stop().await.success());
    daemons[1].start_again().await;
    let made = daemons[1].token();
    for daemon in [&daemons[0], &daemons[1], &third] {
        until("the new token counts", async || {
            takes(daemon, &made).await.then_some(())
        })
        .await;
        assert!(!takes(daemon, own).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_one_daemon_replaces_counts_for_all() {
    let mut server = Server::start();
    let daemons = start(&server, 2, Setup::new).await;
    let old = daemons[0].token();
    // The daemon that doesn't have the file replaces it.
    let rotate = daemons[1].client();
    let rotated = rotate
        .call("POST", "/v1/token/rotate")
        .send()
        .await
        .expect(200);
    let file = daemons[1].setup.data_dir().join("admin-token");
    assert_eq!(rotated["path"], file.to_str().unwrap());
    let new = daemons[1].token();
    assert!(takes(&daemons[1], &new).await && !takes(&daemons[1], &old).await);
    until("the other daemon takes it up", async || {
        takes(&daemons[0], &new).await.then_some(())
    })
    .await;
    assert!(!takes(&daemons[0], &old).await);
    // Without the database nothing is replaced.
    server.stop();
    let failed = rotate.call("POST", "/v1/token/rotate").send().await;
    failed.problem(503, "store_failed");
    assert_eq!(daemons[1].token(), new);
    server.start_again();
    assert!(takes(&daemons[1], &new).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_daemons_that_start_at_the_same_time_one_makes_the_token() {
    let server = Server::start();
    let setups = [(); 3].map(|()| on(&server, Setup::new()));
    setups[0].write_config();
    let config = setups[0].config_path();
    let migrate = ["migrate", "--config", config.to_str().unwrap()];
    assert!(setups[0].run(&migrate).await.status.success());
    let [a, b, c] = setups;
    let (a, b, c) = tokio::join!(a.start(), b.start(), c.start());
    let daemons = [a, b, c];
    let files = daemons
        .iter()
        .filter(|daemon| daemon.setup.data_dir().join("admin-token").exists());
    let [maker] = files.collect::<Vec<_>>()[..] else {
        panic!("not one token was made");
    };
    for daemon in &daemons {
        assert!(takes(daemon, &maker.token()).await);
    }
}

/// Returns a metric of a daemon.
async fn metric(daemon: &Daemon, name: &str) -> f64 {
    let page = daemon.client().get("/metrics").await.text();
    let name = format!("stormhook_{name} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&name));
    let value = value.unwrap_or_else(|| panic!("no {name}in {page}"));
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_show_the_cluster_and_who_took_over() {
    let server = Server::start();
    let mut daemons = start(&server, 2, Setup::new).await;
    for daemon in &daemons {
        until("it has its share in memory", async || {
            (metric(daemon, "cluster_shards_held").await == 128.0).then_some(())
        })
        .await;
        assert_eq!(metric(daemon, "cluster_daemons").await, 2.0);
        assert_eq!(metric(daemon, "cluster_shards_unowned").await, 0.0);
        assert_eq!(metric(daemon, "cluster_takeovers_total").await, 0.0);
        assert_eq!(metric(daemon, "cluster_commits_remade_total").await, 0.0);
        // It is renewed each quarter of the lease.
        let age = metric(daemon, "cluster_lease_age_seconds").await;
        assert!((0.0..2.0).contains(&age), "{age}");
        let ahead = metric(daemon, "database_clock_ahead_seconds").await;
        assert!(ahead.abs() < 1.0, "{ahead}");
    }
    daemons[1].kill().await;
    until("the first has everything", async || {
        (metric(&daemons[0], "cluster_shards_held").await == 256.0).then_some(())
    })
    .await;
    assert_eq!(metric(&daemons[0], "cluster_takeovers_total").await, 1.0);
    assert_eq!(metric(&daemons[0], "cluster_daemons").await, 1.0);
    // With the store in a file there is no cluster.
    let alone = Daemon::start().await;
    let page = alone.client().get("/metrics").await.text();
    assert!(
        !page.contains("_cluster_") && !page.contains("_database_"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_many_organizations_is_answered_in_order_by_any_daemon() {
    let server = Server::start();
    let daemons = start(&server, 2, Setup::new).await;
    let lines: Vec<Value> = (0..500)
        .map(|n| {
            if n % 50 == 7 {
                json!({"organizationId": "org_1", "type": "not a type", "data": n})
            } else {
                json!({"organizationId": format!("org_{}", n % 10), "type": "order.created", "data": n})
            }
        })
        .collect();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for daemon in &daemons {
        let answers = daemon.client().batch(&text).await;
        assert_eq!(answers.len(), lines.len());
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer["line"], n + 1);
            let expected = if n % 50 == 7 { "rejected" } else { "accepted" };
            assert_eq!(answer["status"], expected, "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_that_stop_and_start_in_order_hand_everything_over() {
    let server = Server::start();
    let seed = load::seed();
    let mut daemons = start(&server, 3, load::setup).await;
    let load = load::Load::over(&daemons, seed, Duration::ZERO).await;
    for at in [0, 1, 2] {
        assert!(daemons[at].stop().await.success());
        shared_out(&daemons[(at + 1) % 3], 2).await;
        daemons[at].start_again().await;
        shared_out(&daemons[at], 3).await;
    }
    // Nothing was cut: no attempt is made twice.
    load.finish(&daemons[0], 0).await;
    for daemon in &mut daemons {
        assert!(daemon.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_over_kills_pauses_and_ends_of_the_server() {
    let mut server = Server::start();
    let seed = load::seed();
    let mut draw = Draw::seeded(seed);
    let mut daemons = start(&server, 3, load::setup).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    for fault in 0..FAULTS {
        // The moment matters here; nothing is waited for.
        tokio::time::sleep(Duration::from_micros(draw.below(500_000))).await;
        let at = usize::try_from(draw.below(3)).unwrap();
        let kind = draw.below(4);
        eprintln!("fault {fault}: kind {kind} of daemon {at}");
        match kind {
            // Killed, and back before the lease ends or after.
            0 | 1 => {
                daemons[at].kill().await;
                tokio::time::sleep(Duration::from_micros(draw.below(4_000_000))).await;
                daemons[at].start_again().await;
            }
            // Paused, past the lease or not.
            2 => {
                daemons[at].signal(Signal::STOP);
                tokio::time::sleep(Duration::from_micros(draw.below(6_000_000))).await;
                daemons[at].signal(Signal::CONT);
                back(&mut daemons[at]).await;
            }
            _ => {
                server.stop();
                tokio::time::sleep(Duration::from_micros(draw.below(1_000_000))).await;
                server.start_again();
            }
        }
    }
    for daemon in &mut daemons {
        back(daemon).await;
    }
    shared_out(&daemons[0], 3).await;
    load.finish(&daemons[0], FAULTS).await;
    for daemon in &daemons {
        let api = daemon.client();
        let checked = api.call("POST", "/v1/check").json(json!({})).send().await;
        assert_eq!(checked.json()["damage"], json!([]));
    }
}

/// Waits until the daemon is ready. One that others took over from has ended, and is started again.
async fn back(daemon: &mut Daemon) {
    within("the daemon is back", async {
        loop {
            if daemon.has_ended() {
                assert_eq!(daemon.ended().await.code(), Some(1));
                daemon.start_again().await;
            }
            let ready = daemon.client().call("GET", "/readyz").try_send().await;
            if ready.is_ok_and(|answer| answer.status == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
