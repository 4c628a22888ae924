//! The daemon's environment: its socket's file, variables, the limit of open files, and a stderr that nobody reads.

use crate::support::{Client, Daemon, Receiver, Setup, binary, until, within};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;

/// Returns a ready daemon whose stderr goes where requested. Its stdout is closed after the first line.
async fn serving(setup: &Setup, stderr: Stdio) -> Child {
    setup.write_config();
    let mut child = setup
        .command()
        .args(["serve", "--config"])
        .arg(setup.config_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    within("it is ready", stdout.read_line(&mut ready))
        .await
        .unwrap();
    child
}

async fn stop(child: &mut Child) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = within("the daemon ends", child.wait()).await.unwrap();
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn only_ones_own_socket_is_removed() {
    let mut first = Daemon::start().await;
    std::fs::remove_file(first.setup.socket()).unwrap();
    let socket = format!("{:?}", first.setup.socket());
    let mut second = Setup::new().set("listen", r#""off""#);
    second = second.set("socket", &socket);
    let mut child = serving(&second, Stdio::null()).await;
    assert!(first.stop().await.success());
    let client = Client::unix(first.setup.socket());
    client.get("/healthz").await.expect_ok();
    // It does remove its own.
    stop(&mut child).await;
    assert!(!first.setup.socket().exists());
}

#[tokio::test]
async fn the_variables_of_a_kubernetes_service_are_passed_over() {
    let daemon = Setup::new()
        .env("STORMHOOK_PORT", "tcp://10.0.0.7:8650")
        .env("STORMHOOK_SERVICE_HOST", "10.0.0.7")
        .env("STORMHOOK_SERVICE_PORT", "8650")
        .env("STORMHOOK_SERVICE_PORT_HTTP", "8650")
        .env("STORMHOOK_PORT_8650_TCP", "tcp://10.0.0.7:8650")
        .env("STORMHOOK_PORT_8650_TCP_PROTO", "tcp")
        .env("STORMHOOK_PORT_8650_TCP_PORT", "8650")
        .env("STORMHOOK_PORT_8650_TCP_ADDR", "10.0.0.7")
        .env("STORMHOOK_LIMITS__EVENT_BYTES", "1KiB")
        .start()
        .await;
    let lines = until("the log says so", async || {
        let log = daemon.log();
        let lines = log.lines().filter(|line| line.contains("STORMHOOK_PORT"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("STORMHOOK_PORT_8650_TCP_ADDR"),
        "{lines:?}"
    );
    let long = format!(
        r#"{{"organizationId":"o","type":"a","data":"{}"}}"#,
        "x".repeat(1_024)
    );
    daemon
        .client()
        .post("/v1/events", long)
        .await
        .problem(413, "event_too_large");
}

#[tokio::test]
async fn a_stderr_that_nobody_reads_holds_nothing_up() {
    let setup = Setup::new().set("log.level", r#""debug""#);
    let mut child = serving(&setup, Stdio::piped()).await;
    // Each attempt logs a line: there are more than the pipe and the log's queue hold.
    let receiver = Receiver::start().await;
    let api = Client::unix(setup.socket());
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let event = json!({"organizationId": "org_1", "type": "a.b", "data": 1});
    let answers = api.batch(&format!("{event}\n").repeat(6_000)).await;
    assert_eq!(answers.len(), 6_000);
    receiver.wait_for(6_000).await;
    api.get("/healthz").await.expect_ok();
    stop(&mut child).await;
    let mut log = Vec::new();
    let mut stderr = child.stderr.take().unwrap();
    within("the log ends", stderr.read_to_end(&mut log))
        .await
        .unwrap();
    assert!(log.len() > 60_000, "the pipe was full: {}", log.len());
}

/// Returns a program that runs the binary with these limits of open files.
fn limited(setup: &Setup, limits: &str) -> std::path::PathBuf {
    let path = setup.folder().join("limited");
    let script = format!("#!/bin/sh\n{limits}\nexec {:?} \"$@\"\n", binary());
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn started_with(setup: Setup, limits: &str) -> Daemon {
    // Started once for its directory, then by the other program.
    let program = limited(&setup, limits);
    let mut daemon = setup.start().await;
    assert!(daemon.stop().await.success());
    daemon.serve_by(Some(program));
    daemon.start_again().await;
    daemon
}

/// Opens connections that send nothing. This process needs the descriptors too.
async fn idle_callers(daemon: &Daemon, count: usize) -> Vec<impl Sized> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(daemon.tcp().open().await);
    }
    idle
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(20_000);
    let hard = hard.min(20_000);
    let limits = format!("ulimit -Sn 1024; ulimit -Hn {hard}");
    let daemon = started_with(Setup::new(), &limits).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.unwrap().split_whitespace().nth(3);
    assert_eq!(soft, Some(hard.to_string().as_str()), "{limits}");
    // More callers than the soft limit was.
    let _idle = idle_callers(&daemon, 1_100).await;
    daemon.tcp().get("/healthz").await.expect_ok();
    let receiver = Receiver::start().await;
    daemon.client().endpoint(&receiver.url("/"), &["*"]).await;
    let event = daemon.client().event("a.b", json!(1)).await;
    let delivery = daemon.client().delivery_when(&event, "SUCCESS").await;
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{delivery}");
}

#[tokio::test]
async fn callers_that_do_nothing_take_no_descriptor_from_the_rest() {
    let setup = Setup::new().set("delivery.max_in_flight", "64");
    let daemon = started_with(setup, "ulimit -n 700").await;
    let receiver = Receiver::start().await;
    daemon.client().endpoint(&receiver.url("/"), &["*"]).await;
    until("the log says that it is not enough", async || {
        daemon
            .log()
            .contains("limit of open files is too low")
            .then_some(())
    })
    .await;
    let idle = idle_callers(&daemon, 800).await;
    // Full doesn't mean unhealthy, on both listeners.
    daemon.tcp().get("/healthz").await.expect_ok();
    daemon.client().get("/healthz").await.expect_ok();
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    assert!(open.count() < 700 - 64, "what attempts need is free");
    // In addition to the callers over TCP, producers are served and events delivered.
    let event = daemon.client().event("a.b", json!(1)).await;
    let delivery = daemon.client().delivery_when(&event, "SUCCESS").await;
    assert_eq!(
        delivery["attempts"].as_array().unwrap().len(),
        1,
        "{delivery}"
    );
    drop(idle);
    until("there is room again", async || {
        let answer = daemon.tcp().call("GET", "/v1/stats").try_send().await;
        answer.ok().filter(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn a_store_and_a_socket_that_do_not_belong_together_are_not_mixed_up() {
    let daemon = Daemon::start().await;
    let other = Daemon::start().await;
    let mut stopped = Daemon::start().await;
    assert!(stopped.stop().await.success());
    let socket = daemon.setup.socket().display().to_string();
    for folder in [other.setup.data_dir(), stopped.setup.data_dir()] {
        let folder = folder.display().to_string();
        for command in ["check", "export"] {
            let arguments = [command, "--data-dir", &folder, "--socket", &socket];
            let output = daemon.setup.run(&arguments).await;
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains(&folder) && said.contains(&socket), "{said}");
        }
    }
    let own = daemon.setup.data_dir().display().to_string();
    let arguments = ["check", "--data-dir", &own, "--socket", &socket];
    let output = daemon.setup.run(&arguments).await;
    assert!(output.status.success(), "{output:?}");
}
