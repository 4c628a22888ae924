//! Load with a ledger at both ends: services that send until each event is acknowledged, a receiver that counts what
//! reaches it, and the comparison of both with what the daemon holds.

use super::{Client, Daemon, Draw, Receiver, Recorded, Reply, Setup, until};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SENDERS: u64 = 4;
/// Organizations in a cluster, so that each daemon has some.
const ORGANIZATIONS: u64 = 12;
const TYPES: [&str; 3] = ["order.created", "order.paid", "invoice.sent"];
/// Codes of a call that its caller is to repeat.
const REFUSALS: [&str; 4] = ["busy", "store_failed", "storage_full", "shutting_down"];
const ENDPOINTS: [(&str, &[&str]); 3] = [
    ("/all", &["*"]),
    ("/orders", &["order.*"]),
    ("/paid", &["order.paid"]),
];

/// The acknowledged events: the event's id by its organization and its key, with its type.
type Acknowledged = BTreeMap<(String, String), (String, &'static str)>;
type Ledger = Arc<Mutex<Acknowledged>>;
type Refusals = Arc<Mutex<Refused>>;

/// What callers were told meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused {
    /// How many calls by the code of the refusal.
    pub(crate) codes: BTreeMap<String, usize>,
    /// The longest that a call waited for its answer, whichever.
    pub(crate) slowest: Duration,
}

/// The seed of a run: given, or generated and printed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STORMHOOK_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_nanos() as u64
    });
    eprintln!("seed: STORMHOOK_SEED={seed}");
    seed
}

/// Returns a setup whose schedule outlasts many stops of the daemon.
pub(crate) fn setup() -> Setup {
    let schedule = format!("[{}]", vec![r#""200ms""#; 20].join(","));
    Setup::new()
        .set("retry.schedule", &schedule)
        .set("log.level", r#""warn""#)
}

/// Load that continues until it is finished.
pub(crate) struct Load {
    receiver: Receiver,
    organizations: u64,
    ledger: Ledger,
    refusals: Refusals,
    stop: watch::Sender<bool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    /// Creates the endpoints and starts to send. One in eight first attempts fails, so that retries are in progress
    /// too.
    pub(crate) async fn start(daemon: &Daemon, seed: u64) -> Self {
        Self::paced(daemon, seed, Duration::ZERO).await
    }

    /// The same, with a pause of each sender between two events.
    pub(crate) async fn paced(daemon: &Daemon, seed: u64, rest: Duration) -> Self {
        Self::begin(vec![daemon.client()], 1, seed, rest).await
    }

    /// The same over many daemons that share a store: each event goes to any of them.
    pub(crate) async fn over(daemons: &[Daemon], seed: u64, rest: Duration) -> Self {
        let clients = daemons.iter().map(Daemon::client).collect();
        Self::begin(clients, ORGANIZATIONS, seed, rest).await
    }

    async fn begin(clients: Vec<Client>, organizations: u64, seed: u64, rest: Duration) -> Self {
        let receiver = Receiver::start().await;
        let mut failing = Draw::seeded(seed ^ 1);
        receiver.answer_by(move |request| {
            let first = request.header("x-stormcom-attempt") == "1";
            Reply::Status(if first && failing.below(8) == 0 {
                503
            } else {
                200
            })
        });
        for organization in (1..=organizations).map(organization) {
            for (path, types) in ENDPOINTS {
                let url = receiver.url(&format!("/{organization}{path}"));
                let body = json!({"organizationId": organization, "url": url, "eventTypes": types});
                let created = clients[0].call("POST", "/v1/endpoints").json(body);
                assert_eq!(created.send().await.status, 201);
            }
        }
        let (ledger, refusals) = (Ledger::default(), Refusals::default());
        let (stop, stopped) = watch::channel(false);
        let send = |n| {
            let sending = (Arc::clone(&ledger), Arc::clone(&refusals), stopped.clone());
            send(clients.clone(), organizations, n, rest, sending)
        };
        let senders = (0..SENDERS).map(|n| tokio::spawn(send(n))).collect();
        Self {
            receiver,
            organizations,
            ledger,
            refusals,
            stop,
            senders,
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.ledger.lock().unwrap().len()
    }

    pub(crate) fn refused(&self) -> Refused {
        self.refusals.lock().unwrap().clone()
    }

    /// Waits until this many more events are acknowledged.
    pub(crate) async fn goes_on(&self, events: usize) {
        let before = self.acknowledged();
        until("events are acknowledged", async || {
            (self.acknowledged() >= before + events).then_some(())
        })
        .await;
    }

    /// Waits until this many more calls are refused.
    pub(crate) async fn is_refused(&self, calls: usize) {
        let count = || self.refused().codes.values().sum::<usize>();
        let before = count();
        until("calls are refused", async || {
            (count() >= before + calls).then_some(())
        })
        .await;
    }

    /// Ends the load and compares: everything acknowledged reached every subscribed endpoint, the same attempt was
    /// repeated at most `repeats` times, with the same bytes, and the daemon holds one event per key without gaps.
    pub(crate) async fn finish(self, daemon: &Daemon, repeats: usize) {
        self.stop.send(true).unwrap();
        for sender in self.senders {
            sender.await.unwrap();
        }
        let ledger = self.ledger.lock().unwrap().clone();
        eprintln!("{} events acknowledged", ledger.len());
        assert!(ledger.len() > 20, "there was load");
        eprintln!("meanwhile: {:?}", self.refusals.lock().unwrap());
        let reached = reached_all(&self.receiver, &ledger).await;
        check_pairs(&reached, &ledger, repeats);
        all_ended(&daemon.client()).await;
        check_store(&daemon.client(), self.organizations, &ledger).await;
    }
}

/// Sends events until told to stop, each until it is acknowledged, always with its key.
async fn send(
    clients: Vec<Client>,
    organizations: u64,
    sender: u64,
    rest: Duration,
    (ledger, refusals, stop): (Ledger, Refusals, watch::Receiver<bool>),
) {
    let mut at = usize::try_from(sender).unwrap();
    for n in 0_u64.. {
        tokio::time::sleep(rest).await;
        let key = format!("{sender}-{n}");
        let organization = organization(1 + (sender + n / 3) % organizations);
        let kind = TYPES[usize::try_from((sender + n) % 3).unwrap()];
        let body = json!({"organizationId": organization, "type": kind, "data": key, "idempotencyKey": key});
        loop {
            if *stop.borrow() {
                return;
            }
            at += 1;
            let asked = Instant::now();
            let answer = clients[at % clients.len()]
                .call("POST", "/v1/events")
                .json(body.clone())
                .try_send()
                .await;
            {
                let mut refusals = refusals.lock().unwrap();
                refusals.slowest = refusals.slowest.max(asked.elapsed());
            }
            match answer {
                Ok(answer) if [200, 202].contains(&answer.status.as_u16()) => {
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    let event = (organization, key);
                    ledger.lock().unwrap().insert(event, (id, kind));
                    break;
                }
                Ok(answer) if answer.status == 503 => {
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    assert!(REFUSALS.contains(&code.as_str()), "{answer:?}");
                    *refusals.lock().unwrap().codes.entry(code).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(answer) => panic!("{answer:?}"),
                // Killed: the same again with the same key, once it is back.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

fn organization(number: u64) -> String {
    format!("org_{number}")
}

/// Whether an endpoint, by the path of its URL, gets events of this type.
fn subscribed(path: &str, kind: &str) -> bool {
    match path {
        "/all" => true,
        "/orders" => kind.starts_with("order."),
        _ => kind == "order.paid",
    }
}

/// Waits until each acknowledged event was answered 2xx at each subscribed endpoint at least once.
async fn reached_all(receiver: &Receiver, ledger: &Acknowledged) -> Vec<Recorded> {
    let mut missing: BTreeSet<(String, String)> = BTreeSet::new();
    for ((organization, _), (id, kind)) in ledger {
        for (path, _) in ENDPOINTS.iter().filter(|(path, _)| subscribed(path, kind)) {
            missing.insert((id.clone(), format!("/{organization}{path}")));
        }
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    let mut from = 0;
    loop {
        let requests = receiver.requests();
        for request in &requests[from..] {
            missing.remove(&(request.event(), request.path.clone()));
        }
        from = requests.len();
        if missing.is_empty() {
            return requests;
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        assert!(
            !left.is_zero(),
            "{} pairs never came: {missing:?}",
            missing.len()
        );
        let _ = tokio::time::timeout(left, receiver.wait_for_within(from + 1, left)).await;
    }
}

/// Checks that bodies are the same on every attempt, and that no attempt is repeated more often than allowed.
fn check_pairs(requests: &[Recorded], ledger: &Acknowledged, allowed: usize) {
    let mut pairs: BTreeMap<(String, String), Vec<&Recorded>> = BTreeMap::new();
    for request in requests {
        pairs
            .entry((request.event(), request.path.clone()))
            .or_default()
            .push(request);
    }
    let known: BTreeMap<_, _> = ledger
        .iter()
        .map(|((organization, key), (id, kind))| (id, (organization, key, *kind)))
        .collect();
    let mut repeated = 0;
    for ((event, path), sent) in &pairs {
        assert!(
            sent.iter().all(|r| r.body == sent[0].body),
            "{event} {path}: other bytes"
        );
        // The same attempt is repeated only if the process ended between sending and recording.
        let attempts: BTreeSet<_> = sent
            .iter()
            .map(|r| r.header("x-stormcom-attempt"))
            .collect();
        let repeats = sent.len() - attempts.len();
        assert!(repeats <= allowed, "{event} {path}: {repeats} repeats");
        repeated += repeats;
        // A second attempt exists only after the scripted failure of the first.
        assert!(attempts.len() <= 2, "{event} {path}: attempts {attempts:?}");
        if let Some((organization, key, kind)) = known.get(event) {
            let of = format!("/{organization}");
            let path = path.strip_prefix(&of);
            let path = path.unwrap_or_else(|| panic!("{event} of {of} went to another"));
            assert!(subscribed(path, kind), "{event} {kind} went to {path}");
            assert_eq!(sent[0].data(), format!("{key:?}"));
        }
    }
    let doubled = pairs.values().map(|sent| sent.len() - 1).sum::<usize>();
    eprintln!(
        "{} pairs, {doubled} sent again after a failure or an end, {repeated} of them the same attempt",
        pairs.len()
    );
}

/// Waits until the outcome of each delivery is recorded.
async fn all_ended(api: &Client) {
    for status in ["PENDING", "RETRYING"] {
        let path = format!("/v1/deliveries?status={status}&limit=1");
        until("every delivery has succeeded", async || {
            let open = api.get(&path).await.json();
            (open["data"] == json!([])).then_some(())
        })
        .await;
    }
}

/// Checks one event per key, one delivery per pair, sequences 1, 2, 3 … without gaps.
async fn check_store(api: &Client, organizations: u64, ledger: &Acknowledged) {
    let mut by_key: BTreeMap<(String, String), String> = BTreeMap::new();
    for organization in (1..=organizations).map(organization) {
        let path = format!("/v1/events?organizationId={organization}&limit=250");
        for event in &api.all(&path).await {
            let key = event["idempotencyKey"].as_str().unwrap().to_owned();
            let id = event["id"].as_str().unwrap().to_owned();
            let before = by_key.insert((organization.clone(), key), id);
            assert_eq!(before, None, "two events of one key");
        }
    }
    for (key, (id, _)) in ledger {
        assert_eq!(
            by_key.get(key),
            Some(id),
            "acknowledged but not stored: {key:?}"
        );
    }
    for endpoint in api.all("/v1/endpoints").await {
        let path = format!(
            "/v1/deliveries?limit=250&endpointId={}",
            endpoint["id"].as_str().unwrap()
        );
        let mut sequences: Vec<_> = api
            .all(&path)
            .await
            .iter()
            .map(|delivery| delivery["sequence"].as_u64().unwrap())
            .collect();
        sequences.sort_unstable();
        let expected: Vec<_> = (1..=sequences.len() as u64).collect();
        assert_eq!(sequences, expected, "{}", endpoint["url"]);
    }
}
