//! Deliveries through a real forward proxy, tinyproxy.

use crate::support::{Client, Daemon, Receiver, Setup, Tls, until, within};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A running proxy. It ends with the test.
struct Proxy {
    address: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

impl Proxy {
    /// Starts a proxy with these additional lines of configuration.
    async fn start(more: &str) -> Self {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let mut proxy = Self {
            address,
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        proxy.start_again(more).await;
        proxy
    }

    async fn start_again(&mut self, more: &str) {
        let folder = self.folder.path();
        let (port, log) = (self.address.port(), folder.join("log"));
        let text = format!(
            "Listen 127.0.0.1\nPort {port}\nAllow 127.0.0.1\nMaxClients 20\nTimeout 60\nLogLevel Connect\nLogFile {log:?}\n{more}\n"
        );
        let path = folder.join("tinyproxy.conf");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("tinyproxy");
        command.args(["-d", "-c"]).arg(&path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).kill_on_drop(true).spawn();
        self.child = Some(child.expect("tinyproxy runs: scripts/tools installs it"));
        let address = self.address;
        let reached = async || TcpStream::connect(address).await.ok();
        until("the proxy listens", reached).await;
    }

    async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    fn url(&self) -> String {
        format!("\"http://{}\"", self.address)
    }

    /// What it was asked to connect to.
    fn asked(&self, target: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.matches(&format!("CONNECT {target} HTTP/1.1")).count()
    }
}

/// A daemon that sends through a proxy. Neither a name server nor the environment's proxies help it.
fn setup(proxy: &Proxy) -> Setup {
    Setup::new()
        .set("target.proxy", &proxy.url())
        .set("target.allow", r#"["127.0.0.0/8", "localhost"]"#)
        .set("dns.servers", r#"["127.0.0.1:9"]"#)
        .set("retry.schedule", r#"["1h"]"#)
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("ALL_PROXY", "http://127.0.0.1:9")
}

/// Returns the first attempt of a new event once it has ended.
async fn first_attempt(api: &Client, kind: &str) -> Value {
    let event = api.event(kind, json!(1)).await;
    let ended = until("the first attempt ends", async || {
        let delivery = api.delivery_of(&event).await;
        (delivery["status"] != "PENDING").then_some(delivery)
    });
    ended.await["attempts"][0].clone()
}

#[tokio::test]
async fn http_and_https_receivers_are_reached_through_the_proxy() {
    let proxy = Proxy::start("").await;
    let tls = Tls::for_names(&["localhost"]);
    let daemon = setup(&proxy).start().await;
    let api = daemon.client();
    let plain = Receiver::start().await;
    let secure = Receiver::tls(&tls, &["h2"]).await;
    let trusting = json!({"tls": {"caCertificate": tls.root}});
    let by_name = format!("https://localhost:{}/", secure.address().port());
    api.endpoint_with(&by_name, &["secure.a"], trusting).await;
    api.endpoint(&plain.url("/"), &["plain.a"]).await;
    for (kind, receiver, target) in [
        (
            "secure.a",
            &secure,
            by_name.trim_start_matches("https://").trim_end_matches('/'),
        ),
        ("plain.a", &plain, &plain.address().to_string()),
    ] {
        for _ in 0..2 {
            let attempt = first_attempt(&api, kind).await;
            assert_eq!(attempt["outcome"], "success", "{attempt}");
        }
        assert_eq!((receiver.count(), receiver.connections()), (2, 1));
        assert_eq!(proxy.asked(target), 1, "one tunnel for both");
    }
}

#[tokio::test]
async fn what_the_proxy_says_of_a_receiver_is_a_failed_attempt() {
    let proxy = Proxy::start("ConnectPort 443").await;
    let daemon = setup(&proxy).start().await;
    let api = daemon.client();
    // A name of RFC 2606, which nobody can resolve.
    api.endpoint("https://partner.invalid/", &["gone.a"]).await;
    let elsewhere = Receiver::start().await;
    api.endpoint(&elsewhere.url("/"), &["forbidden.a"]).await;
    for (kind, outcome, says) in [
        (
            "gone.a",
            "connect",
            "could not connect to https://partner.invalid:443: it answered with status 5",
        ),
        ("forbidden.a", "target_refused", "with status 403"),
    ] {
        let attempt = first_attempt(&api, kind).await;
        assert_eq!(attempt["outcome"], outcome, "{attempt}");
        let error = attempt["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
        assert!(
            error.contains(&format!("the proxy http://{}", proxy.address)),
            "{error}"
        );
    }
    assert_eq!(elsewhere.count(), 0);
}

async fn failures(api: &Client) -> u64 {
    let page = api.get("/v1/endpoints").await.expect(200);
    page["data"][0]["failureCount"].as_u64().unwrap()
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_costs_no_attempt() {
    let mut proxy = Proxy::start("").await;
    proxy.stop().await;
    let daemon = setup(&proxy).start().await;
    let api = daemon.client();
    let receiver = Receiver::start().await;
    let made = api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = api.event("a.b", json!(1)).await;
    let says = format!("the proxy http://{} can't be reached", proxy.address);
    until("the log says so", async || {
        daemon.log().contains(&says).then_some(())
    })
    .await;
    let delivery = api.delivery_of(&event).await;
    assert_eq!(delivery["status"], "PENDING", "{delivery}");
    assert_eq!(delivery["attempts"], json!([]));
    assert_eq!(failures(&api).await, 0);
    let test = format!("/v1/endpoints/{}/test", made["id"].as_str().unwrap());
    let ping = api.call("POST", &test).send().await;
    assert!(ping.text().contains(&says), "{ping:?}");
    proxy.start_again("").await;
    let delivery = api.delivery_when(&event, "SUCCESS").await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn credentials_for_the_proxy_come_from_a_file_and_are_read_again_on_reload() {
    let proxy = Proxy::start("BasicAuth hooks hunter2").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hooks:wrong\n").unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(file.path(), readable).unwrap();
    let name = format!("{:?}", file.path());
    let without = setup(&proxy).start().await;
    let daemon = setup(&proxy)
        .set("target.proxy_credentials_file", &name)
        .start()
        .await;
    let warning = "the proxy's credentials are readable by users other than their owner";
    assert!(daemon.log().contains(warning), "{}", daemon.log());
    let receiver = Receiver::start().await;
    let mut events = Vec::new();
    for (daemon, says) in [
        (
            &without,
            "demands credentials (status 407); set target.proxy_credentials_file",
        ),
        (
            &daemon,
            "refused the credentials in target.proxy_credentials_file (status 401)",
        ),
    ] {
        let api = daemon.client();
        api.endpoint(&receiver.url("/"), &["*"]).await;
        events.push(api.event("a.b", json!(1)).await);
        let log = async || daemon.log().contains(says).then_some(());
        until("the log says so", log).await;
        assert_eq!(failures(&api).await, 0);
    }
    assert_eq!(receiver.count(), 0);
    std::fs::write(file.path(), "hooks:hunter2\n").unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    daemon.client().delivery_when(&events[1], "SUCCESS").await;
    for log in [without.log(), daemon.log()] {
        assert!(!log.contains("hunter2") && !log.contains("wrong"), "{log}");
    }
}

#[tokio::test]
async fn a_proxy_is_checked_before_the_daemon_starts() {
    let bad = [
        (
            vec![("target.proxy", r#""https://proxy:3128""#)],
            "without credentials or a path",
        ),
        (
            vec![("target.proxy", r#""http://user:hunter2@proxy:3128""#)],
            "without credentials or a path",
        ),
        (
            vec![("target.proxy_credentials_file", r#""/nowhere""#)],
            "target.proxy is not",
        ),
        (
            vec![
                ("target.proxy", r#""http://127.0.0.1:9""#),
                ("target.proxy_credentials_file", r#""/nowhere""#),
            ],
            "/nowhere",
        ),
    ];
    for (values, says) in bad {
        let setup = values
            .iter()
            .fold(Setup::new(), |setup, (key, value)| setup.set(key, value));
        let refused = match within("it refuses", setup.try_start()).await {
            Ok(_) => panic!("it started with {values:?}"),
            Err(refused) => refused,
        };
        assert!(refused.log.contains(says), "{}", refused.log);
        assert!(!refused.log.contains("hunter2"), "{}", refused.log);
    }
}

#[tokio::test]
async fn the_rules_for_urls_hold_with_a_proxy_too() {
    let proxy = Proxy::start("").await;
    let daemon: Daemon = setup(&proxy).start().await;
    let api = daemon.client();
    for url in [
        "https://10.0.0.1/",
        "https://user:pass@partner.example/",
        "https://intranet/",
        "https://partner.example:25/",
    ] {
        let body = json!({"organizationId": "org_1", "url": url, "eventTypes": ["*"]});
        let refused = api.post("/v1/endpoints", body).await;
        refused.problem_in(422, "target_refused", "url");
    }
}
