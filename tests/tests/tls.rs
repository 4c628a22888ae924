//! The TCP listener with TLS: protocols, certificates and their replacement, callers behind a proxy, and how little a
//! connection without a handshake can do.

use crate::support::{
    CERTIFICATE_FILE, Chunks, Client, Daemon, KEY_FILE, Setup, Tls, until, within,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

const NAMES: &[&str] = &["127.0.0.1", "localhost"];

async fn handshake(
    address: SocketAddr,
    tls: &Tls,
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    tls.connector(versions, protocols)
        .connect(name, stream)
        .await
}

/// Asks for a path over HTTP/2 and returns the status and the body.
async fn over_http2(daemon: &Daemon, tls: &Tls, path: &str) -> (u16, String) {
    let address = daemon.address();
    let stream = handshake(address, tls, rustls::DEFAULT_VERSIONS, &["h2"])
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .uri(format!("https://{address}{path}"))
        .header("authorization", format!("Bearer {}", daemon.token()))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = within("an answer", sender.send_request(request))
        .await
        .unwrap();
    let status = response.status().as_u16();
    assert!(response.headers().contains_key("x-request-id"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_listener_speaks_http1_and_http2_over_tls() {
    let tls = Tls::for_names(NAMES);
    let daemon = Setup::new().secured_by(&tls).start().await;
    assert!(daemon.ready_line().contains("address=https://127.0.0.1:"));
    daemon.tls(&tls).get("/v1/stats").await.expect(200);
    let event = r#"{"organizationId":"org_1","type":"a.b","data":1}"#;
    daemon.tls(&tls).post("/v1/events", event).await.expect(202);
    let bare = Client::tls(daemon.address(), None, &tls);
    bare.get("/healthz").await.expect_ok();
    bare.get("/v1/stats").await.problem(401, "token_missing");
    let (status, body) = over_http2(&daemon, &tls, "/v1/events?limit=1").await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("org_1"), "{body}");
    let (status, body) = over_http2(&daemon, &tls, "/v1/nothing").await;
    assert_eq!(status, 404, "{body}");
    assert!(body.contains("not_found"), "{body}");
}

#[tokio::test]
async fn a_stream_of_events_is_answered_line_by_line_over_http2() {
    let tls = Tls::for_names(NAMES);
    let daemon = Setup::new().secured_by(&tls).start().await;
    let address = daemon.address();
    let stream = handshake(address, &tls, rustls::DEFAULT_VERSIONS, &["h2"]).await;
    let io = TokioIo::new(stream.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let (lines, body) = mpsc::channel(1);
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("https://{address}/v1/events/batch"))
        .header("authorization", format!("Bearer {}", daemon.token()))
        .header("content-type", "application/x-ndjson")
        .body(Chunks(body))
        .unwrap();
    let answer = within("the head of the answer", sender.send_request(request)).await;
    let mut answers = answer.unwrap().into_body();
    for line in 1..=3 {
        let event = "{\"organizationId\":\"org_1\",\"type\":\"a.b\",\"data\":1}\n";
        lines.send(Bytes::from(event)).await.unwrap();
        let frame = within("a line of the answer", answers.frame()).await;
        let told = frame.unwrap().unwrap().into_data().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(
            (&told["line"], &told["status"]),
            (&line.into(), &"accepted".into())
        );
    }
    drop(lines);
    let rest = within("the end", answers.collect()).await.unwrap();
    assert!(rest.to_bytes().is_empty());
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_a_protocol_that_is_neither_http_is_not() {
    let tls = Tls::for_names(NAMES);
    let daemon = Setup::new().secured_by(&tls).start().await;
    let address = daemon.address();
    for version in [&TLS12, &TLS13] {
        for protocols in [&["http/1.1"][..], &["h2"], &[]] {
            let stream = handshake(address, &tls, &[version], protocols).await;
            let stream = stream.unwrap();
            let (_, connection) = stream.get_ref();
            assert_eq!(connection.protocol_version(), Some(version.version));
            let chosen = protocols.first().map(|name| name.as_bytes());
            assert_eq!(connection.alpn_protocol(), chosen);
        }
    }
    let refused = handshake(address, &tls, &[&TLS13], &["spdy/3"]).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn other_tls_clients_get_an_answer() {
    let tls = Tls::for_names(NAMES);
    let setup = Setup::new().secured_by(&tls);
    let root = setup.folder().join("root.pem");
    std::fs::write(&root, &tls.root).unwrap();
    let daemon = setup.start().await;
    let address = daemon.address();
    let url = format!("https://{address}/v1/stats");
    let token = format!("authorization: Bearer {}", daemon.token());
    for version in [&["--http1.1"][..], &["--http2"], &["--tls-max", "1.2"]] {
        let mut curl = daemon.setup.program("curl");
        curl.args(["--silent", "--fail", "--noproxy", "*", "--cacert"])
            .arg(&root)
            .args(["--header", &token])
            .args(version)
            .arg(&url);
        let output = within("curl ends", curl.output()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("delivery.success.count"),
            "{version:?}: {output:?}"
        );
    }
    let mut openssl = daemon.setup.program("openssl");
    openssl
        .args(["s_client", "-verify_return_error", "-CAfile"])
        .arg(&root)
        .args(["-verify_ip", "127.0.0.1", "-tls1_1", "-connect"])
        .arg(address.to_string())
        .stdin(Stdio::null());
    let output = within("openssl ends", openssl.output()).await.unwrap();
    assert!(!output.status.success(), "TLS 1.1: {output:?}");
}

#[tokio::test]
async fn a_caller_without_tls_is_told_to_use_it() {
    let tls = Tls::for_names(NAMES);
    let daemon = Setup::new().secured_by(&tls).start().await;
    let answer = Client::tcp(daemon.address(), None).get("/healthz").await;
    let problem = answer.problem(400, "invalid_request");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("https://"), "{detail}");
    // Anything else is simply closed.
    let answer = Client::tcp(daemon.address(), None).raw(b"\0\0\0\0").await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    daemon.tls(&tls).get("/healthz").await.expect_ok();
}

/// Asks over a connection that stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) {
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        within("an answer", stream.read_exact(&mut byte))
            .await
            .unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let text = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    let (_, length) = text.split_once("content-length: ").unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    within("the body", stream.read_exact(&mut body))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_certificate_is_replaced_while_connections_continue_and_a_broken_one_is_not_taken() {
    let old = Tls::for_names(NAMES);
    let new = Tls::for_names(NAMES);
    let daemon = Setup::new().secured_by(&old).start().await;
    let address = daemon.address();
    let versions = rustls::DEFAULT_VERSIONS;
    let mut before = handshake(address, &old, versions, &["http/1.1"])
        .await
        .unwrap();
    ask(&mut before).await;
    assert!(handshake(address, &new, versions, &[]).await.is_err());

    new.write_to(daemon.setup.folder());
    daemon.signal(rustix::process::Signal::HUP);
    until("the new certificate is shown", async || {
        handshake(address, &new, versions, &[]).await.ok().map(drop)
    })
    .await;
    assert!(handshake(address, &old, versions, &[]).await.is_err());
    ask(&mut before).await;

    for (file, text) in [
        (KEY_FILE, old.key_pem.as_str()),
        (KEY_FILE, "no key"),
        (CERTIFICATE_FILE, "-----BEGIN CERTIFICATE-----\nAAAA"),
    ] {
        let lines = |daemon: &Daemon| daemon.log().matches("keeps its certificate").count();
        let said = lines(&daemon);
        new.write_to(daemon.setup.folder());
        std::fs::write(daemon.setup.folder().join(file), text).unwrap();
        daemon.signal(rustix::process::Signal::HUP);
        until("it is said", async || (lines(&daemon) > said).then_some(())).await;
        handshake(address, &new, versions, &[]).await.unwrap();
    }
    assert!(daemon.log().contains("repair the files, then reload again"));
    ask(&mut before).await;
}

/// Returns how the daemon refuses to start with these files.
async fn refusal(certificate: &str, key: &str) -> String {
    let setup = Setup::new().secured_by(&Tls::for_names(NAMES));
    std::fs::write(setup.folder().join(CERTIFICATE_FILE), certificate).unwrap();
    std::fs::write(setup.folder().join(KEY_FILE), key).unwrap();
    let refused = setup.try_start().await.err().expect("it must not start");
    assert!(!refused.status.success());
    refused.log
}

#[tokio::test]
async fn a_certificate_that_no_client_would_accept_is_an_error_at_the_start() {
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let fine = Tls::for_names(NAMES);
    let other = Tls::for_names(NAMES);
    let expired = Tls::with(NAMES, |it| it.not_after = year(2020));
    let early = Tls::with(NAMES, |it| it.not_before = year(2200));
    let of_client = Tls::with(NAMES, |it| {
        it.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    for (certificate, key, said) in [
        (
            &fine.certificate_pem,
            &other.key_pem,
            "does not belong to the certificate",
        ),
        (
            &expired.certificate_pem,
            &expired.key_pem,
            "expired at 2020-01-01T00:00:00",
        ),
        (
            &early.certificate_pem,
            &early.key_pem,
            "not valid before 2200-01-01",
        ),
        (
            &of_client.certificate_pem,
            &of_client.key_pem,
            "is not for servers",
        ),
        (&fine.key_pem, &fine.key_pem, "contains no certificate"),
        (
            &fine.certificate_pem,
            &fine.certificate_pem,
            "contains no unencrypted private key",
        ),
        (&String::new(), &fine.key_pem, "tls.certificate"),
    ] {
        let log = refusal(certificate, key).await;
        assert!(log.contains(said), "{said}: {log}");
    }
    for file in [CERTIFICATE_FILE, KEY_FILE] {
        let setup = Setup::new().secured_by(&fine);
        std::fs::remove_file(setup.folder().join(file)).unwrap();
        let refused = setup.try_start().await.err().expect("a file is missing");
        assert!(refused.log.contains(file), "{}", refused.log);
        assert!(refused.log.contains("can't be read"), "{}", refused.log);
    }
}

#[tokio::test]
async fn a_key_that_every_user_can_read_is_warned_about() {
    let tls = Tls::for_names(NAMES);
    for (mode, warned) in [(0o644, true), (0o640, false)] {
        let setup = Setup::new().secured_by(&tls);
        let key = setup.folder().join(KEY_FILE);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let daemon = setup.start().await;
        let log = daemon.log();
        assert_eq!(
            log.contains("tls.key is readable by every user"),
            warned,
            "{log}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_warned_about() {
    let in_days = |days| time::OffsetDateTime::now_utc() + time::Duration::days(days);
    for (days, warned) in [(10, true), (20, false)] {
        let tls = Tls::with(NAMES, |it| it.not_after = in_days(days));
        let daemon = Setup::new().secured_by(&tls).start().await;
        let log = daemon.log();
        let said = "the certificate of the listener expires at";
        assert_eq!(log.contains(said), warned, "{log}");
    }
}

fn port(daemon: &Daemon) -> u16 {
    let (_, after) = daemon.ready_line().split_once("0.0.0.0:").unwrap();
    let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap()
}

#[tokio::test]
async fn a_listener_for_other_machines_has_tls_or_a_proxy() {
    let tls = Tls::for_names(NAMES);
    let open = || Setup::new().set("listen", r#""0.0.0.0:0""#);
    let daemon = open().secured_by(&tls).start().await;
    let address = SocketAddr::from(([127, 0, 0, 1], port(&daemon)));
    let client = Client::tls(address, Some(daemon.token()), &tls);
    client.get("/v1/stats").await.expect(200);
    let daemon = open().set("behind_proxy", "true").start().await;
    let address = SocketAddr::from(([127, 0, 0, 1], port(&daemon)));
    let client = Client::tcp(address, Some(daemon.token()));
    client.get("/v1/stats").await.expect(200);
    // No delivery goes to it.
    let own = serde_json::json!({"organizationId": "o", "eventTypes": ["*"],
        "url": format!("http://{address}/v1/events")});
    let refused = client.post("/v1/endpoints", own).await;
    refused.problem(422, "target_refused");
}

#[tokio::test]
async fn behind_a_proxy_invalid_tokens_count_for_the_address_that_it_states() {
    for (behind_proxy, expected) in [("true", "token_invalid"), ("false", "too_many_attempts")] {
        let daemon = Setup::new().set("behind_proxy", behind_proxy).start().await;
        let wrong = Client::tcp(daemon.address(), Some("wrong".to_owned()));
        let from = async |address: &str| {
            let call = wrong.call("GET", "/v1/stats");
            let answer = call.header("x-forwarded-for", address).send().await;
            answer.json()["code"].as_str().unwrap().to_owned()
        };
        let codes = within(
            "the other address is judged after many failures of one",
            async {
                loop {
                    let mut of_one = from("1.1.1.1, 192.0.2.7").await;
                    while of_one != "too_many_attempts" {
                        of_one = from("1.1.1.1, 192.0.2.7").await;
                    }
                    // Within the same second, unless it has just ended.
                    let other = from("192.0.2.7, 192.0.2.8").await;
                    let again = from("192.0.2.7").await;
                    if again == "too_many_attempts" {
                        return other;
                    }
                }
            },
        );
        assert_eq!(codes.await, expected, "behind_proxy = {behind_proxy}");
        let log = daemon.log();
        assert_eq!(
            log.contains("from=192.0.2.7"),
            behind_proxy == "true",
            "{log}"
        );
        daemon.tcp().get("/v1/stats").await.expect(200);
    }
}

#[tokio::test]
async fn connections_without_a_handshake_are_counted_and_ended() {
    let tls = Tls::for_names(NAMES);
    let setup = Setup::new()
        .secured_by(&tls)
        .set("limits.connections", "16")
        .set("limits.idle", r#""2s""#);
    let daemon = setup.start().await;
    // An eighth is kept for the socket.
    let mut silent = Vec::new();
    for n in 0..14 {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        if n % 2 == 0 {
            // The beginning of a ClientHello.
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        silent.push(stream);
    }
    let client = daemon.tls(&tls);
    let refused = client.get("/v1/stats").await;
    refused.problem(503, "busy");
    daemon.client().get("/v1/stats").await.expect(200);
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let _reset = within("a silent connection ends", ended).await;
    }
    until("there is room again", async || {
        let answer = client.call("GET", "/v1/stats").try_send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Returns the resident memory of a process in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let digits = line.unwrap().split_whitespace().nth(1).unwrap();
    digits.parse().unwrap()
}

#[tokio::test]
async fn a_connection_costs_little_memory_before_it_asks() {
    const CONNECTIONS: u64 = 400;
    let tls = Tls::for_names(NAMES);
    let started = async || {
        let daemon = Setup::new().secured_by(&tls).start().await;
        // What is made once is there before it is measured.
        for _ in 0..20 {
            daemon.tls(&tls).get("/healthz").await.expect_ok();
        }
        let before = resident_kib(daemon.pid());
        (daemon, before)
    };
    let (daemon, before) = started().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        // The beginning of a ClientHello of 512 bytes.
        stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        held.push(stream);
    }
    daemon.client().get("/healthz").await.expect_ok();
    let half_open = (resident_kib(daemon.pid()).saturating_sub(before)) / CONNECTIONS;
    drop(held);
    let (daemon, before) = started().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = handshake(daemon.address(), &tls, &[&TLS13], &["h2"]).await;
        held.push(stream.unwrap());
    }
    let open = (resident_kib(daemon.pid()).saturating_sub(before)) / CONNECTIONS;
    drop(held);
    eprintln!("KiB for each connection: half-open {half_open}, with TLS {open}");
    // docs/operations.md states these.
    assert!(
        half_open <= 32,
        "{half_open} KiB for each half-open connection"
    );
    assert!(open <= 96, "{open} KiB for each connection with TLS");
}
