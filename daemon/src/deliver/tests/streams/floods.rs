//! HTTP/2 receivers that flood the client with frames that cost them nothing. The attempt ends within its time, the
//! connection is closed, and attempts to others succeed meanwhile.

use super::*;
use std::sync::mpsc;
use stormhook_engine::clock::Moment;

const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Long enough for a busy machine; never waited out.
const PATIENCE: Duration = Duration::from_secs(30);

/// A frame, its type and flags first.
type Frame = (u8, u8, Vec<u8>);

/// Makes an attempt to a receiver that answers with `first`, then with `again` until the connection is closed. Frames of
/// the connection itself have `on_stream` false.
async fn flooded_with(first: Vec<Frame>, again: Frame, on_stream: bool) -> Reply {
    let (ended, end) = mpsc::channel();
    let (client, to, _) = http2_partner_within(TIMEOUT, move |mut wire, _, _| {
        let (first, again, ended) = (first.clone(), again.clone(), ended.clone());
        async move {
            let Some(id) = wire.request().await else {
                return;
            };
            for (kind, flags, payload) in first {
                wire.send(kind, flags, id, &payload).await;
            }
            let (kind, flags, payload) = again;
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            let id = if on_stream { id } else { 0 };
            let one = [&length[1..], &[kind, flags], &id.to_be_bytes(), &payload].concat();
            let many = one.repeat(200);
            while wire.stream.write_all(&many).await.is_ok() {}
            let _ = ended.send(());
        }
    })
    .await;
    let (good, seen) = answering(OK).await;
    let good = target(&format!("http://{good}/"));
    let before = Moment::now();
    let (reply, other) = tokio::join!(attempt(&client, &to), attempt(&client, &good));
    assert!(before.elapsed() < TIMEOUT + PATIENCE);
    assert_eq!((other, seen.requests()), (status(200), 1));
    // The connection is not kept for a second attempt.
    drop(client);
    let waiting = tokio::task::spawn_blocking(move || end.recv_timeout(PATIENCE));
    waiting.await.unwrap().expect("the connection is closed");
    reply
}

fn failed(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Failed(Failure::Protocol | Failure::Timeout, _)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_end_end_the_connection() {
    let field = b"\0\x01a\x01b";
    for part in [Vec::new(), field.repeat(1_000)] {
        let first = vec![(HEADERS, 0, field.to_vec())];
        let reply = flooded_with(first, (CONTINUATION, 0, part.clone()), true).await;
        assert!(failed(&reply), "{reply:?}");
        // `:status` 200: a status that came counts, whatever follows it.
        let first = vec![(HEADERS, 0, vec![0x88])];
        let reply = flooded_with(first, (CONTINUATION, 0, part), true).await;
        assert_eq!(reply, status(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informational_answers_without_end_take_the_time_of_the_attempt() {
    // `:status` 103, as a literal with the name from the static table.
    let early = (HEADERS, END_HEADERS, b"\x08\x03103".to_vec());
    let reply = flooded_with(Vec::new(), early, true).await;
    assert!(failed(&reply), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_want_an_answer_take_the_time_of_the_attempt() {
    for again in [
        (SETTINGS, 0, Vec::new()),
        (SETTINGS, 0, vec![0, 3, 0, 0, 0, 100]),
        (PING, 0, b"12345678".to_vec()),
    ] {
        let reply = flooded_with(Vec::new(), again, false).await;
        assert!(failed(&reply), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn window_updates_beyond_the_largest_window_end_the_connection() {
    let again = (WINDOW_UPDATE, 0, 0x7fff_ffff_u32.to_be_bytes().to_vec());
    let reply = flooded_with(Vec::new(), again, false).await;
    assert!(failed(&reply), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_ends_the_connection() {
    let again = (
        PUSH_PROMISE,
        END_HEADERS,
        vec![0, 0, 0, 2, 0x82, 0x87, 0x84],
    );
    let reply = flooded_with(Vec::new(), again, true).await;
    assert!(failed(&reply), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_frames_of_a_body_without_end_change_no_success() {
    let first = vec![(HEADERS, END_HEADERS, vec![0x88])];
    let reply = flooded_with(first, (DATA, 0, Vec::new()), true).await;
    assert!(
        matches!(reply, Reply::Status { code: 200, .. }),
        "{reply:?}"
    );
}
