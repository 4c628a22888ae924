//! Corrupt disks and full disks, with the real process: damage is named, a receiver only gets the body that was
//! accepted, and a full disk causes an error response that ends by itself.

use crate::support::{Client, Draw, Receiver, Reply, Setup, binary, load, until, verify, within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::process::Child;

const EVENTS: usize = 60;
/// Damaged copies in a run of the tests; `STORMHOOK_DAMAGES` sets another number.
const DAMAGES: u64 = 16;

/// A stopped store, half of whose deliveries wait for the next start.
struct Prepared {
    setup: Setup,
    receiver: Receiver,
    secrets: BTreeMap<String, String>,
    /// The bytes of `data` by event.
    accepted: BTreeMap<String, String>,
    /// The waiting delivery, by event.
    waiting: BTreeMap<String, String>,
    sound: Vec<u8>,
    /// How many damaged copies were refused, were used although `check` names damage, and were intact.
    outcomes: [usize; 3],
}

impl Prepared {
    async fn new() -> Self {
        let setup = Setup::new()
            .set("retry.schedule", r#"["2s","2s"]"#)
            .set("log.level", r#""warn""#);
        let mut daemon = setup.start().await;
        let receiver = Receiver::start().await;
        receiver
            .answer_by(|request| Reply::Status(if request.path == "/late" { 503 } else { 200 }));
        let api = daemon.client();
        let mut secrets = BTreeMap::new();
        for path in ["/now", "/late"] {
            let endpoint = api.endpoint(&receiver.url(path), &["*"]).await;
            secrets.insert(
                path.to_owned(),
                endpoint["secret"].as_str().unwrap().to_owned(),
            );
        }
        let mut draw = Draw::seeded(3);
        let mut accepted = BTreeMap::new();
        for n in 0..EVENTS {
            let noise: String = (0..40).map(|_| format!("{:016x}", draw.next())).collect();
            let data = json!(noise).to_string();
            let body = format!(
                r#"{{"organizationId":"org_1","type":"a.b","data":{data},"idempotencyKey":"k{n}"}}"#
            );
            let event = api.post("/v1/events", body).await.expect(202);
            accepted.insert(event["id"].as_str().unwrap().to_owned(), data);
        }
        receiver.wait_for(2 * EVENTS).await;
        until("all first attempts are recorded", async || {
            let stats = api.stats("").await;
            let both = stats["delivery.success.count"].as_u64()?
                + stats["delivery.failure.count"].as_u64()?;
            (both >= 2 * EVENTS as u64).then_some(())
        })
        .await;
        let retrying = api.all("/v1/deliveries?status=RETRYING").await;
        let waiting = retrying.iter().map(|d| {
            let of = |name: &str| d[name].as_str().unwrap().to_owned();
            (of("eventId"), of("id"))
        });
        let waiting: BTreeMap<_, _> = waiting.collect();
        assert_eq!(waiting.len(), EVENTS);
        assert!(daemon.stop().await.success());
        receiver.answer(Reply::Status(200));
        let setup = daemon.into_setup();
        let sound = std::fs::read(store_of(&setup)).unwrap();
        Self {
            setup,
            receiver,
            secrets,
            accepted,
            waiting,
            sound,
            outcomes: [0; 3],
        }
    }

    /// Prints the results. A run that hit nothing proves nothing.
    fn conclude(self) {
        let [refused, named, sound] = self.outcomes;
        eprintln!("{refused} refused, {named} named and served around, {sound} harmless");
        assert!(refused + named > 0, "nothing was hit");
    }

    /// Whether `check` finds nothing; otherwise it must name something.
    async fn is_sound(&self, what: &str) -> bool {
        let config = self.setup.write_config();
        let output = self
            .setup
            .run(&["check", "--config", config.to_str().unwrap()])
            .await;
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{what}: {said}");
        match output.status.code() {
            Some(0) => true,
            Some(1) => {
                assert!(
                    said.contains("damaged") || said.contains("version"),
                    "{what}: {said}"
                );
                false
            }
            other => panic!("{what}: {other:?} {said}"),
        }
    }

    /// Starts on these bytes, and compares with what was accepted.
    async fn start_on(mut self, bytes: &[u8], what: &str) -> Self {
        std::fs::write(store_of(&self.setup), bytes).unwrap();
        let sound = self.is_sound(what).await;
        let from = self.receiver.count();
        let mut daemon = match self.setup.try_start().await {
            Ok(daemon) => daemon,
            Err(refused) => {
                assert!(
                    !sound,
                    "{what}: check found nothing, and it doesn't start: {}",
                    refused.log
                );
                assert!(!refused.log.contains("panicked"), "{what}: {}", refused.log);
                assert!(!refused.log.is_empty(), "{what}: it says nothing");
                self.outcomes[0] += 1;
                self.setup = refused.setup;
                return self;
            }
        };
        let api = daemon.client();
        for (id, data) in &self.accepted {
            let answer = within(
                "an answer",
                api.call("GET", &format!("/v1/events/{id}")).try_send(),
            )
            .await
            .unwrap();
            if answer.status == 200 {
                let sent: Value = serde_json::from_str(data).unwrap();
                assert_eq!(answer.json()["data"], sent, "{what}: another body");
            } else {
                assert!(
                    !sound,
                    "{what}: check found nothing, and {id} is {answer:?}"
                );
            }
        }
        let both = (&api, &self.receiver);
        expect_ends(both, &self.waiting, from, sound, what).await;
        let new = expect_new(both, what).await;
        for request in &self.receiver.requests()[from..] {
            verify(request, &[self.secrets[&request.path].as_str()]);
            let known = self
                .accepted
                .get(&request.event())
                .or(new.get(&request.event()));
            assert_eq!(
                known.map(String::as_str),
                Some(request.data()),
                "{what}: another body was delivered"
            );
        }
        self.outcomes[if sound { 2 } else { 1 }] += 1;
        daemon.kill().await;
        assert!(
            !daemon.log().contains("panicked"),
            "{what}: {}",
            daemon.log()
        );
        self.setup = daemon.into_setup();
        self
    }
}

fn has_arrived(receiver: &Receiver, event: &str, path: &str, from: usize) -> bool {
    let requests = receiver.requests();
    let mut since = requests[from..].iter();
    since.any(|request| request.path == path && request.event() == event)
}

/// Each waiting delivery is delivered. Only in a damaged store may one end as damaged instead, or be reported as
/// damaged when it is read, or may the daemon report that it is not ready because of damage; none waits silently.
async fn expect_ends(
    (api, receiver): (&Client, &Receiver),
    waiting: &BTreeMap<String, String>,
    from: usize,
    sound: bool,
    what: &str,
) {
    let mut damaged = 0;
    for (event, delivery) in waiting {
        let ended = format!("{what}: {delivery} is delivered or called damaged");
        damaged += until(&ended, async || {
            if has_arrived(receiver, event, "/late", from) {
                return Some(0);
            }
            let ready = api.get("/readyz").await;
            if ready.status == 503 && ready.text().contains("damage") {
                // No commit can be made, so nothing is delivered.
                return Some(1);
            }
            let call = api.call("GET", &format!("/v1/deliveries/{delivery}"));
            let answer = within("an answer", call.try_send()).await.unwrap();
            let is_damaged = match answer.status.as_u16() {
                200 => answer.json()["reason"] == "damaged",
                // If the key of its row is damaged, there is no such row.
                404 => true,
                _ => answer.text().contains("damaged"),
            };
            is_damaged.then_some(1)
        })
        .await;
    }
    assert!(!sound || damaged == 0, "{what}: check found nothing");
}

/// A new event goes to both endpoints, and its data can be read by its id; or the daemon reports that it is not ready,
/// and why.
async fn expect_new((api, receiver): (&Client, &Receiver), what: &str) -> BTreeMap<String, String> {
    let data = r#""after the damage""#;
    let body = format!(r#"{{"organizationId":"org_1","type":"a.b","data":{data}}}"#);
    let from = receiver.count();
    let call = api.call("POST", "/v1/events").json(body);
    let answer = within("an answer", call.try_send()).await.unwrap();
    if answer.status != 202 {
        let ready = api.get("/readyz").await;
        assert_eq!(ready.status, 503, "{what}: {answer:?}");
        assert!(ready.text().contains("damage"), "{what}: {ready:?}");
        return BTreeMap::new();
    }
    let event = answer.json()["id"].as_str().unwrap().to_owned();
    for path in ["/now", "/late"] {
        let arrives = format!("{what}: a new event arrives at {path}");
        until(&arrives, async || {
            has_arrived(receiver, &event, path, from).then_some(())
        })
        .await;
    }
    BTreeMap::from([(event, data.to_owned())])
}

fn store_of(setup: &Setup) -> PathBuf {
    setup.data_dir().join("stormhook.redb")
}

fn damages() -> u64 {
    let given = std::env::var("STORMHOOK_DAMAGES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(DAMAGES)
}

#[tokio::test]
async fn flipped_bits_anywhere_are_harmless_or_named_and_no_other_body_is_delivered() {
    let mut draw = Draw::seeded(load::seed());
    let mut prepared = Prepared::new().await;
    let sound = prepared.sound.clone();
    let used: Vec<_> = sound
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte != 0)
        .map(|(at, _)| at)
        .collect();
    for n in 0..damages() {
        let mut bytes = sound.clone();
        // The header and the engine's own pages are few: every fourth flip hits them.
        let at = match n % 4 {
            0 => draw.below(4_096) as usize,
            _ => used[draw.below(used.len() as u64) as usize],
        };
        // One bit is corrected, two are not.
        let bits = [1 << draw.below(8), 3 << draw.below(7)][n as usize / 4 % 2];
        bytes[at] ^= bits;
        let what = format!("bits {bits:#x} of byte {at} of {}", sound.len());
        prepared = prepared.start_on(&bytes, &what).await;
    }
    prepared.conclude();
}

#[tokio::test]
async fn a_page_lost_or_a_file_cut_short_is_harmless_or_named() {
    let mut draw = Draw::seeded(load::seed());
    let mut prepared = Prepared::new().await;
    let sound = prepared.sound.clone();
    for n in 0..damages() / 2 {
        let mut bytes = sound.clone();
        let at = draw.below(sound.len() as u64) as usize;
        let what = match n % 3 {
            0 => {
                bytes.truncate(at);
                format!("{at} of {} bytes", sound.len())
            }
            1 => {
                let page = at / 4_096 * 4_096;
                let end = (page + 4_096).min(bytes.len());
                bytes[page..end].fill(0);
                format!("nothing but zeros in page {page}")
            }
            _ => {
                let (from, to) = (
                    at / 512 * 512,
                    draw.below(sound.len() as u64 / 512) as usize * 512,
                );
                let end = 512.min(bytes.len() - from).min(bytes.len() - to);
                let other = sound[from..from + end].to_vec();
                bytes[to..to + end].copy_from_slice(&other);
                format!("sector {from} written to {to}")
            }
        };
        prepared = prepared.start_on(&bytes, &what).await;
    }
    prepared.conclude();
}

/// A daemon on its own disk of 24 MiB, in a mount namespace.
struct SmallDisk {
    daemon: Child,
    /// The disk as seen from outside.
    disk: PathBuf,
    api: Client,
    setup: Setup,
}

impl SmallDisk {
    /// Returns `None`, with a message, if mounting is not permitted.
    async fn start(reserve: &str) -> Option<Self> {
        let probe = ["-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"];
        let probe = std::process::Command::new("unshare").args(probe).output();
        if !probe.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: mounting in a namespace of its own is not permitted here");
            return None;
        }
        let setup = Setup::new();
        let disk = setup.folder().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let data = format!("{:?}", disk.join("data"));
        let setup = setup
            .set("data_dir", &data)
            .set("limits.disk_reserve", reserve);
        let script =
            r#"mount -t tmpfs -o size=24m,mode=700 tmpfs "$1" && exec "$2" serve --config "$3""#;
        let log = std::fs::File::create(setup.folder().join("log")).unwrap();
        let daemon = setup
            .program("unshare")
            .args(["-rm", "sh", "-c", script, "sh"])
            .args([&disk, &binary(), &setup.write_config()])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let api = Client::unix(setup.socket());
        until("the daemon serves", async || {
            let answer = api.call("GET", "/readyz").try_send().await;
            answer.ok().filter(|answer| answer.status == 200)
        })
        .await;
        let inside = disk.strip_prefix("/").unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", daemon.id().unwrap()));
        Some(Self {
            disk: root.join(inside),
            daemon,
            api,
            setup,
        })
    }

    /// Writes a file next to the store until only `left` bytes are free.
    fn fill(&self, left: u64) {
        let free = free_bytes(&self.disk);
        let size = usize::try_from(free.saturating_sub(left)).unwrap();
        match std::fs::write(self.disk.join("filler"), vec![1; size]) {
            // The daemon has used some of it meanwhile.
            Err(e) if left == 0 && e.kind() == std::io::ErrorKind::StorageFull => {}
            written => written.unwrap(),
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.disk.join("filler")).unwrap();
    }

    async fn send(&self, key: &str) -> crate::support::Answer {
        let data = "x".repeat(500);
        let body =
            json!({"organizationId": "org_1", "type": "a", "data": data, "idempotencyKey": key});
        self.api.post("/v1/events", body).await
    }

    async fn end(mut self) {
        self.daemon.start_kill().unwrap();
        within("it ends", self.daemon.wait()).await.unwrap();
        let log = std::fs::read_to_string(self.setup.folder().join("log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn free_bytes(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).unwrap();
    found.f_bavail * found.f_frsize
}

#[tokio::test]
async fn below_the_reserve_events_are_refused_while_outcomes_are_still_recorded() {
    let Some(small) = SmallDisk::start(r#""8MiB""#).await else {
        return;
    };
    let receiver = Receiver::answering(Reply::held(200)).await;
    small.api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = small.send("first").await.expect(202);
    receiver.wait_for(1).await;
    small.fill(6 << 20);
    let refused = until("events are refused", async || {
        let answer = small.send("second").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    refused.problem(503, "storage_full");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    receiver.release(100);
    small
        .api
        .delivery_when(event["id"].as_str().unwrap(), "SUCCESS")
        .await;
    small.send("third").await.problem(503, "storage_full");
    small.empty();
    until("events are accepted again", async || {
        let answer = small.send("fourth").await;
        (answer.status == 202).then_some(())
    })
    .await;
    small.end().await;
}

#[tokio::test]
async fn a_disk_with_no_byte_left_loses_nothing_and_is_gone_on_with_when_there_is_room() {
    let Some(small) = SmallDisk::start(r#""0KiB""#).await else {
        return;
    };
    let receiver = Receiver::start().await;
    small.api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut accepted = Vec::new();
    let mut n = 0;
    let mut send = async |accepted: &mut Vec<String>| {
        n += 1;
        let answer = small.send(&n.to_string()).await;
        if answer.status == 202 {
            accepted.push(answer.json()["id"].as_str().unwrap().to_owned());
        }
        answer
    };
    for round in 0..3 {
        for _ in 0..20 {
            send(&mut accepted).await.expect(202);
        }
        small.fill(0);
        let refused = until("events are refused", async || {
            let answer = send(&mut accepted).await;
            (answer.status != 202).then_some(answer)
        })
        .await;
        assert_eq!(refused.status, 503, "round {round}: {refused:?}");
        let code = refused.json()["code"].as_str().unwrap().to_owned();
        assert!(
            ["storage_full", "store_failed"].contains(&code.as_str()),
            "{refused:?}"
        );
        small.api.get("/healthz").await.expect_ok();
        small.empty();
        until("events are accepted again", async || {
            (send(&mut accepted).await.status == 202).then_some(())
        })
        .await;
        let ready = small.api.get("/readyz").await;
        assert_eq!(ready.status, 200, "round {round}: {ready:?}");
    }
    for id in &accepted {
        small.api.delivery_when(id, "SUCCESS").await;
        let sent = receiver
            .requests()
            .iter()
            .filter(|r| r.event() == *id)
            .count();
        assert!((1..=4).contains(&sent), "{id} was sent {sent} times");
    }
    small.api.post("/v1/check", json!({})).await.expect(200);
    small.end().await;
}
