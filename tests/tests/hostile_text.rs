//! Text of strangers, wherever it is shown: no command prints what could drive a terminal, and no line of the log can be
//! forged. Commands talk to the daemon through a proxy that puts hostile text in place of one value after another.

use crate::support::{Chunks, Daemon, Receiver, Reply, Setup, Tls, until, within};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Sets the title of a terminal, moves its cursor, reverses text, ends the line; in 7 and 8 bits.
const HOSTILE: &str = "\u{1b}]0;evil\u{7}\u{9b}2J\r\nforged\u{202e}\u{200b}\u{0}\u{7f}";

/// Which value is replaced, and how many there were.
#[derive(Default)]
struct Plan {
    replaced: usize,
    seen: usize,
}

impl Plan {
    /// Replaces the value whose turn it is, wherever it is inside `value`.
    fn apply(&mut self, value: &mut Value) {
        match value {
            Value::Array(all) => all.iter_mut().for_each(|one| self.apply(one)),
            Value::Object(all) => {
                let names: Vec<String> = all.keys().cloned().collect();
                for name in names {
                    // Names that callers choose.
                    if name.starts_with("x-") && self.is_next() {
                        let value = all.remove(&name).unwrap();
                        all.insert(format!("{name}{HOSTILE}"), value);
                    } else {
                        self.apply(&mut all[&name]);
                    }
                }
            }
            Value::String(text) if self.is_next() => text.push_str(HOSTILE),
            _ => {}
        }
    }

    fn is_next(&mut self) -> bool {
        self.seen += 1;
        self.seen == self.replaced + 1
    }
}

/// A proxy of a daemon, on its own socket.
struct Proxy {
    socket: PathBuf,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    fn start(daemon: &Daemon) -> Self {
        let socket = daemon.setup.folder().join("proxy.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let (behind, planned) = (daemon.setup.socket(), Arc::clone(&plan));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (behind, plan) = (behind.clone(), Arc::clone(&planned));
                let service = service_fn(move |request| {
                    let (behind, plan) = (behind.clone(), Arc::clone(&plan));
                    async move { Ok::<_, Infallible>(pass(behind, plan, request).await) }
                });
                tokio::spawn(async move {
                    let _gone = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { socket, plan }
    }
}

async fn pass(
    behind: PathBuf,
    plan: Arc<Mutex<Plan>>,
    request: http::Request<Incoming>,
) -> http::Response<Chunks> {
    let stream = UnixStream::connect(behind).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let (mut parts, body) = sender.send_request(request).await.unwrap().into_parts();
    parts.headers.remove("content-length");
    let (lines, replaced) = mpsc::channel(1);
    tokio::spawn(replace_each(body, plan, lines));
    http::Response::from_parts(parts, Chunks(replaced))
}

/// Passes a body on line by line, or whole if it has only one. Of a stream of attempts, the first suffices.
async fn replace_each(mut body: Incoming, plan: Arc<Mutex<Plan>>, lines: mpsc::Sender<Bytes>) {
    let mut text = Vec::new();
    let mut is_stream = false;
    loop {
        let frame = body.frame().await;
        let ended = frame.is_none();
        let data = frame.and_then(|frame| frame.ok()?.into_data().ok());
        text.extend_from_slice(&data.unwrap_or_default());
        while !text.is_empty() {
            let end = match text.iter().position(|byte| *byte == b'\n') {
                Some(at) => at + 1,
                None if ended => text.len(),
                None => break,
            };
            let line: Vec<u8> = text.drain(..end).collect();
            let line = String::from_utf8(line).unwrap();
            let is_blank = line == "\n";
            is_stream |= line.starts_with("data: ");
            let line = replaced(&line, &mut plan.lock().unwrap());
            let gone = lines.send(Bytes::from(line)).await.is_err();
            if gone || (is_stream && is_blank) {
                return;
            }
        }
        if ended {
            return;
        }
    }
}

fn replaced(line: &str, plan: &mut Plan) -> String {
    let (label, json) = line.split_at(if line.starts_with("data: ") { 6 } else { 0 });
    let Ok(mut value) = serde_json::from_str::<Value>(json) else {
        return line.to_owned();
    };
    plan.apply(&mut value);
    format!("{label}{value}\n")
}

/// Returns what could drive a terminal in a text that is shown.
fn dangerous(shown: &[u8]) -> Vec<char> {
    let text = String::from_utf8(shown.to_vec()).expect("what is shown is UTF-8");
    let is_bad = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{200b}'..='\u{200f}')
    };
    text.chars().filter(is_bad).collect()
}

/// Runs a command once for every value that it is told, each time with another one replaced. Returns how many there are.
async fn run_each(daemon: &Daemon, proxy: &Proxy, arguments: &[&str], input: &str) -> usize {
    let mut turn = 0;
    loop {
        *proxy.plan.lock().unwrap() = Plan {
            replaced: turn,
            seen: 0,
        };
        let mut command = daemon.setup.command();
        command
            .args(arguments)
            .arg("--socket")
            .arg(&proxy.socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes())
            .await
            .unwrap();
        drop(stdin);
        let output = within("the command ends", child.wait_with_output())
            .await
            .unwrap();
        for shown in [&output.stdout, &output.stderr] {
            let bad = dangerous(shown);
            let text = String::from_utf8_lossy(shown);
            assert!(
                bad.is_empty(),
                "{arguments:?}, value {turn}: {bad:?} in {text:?}"
            );
            let forged = text.lines().any(|line| line.starts_with("forged"));
            assert!(!forged, "{arguments:?}, value {turn}: {text:?}");
        }
        let seen = proxy.plan.lock().unwrap().seen;
        turn += 1;
        if turn > seen {
            return seen;
        }
    }
}

/// A daemon with something of each kind to show: the ids of an endpoint, an event and a delivery.
async fn filled() -> (Daemon, Receiver, [String; 3]) {
    let daemon = Setup::new().start().await;
    let receiver = Receiver::answering(Reply::Full(503, Vec::new(), b"busy".to_vec())).await;
    let api = daemon.client();
    let more = json!({"description": "a receiver", "headers": {"x-key": "k"}});
    let endpoint = api.endpoint_with(&receiver.url("/"), &["a.*"], more).await;
    let event = api.event("a.b", json!({"order": "1001"})).await;
    let delivery = api.delivery_when(&event, "ABANDONED").await;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let ids = [id(&endpoint), event, id(&delivery)];
    (daemon, receiver, ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_prints_what_could_drive_a_terminal() {
    let (daemon, _receiver, [endpoint, event, delivery]) = filled().await;
    let proxy = Proxy::start(&daemon);
    let sent = r#"{"organizationId":"org_1","type":"b.b","data":1}"#;
    let (bad_line, add) = (
        "{\n",
        ["endpoint", "add", "--organization", "org_2", "--url"],
    );
    let add = [&add[..], &["https://partner.example/", "--event-type", "*"]].concat();
    for (arguments, input, least) in [
        (&["endpoint", "list"][..], "", 5),
        (&["endpoint", "show", &endpoint], "", 5),
        (
            &["endpoint", "update", &endpoint, "--description", "d"],
            "",
            5,
        ),
        (&["endpoint", "test", &endpoint], "", 1),
        (&["endpoint", "rotate-secret", &endpoint], "", 1),
        (&["endpoint", "recover", &endpoint, "--since", "1h"], "", 0),
        (&add, "", 5),
        (&["event", "list"], "", 4),
        (&["event", "show", &event], "", 4),
        (&["event", "explain", &event], "", 1),
        (&["event", "send", sent], "", 3),
        (&["event", "send", "-", "--retry-for", "1ms"], sent, 1),
        (&["event", "send", "-", "--retry-for", "1ms"], bad_line, 1),
        (&["event", "send", "{}"], "", 3),
        (&["event", "replay", &event, "--endpoint", &endpoint], "", 3),
        (&["delivery", "list"], "", 4),
        (&["delivery", "show", &delivery], "", 4),
        (&["delivery", "show", "dlv_1"], "", 3),
        (&["delivery", "retry", &delivery], "", 3),
        (&["delivery", "cancel", &delivery], "", 3),
        (&["stats", "--window", "all"], "", 2),
        (&["cluster"], "", 2),
        (&["check"], "", 0),
        (&["token", "rotate"], "", 1),
        (&["endpoint", "remove", &endpoint], "", 0),
    ] {
        let seen = run_each(&daemon, &proxy, arguments, input).await;
        assert!(seen >= least, "{arguments:?} was told {seen} values");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_prints_nothing_that_could_drive_a_terminal() {
    let (daemon, _receiver, _) = filled().await;
    let proxy = Proxy::start(&daemon);
    let api = daemon.client();
    let sending = tokio::spawn(async move {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            pause.tick().await;
            let body = json!({"organizationId": "org_1", "type": "a.b", "data": 1});
            if api
                .call("POST", "/v1/events")
                .json(body)
                .try_send()
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let seen = run_each(&daemon, &proxy, &["tail"], "").await;
    assert!(seen >= 5, "{seen} values");
    sending.abort();
}

#[tokio::test]
async fn no_text_of_others_forges_a_line_of_the_log() {
    let tls = Tls::for_names(&["127.0.0.1"]);
    for format in ["text", "json"] {
        let setup = Setup::new()
            .set("log.format", &format!("{format:?}"))
            .secured_by(&tls);
        // The only text of others that is logged at every start: a path.
        let key = setup.folder().join("k\u{1b}[2J\n2026 ERROR forged\u{9b}");
        std::fs::write(&key, &tls.key_pem).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&key, permissions).unwrap();
        let shown = key.display().to_string();
        let toml = format!("{}", Value::String(shown));
        let daemon = setup.set("tls.key", &toml).start().await;
        until("the warning is logged", async || {
            daemon.log().contains("tls.key is readable").then_some(())
        })
        .await;
        let log = daemon.log();
        assert!(dangerous(log.as_bytes()).is_empty(), "{log:?}");
        assert!(
            !log.lines().any(|line| line.starts_with("2026 ERROR")),
            "{log}"
        );
        if format == "json" {
            for line in log.lines() {
                serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
            }
        }
    }
}

#[tokio::test]
async fn no_text_of_others_splits_a_request_to_a_receiver() {
    let receiver = Receiver::start().await;
    let daemon = Setup::new().start().await;
    let api = daemon.client();
    let url = receiver.url("/");
    for ending in [
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\u{85}",
        "\u{2028}",
        "\u{560d}\u{560a}",
    ] {
        let injected = format!("a{ending}x-injected: 1");
        for (field, value) in [
            ("headers", json!({ "x-key": injected })),
            ("headers", json!({ (injected.as_str()): "v" })),
            ("eventTypes", json!([injected])),
        ] {
            let mut body = json!({"organizationId": "org_1", "url": url, "eventTypes": ["*"]});
            body[field] = value;
            let answer = api.post("/v1/endpoints", body).await;
            answer.problem(400, "invalid_field");
        }
        // A URL is normalised: line ends are removed, everything else is escaped.
        let body = json!({"organizationId": "org_1", "eventTypes": ["*"],
            "url": format!("{url}{injected}")});
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "POST /v1/endpoints HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let answer = api.raw(request.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 201"), "{ending:?}");
        for field in ["type", "organizationId", "idempotencyKey"] {
            let mut event = json!({"organizationId": "org_1", "type": "a.b", "data": 1});
            event[field] = json!(injected);
            let answer = api.post("/v1/events", event).await;
            answer.problem(400, "invalid_field");
        }
    }
    api.event("a.b", json!(1)).await;
    let endpoints = api.all("/v1/endpoints").await.len();
    assert!(endpoints > 0);
    for request in receiver.wait_for(endpoints).await {
        let mut names: Vec<_> = request
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        let expected = [
            "content-digest",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "webhook-id",
            "webhook-signature",
            "webhook-timestamp",
            "x-stormcom-attempt",
            "x-stormcom-delivery",
            "x-stormcom-endpoint",
            "x-stormcom-event",
            "x-stormcom-sequence",
            "x-stormcom-signature",
        ];
        assert_eq!(names, expected, "{}", request.path);
        assert!(!request.text().contains("x-injected"), "{request:?}");
    }
}

#[tokio::test]
async fn what_a_receiver_for_development_got_cannot_drive_the_terminal() {
    let setup = Setup::new();
    let mut child = setup
        .command()
        .args(["listen", "--port", "0", "--count", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut shown = String::new();
    while !line.contains("http://") {
        line.clear();
        within("it says where it listens", told.read_line(&mut line))
            .await
            .unwrap();
        shown.push_str(&line);
    }
    let (_, after) = line.split_once("127.0.0.1:").unwrap();
    let port = after.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let address = format!("127.0.0.1:{port}");
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let body = HOSTILE;
    let request = format!(
        "POST /hooks?a=\u{9b}2J\u{1b}[2J HTTP/1.1\r\nhost: {address}\r\nx-stormcom-event: a\u{1b}[2J\u{9b}m\r\n\
         webhook-id: \u{1b}]0;evil\u{7}\r\nx-stormcom-signature: sha256=\u{1b}[H\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _answered = within("an answer", stream.read_to_end(&mut answer)).await;
    // A request that is refused for its form is none: a well-formed one with the same body follows.
    let event = format!(
        "POST /hooks HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await {
        let _ended = stream.write_all(event.as_bytes()).await;
        let _answered = within("an answer", stream.read_to_end(&mut answer)).await;
    }
    let output = within("it ends after one", child.wait_with_output())
        .await
        .unwrap();
    within("its last words", told.read_to_string(&mut shown))
        .await
        .unwrap();
    assert!(shown.contains("/hooks"), "{shown}");
    for shown in [output.stderr, shown.into_bytes()] {
        let bad = dangerous(&shown);
        assert!(
            bad.is_empty(),
            "{bad:?} in {:?}",
            String::from_utf8_lossy(&shown)
        );
    }
}

#[tokio::test]
async fn a_captured_delivery_cannot_drive_the_terminal_when_it_is_verified() {
    let setup = Setup::new();
    let evil = "\u{1b}]0;evil\u{7}\u{9b}2J\u{202e}";
    for header in [
        format!("x-stormcom-signature: sha256={evil}"),
        format!("webhook-signature: v1,{evil}"),
        format!("webhook-signature: {evil}"),
        format!("webhook-timestamp: {evil}"),
        format!("content-digest: sha-256=:{evil}:"),
        format!("{evil}: a"),
        evil.to_owned(),
    ] {
        let mut command = setup.command();
        command
            .args(["verify", "--header", &header])
            .args(["--header", "webhook-id: evt_1"])
            .env("STORMHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .stdin(Stdio::null());
        let output = within("it ends", command.output()).await.unwrap();
        assert!(!output.status.success());
        for shown in [&output.stdout, &output.stderr] {
            let bad = dangerous(shown);
            let text = String::from_utf8_lossy(shown);
            assert!(bad.is_empty(), "{header:?}: {bad:?} in {text:?}");
        }
    }
}
