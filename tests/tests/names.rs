//! Host names of receivers: names without an answer, names that move, and the daemon's errors for them. The test's own
//! name server answers on the loopback address.

use crate::overload::p95;
use crate::support::{Daemon, Receiver, Setup, until};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

/// Addresses by name: `None` is never answered, an empty list means no address, and unlisted names don't exist.
type Zone = Arc<Mutex<Vec<(&'static str, Option<Vec<Ipv4Addr>>)>>>;

/// A name server. It finds a name in the zone by its suffix.
struct NameServer {
    address: SocketAddr,
    zone: Zone,
}

impl NameServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Zone::default();
        let shared = zone.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
                let answer = answer(&buffer[..n], &shared.lock().unwrap());
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, zone }
    }

    fn set(&self, name: &'static str, addresses: Option<Vec<Ipv4Addr>>) {
        let mut zone = self.zone.lock().unwrap();
        zone.retain(|(known, _)| *known != name);
        zone.push((name, addresses));
    }

    fn setup(&self) -> Setup {
        Setup::new()
            .set("dns.servers", &format!("[\"{}\"]", self.address))
            .set("retry.schedule", r#"["1h"]"#)
    }
}

/// Returns the answer to a query with one question (RFC 1035, section 4), with a TTL of 0.
fn answer(query: &[u8], zone: &[(&str, Option<Vec<Ipv4Addr>>)]) -> Option<Vec<u8>> {
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push_str(std::str::from_utf8(&query[at + 1..end]).unwrap());
        name.push('.');
        at = end;
    }
    let question = &query[12..at + 5];
    let is_a = question[question.len() - 3] == 1;
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let known = zone.iter().find(|(end, _)| name.ends_with(end));
    let (code, addresses) = match known {
        Some((_, None)) => return None,
        Some((_, Some(addresses))) if is_a => (0, addresses.clone()),
        Some(_) => (0, Vec::new()),
        None => (3, Vec::new()),
    };
    let mut answer = query[..2].to_vec();
    answer.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        addresses.len() as u8,
        0,
        0,
        0,
        0,
    ]);
    answer.extend(question);
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

async fn endpoint(daemon: &Daemon, organization: &str, url: &str) -> String {
    let body = json!({"organizationId": organization, "url": url, "eventTypes": ["*"]});
    let made = daemon.client().post("/v1/endpoints", body).await;
    made.expect(201)["id"].as_str().unwrap().to_owned()
}

async fn first_attempt(daemon: &Daemon) -> Value {
    let api = daemon.client();
    let event = api.event("a", json!(1)).await;
    until("a first attempt", async || {
        let delivery = api.delivery_of(&event).await;
        delivery["attempts"].get(0).cloned()
    })
    .await
}

#[tokio::test]
async fn names_that_nobody_answers_for_take_nothing_from_a_partner_whose_name_is_answered() {
    const DEAD: usize = 8;
    const EVENTS: usize = 200;
    let names = NameServer::start().await;
    names.set("dead.test", None);
    names.set("healthy.test", Some(vec![Ipv4Addr::LOCALHOST]));
    // Each event to the healthy one needs its own connection, and a look-up each second.
    let daemon = names.setup().set("delivery.pool_idle", r#""0s""#);
    let daemon = daemon.start().await;
    let healthy = Receiver::start().await;
    let port = healthy.url("/").parse::<http::Uri>().unwrap();
    let port = port.port_u16().unwrap();
    let healthy_url = format!("http://healthy.test:{port}/");
    let healthy_id = endpoint(&daemon, "org_2", &healthy_url).await;
    let mut dead_id = String::new();
    let calm = p95(&daemon, &healthy, "calm").await;
    for n in 0..DEAD {
        dead_id = endpoint(&daemon, "org_1", &format!("http://{n}.dead.test/")).await;
    }
    let api = daemon.client();
    let line = |n| json!({"organizationId": "org_1", "type": "a", "data": n}).to_string() + "\n";
    api.batch(&(0..EVENTS).map(line).collect::<String>()).await;
    let beside = p95(&daemon, &healthy, "beside").await;
    eprintln!("{calm:?} calm, {beside:?} beside {DEAD} names that are not answered");
    // None of its attempts failed, and each was its delivery's first.
    let deliveries = until("all outcomes are committed", async || {
        let all = api
            .all(&format!("/v1/deliveries?endpointId={healthy_id}"))
            .await;
        all.iter().all(|d| d["status"] != "PENDING").then_some(all)
    })
    .await;
    assert_eq!(deliveries.len(), 120);
    for delivery in deliveries {
        let delivery = api.delivery(delivery["id"].as_str().unwrap()).await;
        assert_eq!(delivery["status"], "SUCCESS", "{delivery}");
        assert_eq!(
            delivery["attempts"].as_array().unwrap().len(),
            1,
            "{delivery}"
        );
    }
    // The attempts to the dead names fail for that reason.
    let failed = until("an attempt to a dead name", async || {
        let all = api
            .all(&format!("/v1/deliveries?endpointId={dead_id}"))
            .await;
        all.into_iter().find(|d| d["status"] == "RETRYING")
    })
    .await;
    let failed = api.delivery(failed["id"].as_str().unwrap()).await;
    let attempt = &failed["attempts"][0];
    assert_eq!(attempt["outcome"], "dns", "{attempt}");
    let error = attempt["error"].as_str().unwrap();
    assert!(
        error.contains("no name server answered within 5s"),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_name_server_says_is_what_the_attempt_says() {
    let names = NameServer::start().await;
    names.set("empty.test", Some(Vec::new()));
    names.set(
        "private.test",
        Some(vec![Ipv4Addr::LOCALHOST, [10, 0, 0, 1].into()]),
    );
    let daemon = names.setup().start().await;
    let api = daemon.client();
    let made = api.endpoint("http://no-such.test/", &["*"]).await;
    let path = format!("/v1/endpoints/{}", made["id"].as_str().unwrap());
    for (host, outcome, says) in [
        ("no-such.test", "dns", "the name does not exist"),
        ("empty.test", "dns", "the name has no address"),
        ("private.test", "target_refused", "10.0.0.1"),
        ("localhost.", "target_refused", ""),
    ] {
        let url = format!("http://{host}:8443/");
        let changed = api.patch(&path, json!({"url": url})).await;
        if host == "localhost." {
            assert_eq!(changed.status, 422, "a name of this machine");
            continue;
        }
        changed.expect(200);
        let attempt = first_attempt(&daemon).await;
        assert_eq!(attempt["outcome"], outcome, "{host}: {attempt}");
        let error = attempt["error"].as_str().unwrap();
        assert!(error.contains(says), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_partner_that_moves_to_another_address_is_followed() {
    let names = NameServer::start().await;
    let old = Receiver::start().await;
    let old_address: SocketAddr = old
        .url("")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    let moved: SocketAddr = ([127, 0, 0, 2], old_address.port()).into();
    let new = tokio::net::TcpListener::bind(moved).await.unwrap();
    names.set("moves.test", Some(vec![Ipv4Addr::LOCALHOST]));
    let setup = names.setup().set("delivery.pool_max_age", r#""1s""#);
    let daemon = setup.set("delivery.pool_idle", r#""10m""#).start().await;
    let url = format!("http://moves.test:{}/", old_address.port());
    endpoint(&daemon, "org_1", &url).await;
    let api = daemon.client();
    api.event("a", json!(0)).await;
    old.wait_for(1).await;
    names.set("moves.test", Some(vec![[127, 0, 0, 2].into()]));
    // Each event in between uses the kept connection; eventually one opens a new one.
    let accepted = tokio::spawn(async move { new.accept().await.unwrap() });
    until("a connection to the new address", async || {
        api.event("a", json!(1)).await;
        accepted.is_finished().then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_route_the_attempt_waits_and_is_not_counted() {
    let probe = std::process::Command::new("unshare")
        .args(["-rn", "true"])
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("passed over: no network namespace can be made here");
        return;
    }
    let setup = Setup::new()
        .set("listen", r#""off""#)
        .set("target.allow", r#"["127.0.0.0/8", "192.0.2.0/24"]"#);
    // In its own namespace no interface is up.
    let program = setup.folder().join("alone");
    let binary = crate::support::binary();
    let text = format!("#!/bin/sh\nexec unshare -rn {} \"$@\"\n", binary.display());
    std::fs::write(&program, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&program, executable).unwrap();
    let daemon = setup.serve_by(program).start().await;
    let api = daemon.client();
    api.endpoint("http://192.0.2.1:8443/", &["*"]).await;
    let event = api.event("a", json!(1)).await;
    until("the log names the missing route", async || {
        let says = "this machine has no route to it";
        daemon.log().contains(says).then_some(())
    })
    .await;
    let delivery = api.delivery_of(&event).await;
    assert_eq!(delivery["status"], "PENDING", "{delivery}");
    assert_eq!(delivery["attempts"], json!([]), "{delivery}");
}
