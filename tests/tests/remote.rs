//! Client commands against a daemon on another machine: over TLS, with a token from a file. And the token's replacement.

use crate::support::{Client, Daemon, Receiver, Setup, Tls, until, within};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const EVENT: &str = r#"{"organizationId":"org_1","type":"a.b","data":1}"#;

/// A daemon with TLS, and what a client on another machine has.
struct Remote {
    daemon: Daemon,
    tls: Tls,
    token: PathBuf,
    root: PathBuf,
}

impl Remote {
    async fn start() -> Self {
        Self::with(Tls::for_names(&["127.0.0.1"])).await
    }

    async fn with(tls: Tls) -> Self {
        let daemon = Setup::new().secured_by(&tls).start().await;
        let token = daemon.setup.folder().join("client.token");
        std::fs::write(&token, daemon.token()).unwrap();
        let root = daemon.setup.folder().join("root.pem");
        std::fs::write(&root, &tls.root).unwrap();
        Self {
            daemon,
            tls,
            token,
            root,
        }
    }

    fn url(&self) -> String {
        format!("https://{}", self.daemon.address())
    }

    /// A command that names this daemon. It finds no other: nothing of this machine's daemon is in its environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.elsewhere(arguments);
        command
            .args(["--server", &self.url(), "--token-file"])
            .arg(&self.token)
            .arg("--ca-file")
            .arg(&self.root);
        command
    }

    /// A command that names no daemon.
    fn elsewhere(&self, arguments: &[&str]) -> Command {
        let mut command = self.daemon.setup.command();
        command
            .args(arguments)
            .env("HOME", self.daemon.setup.folder())
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output = run(self.command(arguments)).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn run(mut command: Command) -> Output {
    within("the command ends", command.output()).await.unwrap()
}

#[track_caller]
fn fails(output: &Output, status: i32, said: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(text.contains(said), "{said:?} is not in: {text}");
}

#[tokio::test]
async fn client_commands_work_from_another_machine() {
    let remote = Remote::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/hooks");
    let add = ["endpoint", "add", "--organization", "org_1", "--url", &url];
    remote
        .run(&[&add[..], &["--event-type", "*"]].concat())
        .await;
    assert!(remote.run(&["endpoint", "list"]).await.contains(&url));
    remote.run(&["event", "send", EVENT]).await;
    receiver.wait_for(1).await;
    assert!(remote.run(&["delivery", "list"]).await.contains("a.b"));
    let stats = remote.run(&["stats", "--json"]).await;
    assert!(stats.contains("delivery.success.count"), "{stats}");
    assert!(remote.run(&["cluster"]).await.contains("DAEMON"));
    assert!(remote.run(&["check"]).await.contains("event"));
    let exported = remote.run(&["export"]).await;
    assert!(exported.contains(r#""object":"event""#), "{exported}");
    let backup = remote.daemon.setup.folder().join("backup.redb");
    remote.run(&["backup", backup.to_str().unwrap()]).await;
    assert!(backup.metadata().unwrap().len() > 0);
    // The commands left nothing where a daemon of this machine would be looked for.
    assert!(!remote.daemon.setup.folder().join(".local").exists());
}

#[tokio::test]
async fn a_stream_of_events_goes_to_another_machine() {
    let remote = Remote::start().await;
    let mut command = remote.command(&["event", "send", "-", "--json"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for _ in 0..500 {
        let line = format!("{EVENT}\n");
        stdin.write_all(line.as_bytes()).await.unwrap();
    }
    drop(stdin);
    let output = within("all are sent", child.wait_with_output())
        .await
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches(r#""status":"accepted""#).count(), 500);
    assert_eq!(remote.daemon.client().all("/v1/events").await.len(), 500);
}

#[tokio::test]
async fn attempts_are_followed_from_another_machine() {
    let remote = Remote::start().await;
    let receiver = Receiver::start().await;
    let api = remote.daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut tail = remote
        .command(&["tail", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // It may not follow yet when the first events are sent.
    let mut sent = 0;
    let line = until("an attempt is shown", async || {
        api.event("a.b", sent.into()).await;
        sent += 1;
        let next = tokio::time::timeout(std::time::Duration::from_millis(200), lines.next_line());
        next.await.ok()?.unwrap()
    })
    .await;
    assert!(line.contains(r#""outcome":"success""#), "{line}");
    tail.start_kill().unwrap();
}

#[tokio::test]
async fn the_environment_names_a_daemon_and_a_flag_overrides_it() {
    let remote = Remote::start().await;
    let named = |arguments: &[&str]| {
        let mut command = remote.elsewhere(arguments);
        command
            .env("STORMHOOK_SERVER", remote.url())
            .env("STORMHOOK_TOKEN_FILE", &remote.token)
            .env("STORMHOOK_CA_FILE", &remote.root);
        command
    };
    assert!(run(named(&["event", "list"])).await.status.success());
    let socket = remote.daemon.setup.socket();
    let socket = socket.to_str().unwrap();
    let other = Setup::new().start().await;
    other.client().post("/v1/events", EVENT).await.expect(202);
    let other_socket = other.setup.socket();
    let by_flag = [
        "event",
        "list",
        "--json",
        "--socket",
        other_socket.to_str().unwrap(),
    ];
    let output = run(named(&by_flag)).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("evt_"));
    let mut both = named(&["event", "list"]);
    both.env("STORMHOOK_SOCKET", socket);
    fails(&run(both).await, 2, "unset one of them");
    let flags = ["event", "list", "--socket", socket, "--server", "https://h"];
    fails(
        &run(remote.elsewhere(&flags)).await,
        2,
        "cannot be used with",
    );
    let data = [
        "check",
        "--data-dir",
        socket,
        "--server",
        "https://h",
        "--token-file",
        "t",
    ];
    fails(&run(remote.elsewhere(&data)).await, 2, "omit one");
    // The daemon's own configuration doesn't take them for misspelled keys.
    let daemon = Setup::new()
        .env("STORMHOOK_SERVER", "https://hooks.example")
        .env("STORMHOOK_TOKEN_FILE", "/t")
        .env("STORMHOOK_CA_FILE", "/c");
    drop(daemon.start().await);
}

#[tokio::test]
async fn what_is_wrong_is_said_in_plain_words() {
    let remote = Remote::start().await;
    let list = |arguments: &[&str]| remote.elsewhere(&[&["event", "list"], arguments].concat());
    let (url, token) = (remote.url(), remote.token.to_str().unwrap());
    let root = remote.root.to_str().unwrap();
    for (arguments, status, said) in [
        (&["--server", &url][..], 2, "--token-file FILE"),
        (
            &["--server", &url, "--token-file", "/none"],
            2,
            "read the token file /none",
        ),
        (
            &["--server", "http://192.0.2.1:8650", "--token-file", token],
            2,
            "use https://",
        ),
        (
            &[
                "--server",
                &url,
                "--token-file",
                token,
                "--ca-file",
                "/none",
            ],
            2,
            "--ca-file: /none",
        ),
        (
            &["--server", &url, "--token", "x"],
            2,
            "unexpected argument",
        ),
        (
            &["--server", &url, "--token-file", token],
            3,
            "--ca-file FILE",
        ),
        (
            &["--server", "https://127.0.0.1:1", "--token-file", token],
            3,
            "no daemon is reachable at https://127.0.0.1:1",
        ),
        (
            &["--server", &url, "--token-file", root, "--ca-file", root],
            2,
            "holds no token",
        ),
    ] {
        fails(&run(list(arguments)).await, status, said);
    }
    let wrong = remote.daemon.setup.folder().join("wrong.token");
    std::fs::write(&wrong, "0123456789abcdef0123456789abcdef").unwrap();
    let wrong = wrong.to_str().unwrap();
    let arguments = ["--server", &url, "--token-file", wrong, "--ca-file", root];
    let output = run(list(&arguments)).await;
    fails(&output, 1, "Invalid token");
    fails(&output, 1, "--token-file");
    // It speaks TLS; a URL without it is answered.
    let plain = url.replace("https", "http");
    fails(
        &run(list(&["--server", &plain, "--token-file", token])).await,
        1,
        "Use https://",
    );
    let without_tls = Setup::new().start().await;
    let url = format!("https://{}", without_tls.address());
    let output = run(list(&["--server", &url, "--token-file", token])).await;
    fails(&output, 3, "does not speak TLS");
    // Without TLS on loopback, as through a tunnel.
    let own = without_tls.setup.data_dir().join("admin-token");
    let url = format!("http://{}", without_tls.address());
    let output = run(list(&[
        "--server",
        &url,
        "--token-file",
        own.to_str().unwrap(),
    ]))
    .await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_and_one_that_signs_itself_is_named() {
    let remote = Remote::with(Tls::for_names(&["other.example"])).await;
    let output = run(remote.command(&["stats"])).await;
    fails(
        &output,
        3,
        "its certificate is for other.example, not for 127.0.0.1",
    );
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let made = made.self_signed(&key).unwrap();
    let mut tls = Tls::for_names(&["127.0.0.1"]);
    tls.certificate_pem = made.pem();
    tls.key_pem = key.serialize_pem();
    let remote = Remote::with(tls).await;
    fails(&run(remote.command(&["stats"])).await, 3, "--ca-file FILE");
    std::fs::write(&remote.root, &remote.tls.certificate_pem).unwrap();
    remote.run(&["stats"]).await;
}

#[tokio::test]
async fn the_token_is_replaced_without_a_restart() {
    let remote = Remote::start().await;
    let old = remote.daemon.token();
    let file = remote.daemon.setup.data_dir().join("admin-token");
    let printed = remote.run(&["token", "rotate"]).await;
    assert_eq!(printed.trim(), file.to_str().unwrap());
    let new = remote.daemon.token();
    assert_ne!(old, new);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let address = remote.daemon.address();
    let client = |token: &str| Client::tls(address, Some(token.to_owned()), &remote.tls);
    client(&old)
        .get("/v1/stats")
        .await
        .problem(401, "token_invalid");
    client(&new).get("/v1/stats").await.expect(200);
    // Who has only the old one can't replace it; over the socket nobody needs it.
    fails(
        &run(remote.command(&["token", "rotate"])).await,
        1,
        "Invalid token",
    );
    assert_eq!(remote.daemon.token(), new);
    let socket = remote.daemon.setup.socket();
    let socket = socket.to_str().unwrap();
    let output = run(remote.elsewhere(&["token", "rotate", "--socket", socket, "--json"])).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["path"], file.to_str().unwrap());
    let newest = remote.daemon.token();
    client(&new)
        .get("/v1/stats")
        .await
        .problem(401, "token_invalid");
    client(&newest).get("/v1/stats").await.expect(200);
    let Remote {
        mut daemon, tls, ..
    } = remote;
    assert!(daemon.stop().await.success());
    daemon.start_again().await;
    assert_eq!(daemon.token(), newest);
    daemon.tls(&tls).get("/v1/stats").await.expect(200);
}

#[tokio::test]
async fn without_a_listener_there_is_no_token_to_replace() {
    let daemon = Setup::new().set("listen", r#""off""#).start().await;
    let answer = daemon
        .client()
        .call("POST", "/v1/token/rotate")
        .send()
        .await;
    answer.problem(501, "not_supported");
}
