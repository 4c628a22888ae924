//! A fake daemon whose behaviour the lines choose: whether each line fares as it should, however the streams end.

use std::sync::Mutex;

use http::{Request, Response};

use super::*;
use crate::failure::{REFUSED, UNREACHABLE};
use crate::fake_daemon::{self, Answer};

/// Answers each line by its first byte: `a`ccepted, `r`eplayed, `s` is skipped silently, `x` ends the connection, `e`
/// ends the response properly, `c` cuts the stream and says so, `b` has no room, anything else is rejected. After the
/// first stream, all are accepted. `streams` records what each stream contained.
fn pretending(
    streams: &Arc<Mutex<Vec<String>>>,
) -> impl Fn(Request<Incoming>) -> Answer + Clone + use<> {
    let streams = Arc::clone(streams);
    move |request| {
        assert_eq!(request.uri().path(), "/v1/events/batch");
        assert_eq!(request.headers()["content-type"], "application/x-ndjson");
        let stream = {
            let mut streams = streams.lock().unwrap();
            streams.push(String::new());
            streams.len() - 1
        };
        let state = (
            request.into_body(),
            LineReader::new(1 << 20),
            0_u64,
            (false, false),
        );
        let streams = Arc::clone(&streams);
        let answers = stream::unfold(state, move |(mut body, mut lines, mut number, over)| {
            let streams = Arc::clone(&streams);
            async move {
                match over {
                    (true, true) => {
                        // The results so far have been sent.
                        tokio::task::yield_now().await;
                        let failed = Err(io::Error::other("cut"));
                        return Some((failed, (body, lines, number, (true, false))));
                    }
                    (true, false) => return None,
                    _ => {}
                }
                let frame = body.frame().await;
                let mut ended = frame.is_none();
                let chunk = frame.map_or(Bytes::new(), |it| it.unwrap().into_data().unwrap());
                streams.lock().unwrap()[stream] += std::str::from_utf8(&chunk).unwrap();
                let (mut out, mut cut) = (String::new(), false);
                lines
                    .feed(&chunk, |line| {
                        number += 1;
                        let first = if stream == 0 { line[0] } else { b'a' };
                        if ended || cut {
                            return Ok::<(), LineTooLong>(());
                        }
                        match first {
                            b's' | b'{' => {}
                            b'a' => out += &format!("{{\"line\":{number},\"status\":\"accepted\",\"id\":\"evt_1\",\"deliveries\":2}}\n"),
                            b'r' => out += &format!("{{\"line\":{number},\"status\":\"replayed\",\"id\":\"evt_1\",\"deliveries\":2}}\n"),
                            b'x' => cut = true,
                            b'e' => ended = true,
                            b'c' => {
                                out += &format!("{{\"line\":{number},\"status\":\"cut\",\"problem\":{{\"code\":\"request_timeout\"}}}}\n");
                                ended = true;
                            }
                            b'b' => out += &format!("{{\"line\":{number},\"status\":\"rejected\",\"problem\":{{\"detail\":\"D\",\"code\":\"busy\"}}}}\n"),
                            _ => out += &format!("{{\"line\":{number},\"status\":\"rejected\",\"problem\":{{\"detail\":\"D\",\"code\":\"invalid_json\"}}}}\n"),
                        }
                        Ok(())
                    })
                    .unwrap();
                let frame = Ok(Frame::data(Bytes::from(out)));
                Some((frame, (body, lines, number, (ended || cut, cut))))
            }
        });
        Response::new(StreamBody::new(answers).boxed_unsync())
    }
}

/// The result of sending, and what each stream contained.
async fn run(lines: &str, patience: Duration) -> (Result<(), Failure>, Vec<String>) {
    let streams = Arc::new(Mutex::new(Vec::new()));
    let daemon = fake_daemon::daemon(pretending(&streams));
    let source = Box::new(io::Cursor::new(lines.as_bytes().to_vec()));
    let end = send(source, None, patience, &daemon.session).await;
    let streams = streams.lock().unwrap().clone();
    (end, streams)
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_stream_whose_lines_are_all_taken_is_ok() {
    let (end, streams) = run("a1\n\nr2\na3\n", LONG).await;
    end.unwrap();
    assert_eq!(streams, ["a1\nr2\na3\n"], "blank lines are not sent");
}

#[tokio::test]
async fn a_long_stream_passes_with_answers_read_meanwhile() {
    let line = "a some event of a hundred bytes or so that is long enough to fill every buffer on the way\n";
    let (end, streams) = run(&line.repeat(200_000), LONG).await;
    end.unwrap();
    assert_eq!(streams.len(), 1);
}

#[tokio::test]
async fn one_rejected_line_makes_the_status_1() {
    let (end, _) = run("a1\nnope\na3\n", LONG).await;
    assert_eq!(end.unwrap_err().status(), REFUSED);
}

#[tokio::test]
async fn what_has_no_answer_when_a_stream_ends_goes_into_a_new_one() {
    for ends in ["x3", "e3", "c3", "s3\nx4"] {
        let (end, streams) = run(&format!("a1\na2\n{ends}\na5\n"), LONG).await;
        end.unwrap();
        assert_eq!(streams.len(), 2, "{ends}");
        assert_eq!(streams[1], format!("{ends}\na5\n"), "{ends}");
    }
}

#[tokio::test]
async fn a_line_that_there_was_no_room_for_is_sent_again_and_what_was_taken_is_not() {
    let (end, streams) = run("a1\nb2\na3\n", LONG).await;
    end.unwrap();
    assert_eq!(streams, ["a1\nb2\na3\n", "b2\n"]);
}

#[tokio::test]
async fn without_patience_the_first_line_without_an_answer_is_named() {
    for (ends, status) in [
        ("x", UNREACHABLE),
        ("e", UNREACHABLE),
        ("s", UNREACHABLE),
        ("b", REFUSED),
    ] {
        let (end, streams) = run(&format!("a1\na2\n\n{ends}\na5\n"), Duration::ZERO).await;
        let failure = end.unwrap_err();
        assert_eq!(failure.status(), status, "{ends}: {failure}");
        assert!(
            failure
                .to_string()
                .contains("Line 4 is the first without an answer"),
            "{ends}: {failure}"
        );
        assert_eq!(streams.len(), 1, "{ends}");
    }
}

#[tokio::test]
async fn a_key_that_was_added_is_named_with_its_line() {
    let (end, streams) = run("{\"a\":1}\nx\n", Duration::ZERO).await;
    let failure = end.unwrap_err();
    assert_eq!(streams.len(), 1);
    assert!(
        streams[0].starts_with("{\"idempotencyKey\":\"cli-"),
        "{streams:?}"
    );
    let named = "Line 1 (sent with the idempotency key cli-";
    assert!(failure.to_string().contains(named), "{failure}");
}

#[tokio::test]
async fn a_daemon_that_refuses_the_stream_is_heard() {
    fn refuse(_: Request<Incoming>) -> Answer {
        fake_daemon::said(400, r#"{"title":"Bad","code":"invalid_field"}"#)
    }
    let daemon = fake_daemon::daemon(refuse);
    let source = Box::new(io::Cursor::new(b"a1\n".to_vec()));
    let failure = send(source, None, LONG, &daemon.session).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Refused(refusal) if refusal.status == 400),
        "{failure}"
    );
}

#[tokio::test]
async fn an_input_that_can_not_be_read_on_is_an_error_after_what_came_before() {
    struct Broken(bool);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("gone"));
            }
            buffer[..3].copy_from_slice(b"a1\n");
            Ok(3)
        }
    }
    let streams = Arc::new(Mutex::new(Vec::new()));
    let daemon = fake_daemon::daemon(pretending(&streams));
    let end = send(Box::new(Broken(false)), None, LONG, &daemon.session).await;
    assert_eq!(end.unwrap_err().status(), crate::failure::USAGE);
    assert_eq!(*streams.lock().unwrap(), ["a1\n"]);
}
