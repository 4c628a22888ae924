//! `event send` of many events: everything that was read is sent and answered, or named, however a stream ends.

use crate::support::{Client, Daemon, Setup, until, within};
use serde_json::{Value, json};
use std::process::{Output, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};

fn line(n: usize) -> String {
    let event = json!({"organizationId": "org_1", "type": "order.created", "data": n});
    format!("{event}\n")
}

/// `event send` with its stdin held open.
struct Sending {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Sending {
    fn start(setup: &Setup, arguments: &[&str]) -> Self {
        let socket = setup.socket().display().to_string();
        let mut child = setup
            .command()
            .args(["event", "send", "--socket", &socket])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin }
    }

    async fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
    }

    /// Ends the input if it hasn't ended, and waits for the command to exit.
    async fn end(mut self) -> Output {
        drop(self.stdin.take());
        let output = self.child.wait_with_output();
        within("event send ends", output).await.unwrap()
    }
}

/// Returns the data of all events, oldest first, once there are this many.
async fn stored(api: &Client, count: usize) -> Vec<Value> {
    until("the events are stored", async || {
        (api.all("/v1/events").await.len() >= count).then_some(())
    })
    .await;
    let mut data = Vec::new();
    for event in api.all("/v1/events").await.iter().rev() {
        let id = event["id"].as_str().unwrap();
        let whole = api.get(&format!("/v1/events/{id}")).await.expect(200);
        data.push(whole["data"].clone());
    }
    data
}

#[tokio::test]
async fn a_pause_longer_than_a_stream_lives_loses_nothing() {
    let daemon = Setup::new().set("limits.idle", r#""300ms""#).start().await;
    let api = daemon.client();
    let mut sending = Sending::start(&daemon.setup, &["-"]);
    for n in 0..3 {
        sending.write(&line(n)).await;
        stored(&api, n + 1).await;
        // Another stream that falls silent after this one ends after it.
        let mut upload = api.upload("/v1/events/batch", "application/x-ndjson").await;
        let (_, mut answers) = upload.answer().await;
        while answers.next().await.is_some() {}
    }
    let output = sending.end().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stored(&api, 3).await, [json!(0), json!(1), json!(2)]);
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_nothing_and_doubles_nothing() {
    let mut daemon = Daemon::start().await;
    let mut sending = Sending::start(&daemon.setup, &["-"]);
    let all: Vec<Value> = (0..60).map(|n| json!(n)).collect();
    for n in 0..20 {
        sending.write(&line(n)).await;
    }
    stored(&daemon.client(), 20).await;
    daemon.kill().await;
    for n in 20..40 {
        sending.write(&line(n)).await;
    }
    daemon.start_again().await;
    stored(&daemon.client(), 40).await;
    assert!(daemon.stop().await.success());
    for n in 40..60 {
        sending.write(&line(n)).await;
    }
    // The input ends while the daemon is away.
    drop(sending.stdin.take());
    daemon.start_again().await;
    let output = sending.end().await;
    assert!(output.status.success(), "{output:?}");
    let mut found = stored(&daemon.client(), 60).await;
    found.sort_by_key(Value::as_u64);
    assert_eq!(found, all);
}

#[tokio::test]
async fn the_first_line_without_an_answer_is_named_where_the_daemon_stays_away() {
    let mut daemon = Daemon::start().await;
    let mut sending = Sending::start(&daemon.setup, &["-", "--retry-for", "0s"]);
    sending.write(&line(1)).await;
    stored(&daemon.client(), 1).await;
    daemon.kill().await;
    sending.write(&format!("\n{}{}", line(2), line(3))).await;
    let output = sending.end().await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("Line 3 (sent with"), "{said}");
    assert!(
        said.contains("1 accepted, 0 replayed, 0 rejected"),
        "{said}"
    );
}

#[tokio::test]
async fn a_pipe_is_read_once() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut sending = Sending::start(&daemon.setup, &["--file", "/dev/stdin"]);
    sending.write(&(line(1) + &line(2))).await;
    let output = sending.end().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stored(&api, 2).await, [json!(1), json!(2)]);
    // One event over several lines.
    let mut sending = Sending::start(&daemon.setup, &["--file", "/dev/stdin"]);
    sending
        .write(&line(3).replace("\"data\"", "\n\"data\""))
        .await;
    let output = sending.end().await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stored(&api, 3).await, [json!(1), json!(2), json!(3)]);
}

#[tokio::test]
async fn a_line_of_the_most_bytes_needs_no_key_of_its_own() {
    let daemon = Setup::new()
        .set("limits.event_bytes", r#""1KiB""#)
        .start()
        .await;
    let mut sending = Sending::start(&daemon.setup, &["--json", "-"]);
    let fill = |bytes: usize| {
        let shell = r#"{"organizationId":"org_1","type":"a.b","data":""}"#;
        let text = "x".repeat(bytes - shell.len());
        shell.replace(r#""""#, &format!("\"{text}\"")) + "\n"
    };
    sending
        .write(&(line(1) + &fill(1024) + &fill(1025) + &line(2)))
        .await;
    let output = sending.end().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let mut fared: Vec<(u64, String)> = answers
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|it| {
            (
                it["line"].as_u64().unwrap(),
                it["status"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    fared.sort_unstable();
    let statuses = ["accepted", "accepted", "rejected", "accepted"];
    let expected: Vec<_> = (1..).zip(statuses.map(str::to_owned)).collect();
    assert_eq!(fared, expected);
}

#[tokio::test]
async fn what_ingest_takes_is_shown() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let digits = "9".repeat(5_000);
    for data in [r#""\ud800""#, "1e400", r#"{"\udc00":[1e999]}"#, &digits] {
        let event = format!(r#"{{"organizationId":"org_1","type":"a.b","data":{data}}}"#);
        let id = api.post("/v1/events", event).await.expect(202)["id"].clone();
        let id = id.as_str().unwrap();
        let socket = daemon.setup.socket().display().to_string();
        let output = daemon
            .setup
            .run(&["event", "show", id, "--socket", &socket])
            .await;
        assert!(output.status.success(), "{data}: {output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(data), "{shown}");
    }
}
