//! Section 2 of the contract, on the NDJSON stream.

use crate::support::{Daemon, Receiver, Setup, until, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn line(n: usize) -> String {
    json!({"organizationId": "org_1", "type": "order.created", "data": n}).to_string()
}

fn statuses(lines: &[Value]) -> Vec<(u64, &str)> {
    lines
        .iter()
        .map(|l| (l["line"].as_u64().unwrap(), l["status"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn each_line_is_answered_in_order_and_delivered() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let text: String = (0..500).map(|n| line(n) + "\n").collect();
    let answers = api.batch(&text).await;
    assert_eq!(answers.len(), 500);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer["line"], n + 1);
        assert_eq!(answer["status"], "accepted");
        assert_eq!(answer["deliveries"], 1);
    }
    let requests = receiver.wait_for(500).await;
    for (n, answer) in answers.iter().enumerate() {
        let request = requests.iter().find(|r| r.event() == answer["id"]).unwrap();
        assert_eq!(request.data(), n.to_string());
        assert_eq!(
            request.json()["sequence"],
            n + 1,
            "in the order of the lines"
        );
    }
}

#[tokio::test]
async fn a_bad_line_spoils_no_other_and_blank_lines_are_counted() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let keyed = r#"{"organizationId":"org_1","type":"a.b","data":1,"idempotencyKey":"k"}"#;
    let text = [
        &line(1),
        "",
        "nonsense",
        "   ",
        r#"{"organizationId":"org_1","type":"a b","data":1}"#,
        keyed,
        keyed,
        &keyed.replace("1,", "2,"),
        "\u{feff}",
        &line(2),
    ]
    .join("\n");
    let answers = api.batch(&text).await;
    assert_eq!(
        statuses(&answers),
        [
            (1, "accepted"),
            (3, "rejected"),
            (5, "rejected"),
            (6, "accepted"),
            (7, "replayed"),
            (8, "rejected"),
            (9, "rejected"),
            (10, "accepted"),
        ]
    );
    assert_eq!(answers[1]["problem"]["code"], "invalid_json");
    assert_eq!(answers[1]["problem"]["status"], 400);
    assert_eq!(answers[2]["problem"]["code"], "invalid_field");
    assert_eq!(answers[2]["problem"]["field"], "type");
    assert_eq!(answers[4]["id"], answers[3]["id"]);
    assert_eq!(answers[5]["problem"]["code"], "idempotency_conflict");
    assert_eq!(api.all("/v1/events").await.len(), 3);
}

#[tokio::test]
async fn lines_may_end_in_crlf_and_an_empty_stream_is_fine() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let answers = api.batch(&format!("{}\r\n{}\r\n", line(1), line(2))).await;
    assert_eq!(statuses(&answers), [(1, "accepted"), (2, "accepted")]);
    assert!(api.batch("").await.is_empty());
    assert!(api.batch("\n\n").await.is_empty());
}

#[tokio::test]
async fn the_answer_begins_at_once_and_lines_are_answered_while_the_upload_goes_on() {
    let daemon = Daemon::start().await;
    let mut upload = daemon
        .client()
        .upload("/v1/events/batch", "application/x-ndjson")
        .await;
    let (status, mut lines) = upload.answer().await;
    assert_eq!(status, 200);
    for n in 1..=3 {
        upload.write(line(n) + "\n").await;
        let answer = lines.next_json().await;
        assert_eq!(
            (&answer["line"], &answer["status"]),
            (&json!(n), &json!("accepted"))
        );
    }
    upload.write(line(4)[..10].to_owned()).await;
    upload.write(line(4)[10..].to_owned()).await;
    upload.finish();
    assert_eq!(
        lines.next_json().await["line"],
        4,
        "the last line needs no newline"
    );
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_client_that_disconnects_half_way_keeps_what_was_answered() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut upload = api.upload("/v1/events/batch", "application/x-ndjson").await;
    let (_, mut lines) = upload.answer().await;
    upload.write(line(1) + "\n").await;
    let accepted = lines.next_json().await;
    upload.write(line(2)[..20].to_owned()).await;
    drop(lines);
    upload.cut();
    let after = api.event("after.it", json!(1)).await;
    let ids: Vec<_> = api
        .all("/v1/events")
        .await
        .iter()
        .map(|e| e["id"].clone())
        .collect();
    assert_eq!(ids, [json!(after), accepted["id"].clone()]);
}

#[tokio::test]
async fn a_client_that_stalls_holds_nobody_up() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let mut stalled = Vec::new();
    for n in 0..40 {
        let mut upload = api.upload("/v1/events/batch", "application/x-ndjson").await;
        upload
            .write(format!("{}\n{}", line(n), &line(n)[..15]))
            .await;
        stalled.push(upload);
    }
    for upload in &mut stalled {
        let (_, mut lines) = upload.answer().await;
        assert_eq!(lines.next_json().await["status"], "accepted");
    }
    api.event("a.b", json!(1)).await;
    assert_eq!(api.all("/v1/events").await.len(), 41);
}

#[tokio::test]
async fn a_client_may_write_a_large_batch_whole_before_it_reads() {
    let daemon = Daemon::start().await;
    for client in [daemon.client(), daemon.tcp()] {
        let line = r#"{"organizationId":"org_1","type":"a.b","data":1}"#;
        let body = format!("{line}\n").repeat(20_000);
        let mut connection = client.open().await;
        let length = body.len();
        let token = daemon.token();
        let head = format!(
            "POST /v1/events/batch HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/x-ndjson\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        within("all is written", async {
            connection.write_all(head.as_bytes()).await.unwrap();
            connection.write_all(body.as_bytes()).await.unwrap();
        })
        .await;
        let mut answer = String::new();
        within("all is answered", connection.read_to_string(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer.matches(r#""status":"accepted""#).count(), 20_000);
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_cut_off() {
    let daemon = Setup::new().set("limits.idle", r#""1s""#).start().await;
    let mut upload = daemon
        .client()
        .upload("/v1/events/batch", "application/x-ndjson")
        .await;
    let (_, lines) = upload.answer().await;
    within("the daemon hangs up", async {
        let chunk = "x\n".repeat(1000);
        while upload.offer(chunk.clone()).await {}
    })
    .await;
    drop(lines);
    daemon.client().event("a.b", json!(1)).await;
}

#[tokio::test]
async fn a_line_over_the_limit_is_rejected_alone() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    let long = format!(
        r#"{{"organizationId":"org_1","type":"a.b","data":"{}"}}"#,
        "x".repeat(10_000_000)
    );
    let text = format!("{}\n{long}\n{}\n{long}", line(1), line(2));
    let answers = api.batch(&text).await;
    assert_eq!(
        statuses(&answers),
        [
            (1, "accepted"),
            (2, "rejected"),
            (3, "accepted"),
            (4, "rejected")
        ]
    );
    assert_eq!(answers[1]["problem"]["code"], "event_too_large");
    assert_eq!(answers[1]["problem"]["status"], 413);
}

#[tokio::test]
async fn lines_nested_very_deep_are_rejected_alone() {
    let daemon = Daemon::start().await;
    let deep = format!(
        r#"{{"organizationId":"org_1","type":"a.b","data":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let answers = daemon.client().batch(&format!("{deep}\n{}", line(1))).await;
    assert_eq!(statuses(&answers), [(1, "rejected"), (2, "accepted")]);
}

#[tokio::test]
async fn only_ndjson_is_taken_as_a_batch_and_only_json_elsewhere() {
    let daemon = Daemon::start().await;
    let api = daemon.client();
    for kind in ["application/json", "text/plain", ""] {
        let mut call = api.call("POST", "/v1/events/batch").body(line(1));
        if !kind.is_empty() {
            call = call.header("content-type", kind);
        }
        call.send().await.problem(415, "unsupported_media_type");
    }
    for kind in [
        "application/x-ndjson",
        "text/plain",
        "application/x-www-form-urlencoded",
    ] {
        let call = api
            .call("POST", "/v1/events")
            .header("content-type", kind)
            .body(line(1));
        call.send().await.problem(415, "unsupported_media_type");
    }
    api.call("POST", "/v1/events")
        .body(line(1))
        .send()
        .await
        .problem(415, "unsupported_media_type");
    let charset = "application/json; charset=utf-8";
    let call = api
        .call("POST", "/v1/events")
        .header("content-type", charset)
        .body(line(1));
    call.send().await.expect(202);
}

#[tokio::test]
async fn accepted_lines_survive_kill() {
    let mut daemon = Daemon::start().await;
    let mut upload = daemon
        .client()
        .upload("/v1/events/batch", "application/x-ndjson")
        .await;
    let (_, mut lines) = upload.answer().await;
    upload
        .write((0..200).map(|n| line(n) + "\n").collect::<String>())
        .await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(lines.next_json().await["id"].as_str().unwrap().to_owned());
    }
    daemon.kill().await;
    daemon.start_again().await;
    let api = daemon.client();
    for id in ids {
        api.get(&format!("/v1/events/{id}")).await.expect(200);
    }
    until("the daemon is ready", async || {
        (api.get("/readyz").await.status == 200).then_some(())
    })
    .await;
}
