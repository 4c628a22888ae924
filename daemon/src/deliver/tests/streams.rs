//! HTTP/2 receivers that end connections and streams in every way. They write the frames byte by byte.

mod floods;

use super::secure::acceptor;
use super::*;
use std::collections::HashMap;
use tokio::io::DuplexStream;
use tokio_rustls::server::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

/// A connection as its receiver sees it.
struct Wire<S = TlsStream<TcpStream>> {
    stream: S,
    /// Whether it answers PING.
    answers_pings: bool,
    /// Whether it lets the sender continue with a body.
    takes: bool,
    bodies: HashMap<u32, usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads the client's preface and sends the server's.
    async fn new(mut stream: S) -> Option<Self> {
        stream.read_exact(&mut [0; 24]).await.ok()?;
        let mut wire = Self {
            stream,
            answers_pings: true,
            takes: true,
            bodies: HashMap::new(),
        };
        wire.send(SETTINGS, 0, 0, &[]).await;
        Some(wire)
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        let _ = self.stream.write_all(&frame).await;
        let _ = self.stream.flush().await;
    }

    /// Reads a frame and answers it as any receiver does.
    async fn frame(&mut self) -> Option<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
            PING if flags & ACK == 0 && self.answers_pings => {
                self.send(PING, ACK, 0, &payload).await;
            }
            DATA => {
                *self.bodies.entry(id).or_default() += payload.len();
                if self.takes && !payload.is_empty() {
                    self.send(WINDOW_UPDATE, 0, 0, &length.to_be_bytes()).await;
                    self.send(WINDOW_UPDATE, 0, id, &length.to_be_bytes()).await;
                }
            }
            _ => {}
        }
        Some((kind, flags, id))
    }

    /// Reads up to the head of a request and returns its stream.
    async fn head(&mut self) -> Option<u32> {
        loop {
            if let (HEADERS, _, id) = self.frame().await? {
                return Some(id);
            }
        }
    }

    /// Reads one whole request and returns its stream.
    async fn request(&mut self) -> Option<u32> {
        loop {
            let (kind, flags, id) = self.frame().await?;
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Some(id);
            }
        }
    }

    /// Sends `:status` 200, 204 or 500 from the static table, and ends the stream if asked.
    async fn answer(&mut self, id: u32, code: u16, ends: bool) {
        let status = match code {
            200 => 0x88,
            204 => 0x89,
            _ => 0x8e,
        };
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(HEADERS, flags, id, &[status]).await;
    }

    async fn reset(&mut self, id: u32, reason: u32) {
        self.send(RST_STREAM, 0, id, &reason.to_be_bytes()).await;
    }

    async fn goaway(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// Reads until the client closes.
    async fn until_closed(&mut self) {
        while self.frame().await.is_some() {}
    }
}

/// Starts a receiver that handles its connections like this; each gets its number, from 1.
async fn http2_partner<F, R>(handle: F) -> (Client, Target, Arc<Seen>)
where
    F: Fn(Wire, usize, Arc<Seen>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    http2_partner_within(settings().timeout, handle).await
}

/// The same where an attempt may take this long.
async fn http2_partner_within<F, R>(timeout: Duration, handle: F) -> (Client, Target, Arc<Seen>)
where
    F: Fn(Wire, usize, Arc<Seen>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (acceptor, root) = acceptor(&[b"h2", b"http/1.1"]);
    let (address, seen) = partner(move |stream, seen| {
        let (acceptor, handle) = (acceptor.clone(), handle.clone());
        async move {
            let number = seen.connections();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                while read_request(&mut stream, &seen).await.is_some() {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                }
                return;
            }
            if let Some(wire) = Wire::new(stream).await {
                handle(wire, number, seen).await;
            }
        }
    })
    .await;
    let settings = Settings {
        timeout,
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    (client, target(&format!("https://{address}/")), seen)
}

fn note(seen: &Seen, id: u32) {
    seen.requests.lock().unwrap().push(format!("{id}"));
}

/// Answers requests until the connection is closed.
async fn answer_all(mut wire: Wire, seen: Arc<Seen>) {
    while let Some(id) = wire.request().await {
        note(&seen, id);
        wire.answer(id, 204, true).await;
    }
}

fn body() -> Bytes {
    Bytes::from_static(b"{}")
}

async fn attempted(client: &Client, to: &Target) -> (Reply, bool) {
    attempt_with(client, to, body()).await
}

#[tokio::test]
async fn a_connection_that_its_partner_ends_after_an_answer_costs_no_attempt() {
    for how in ["goaway", "goaway and close", "close"] {
        let (client, to, seen) = http2_partner(move |mut wire, _, seen| async move {
            // The first request is answered, then the connection ends.
            let id = wire.request().await.unwrap();
            note(&seen, id);
            wire.answer(id, 204, true).await;
            if how != "close" {
                wire.goaway(id, NO_ERROR).await;
            }
            if how == "goaway" {
                wire.until_closed().await;
            }
        })
        .await;
        for n in 1..=12 {
            let (reply, _) = attempted(&client, &to).await;
            assert_eq!(reply, status(204), "{how}, {n}");
        }
        assert_eq!((seen.connections(), seen.requests()), (12, 12), "{how}");
    }
}

#[tokio::test]
async fn streams_above_the_last_id_of_goaway_are_sent_again() {
    for reason in [NO_ERROR, ENHANCE_YOUR_CALM] {
        let (client, to, seen) = http2_partner(move |mut wire, number, seen| async move {
            if number > 1 {
                return answer_all(wire, seen).await;
            }
            let first = wire.request().await.unwrap();
            wire.answer(first, 204, true).await;
            let second = wire.request().await.unwrap();
            note(&seen, second);
            wire.goaway(first, reason).await;
            wire.until_closed().await;
        })
        .await;
        assert_eq!(attempted(&client, &to).await, (status(204), false));
        assert_eq!(attempted(&client, &to).await, (status(204), true));
        assert_eq!(attempted(&client, &to).await, (status(204), false));
        assert_eq!((seen.connections(), seen.requests()), (2, 3));
    }
}

#[tokio::test]
async fn streams_up_to_the_last_id_of_goaway_are_answered_over_the_old_connection() {
    let (client, to, seen) = http2_partner(|mut wire, number, seen| async move {
        if number > 1 {
            return answer_all(wire, seen).await;
        }
        let id = wire.request().await.unwrap();
        wire.goaway(id, NO_ERROR).await;
        seen.closed.notify_one();
        seen.close.notified().await;
        wire.answer(id, 200, true).await;
        wire.until_closed().await;
    })
    .await;
    let first = attempted(&client, &to);
    let then = async {
        seen.closed.notified().await;
        // Once GOAWAY is known, other requests use a new connection.
        while seen.requests() == 0 {
            assert_eq!(attempted(&client, &to).await.0, status(204));
        }
        seen.close.notify_one();
    };
    let (first, ()) = futures_util::future::join(first, then).await;
    assert_eq!(first, (status(200), false));
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_a_few_times() {
    for (refused, expected) in [(1, true), (3, true), (u32::MAX, false)] {
        let (client, to, seen) = http2_partner(move |mut wire, _, seen| async move {
            let mut left = refused;
            while let Some(id) = wire.request().await {
                note(&seen, id);
                if left > 0 {
                    left -= 1;
                    wire.reset(id, REFUSED_STREAM).await;
                } else {
                    wire.answer(id, 204, true).await;
                }
            }
        })
        .await;
        let (reply, reconnected) = attempted(&client, &to).await;
        assert!(reconnected);
        assert_eq!(seen.connections(), 1, "the connection is usable");
        if expected {
            assert_eq!(reply, status(204));
            assert_eq!(seen.requests(), refused as usize + 1);
        } else {
            assert_failed(&reply, Failure::Protocol, "refused");
            assert_eq!(seen.requests(), 4);
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_for_another_reason_is_not_sent_again() {
    for reason in [NO_ERROR, INTERNAL_ERROR, CANCEL] {
        let (client, to, seen) = http2_partner(move |mut wire, _, seen| async move {
            while let Some(id) = wire.request().await {
                note(&seen, id);
                wire.reset(id, reason).await;
            }
        })
        .await;
        for _ in 0..2 {
            let (reply, reconnected) = attempted(&client, &to).await;
            assert_failed(&reply, Failure::Protocol, "it did not answer");
            assert!(!reconnected);
        }
        assert_eq!((seen.connections(), seen.requests()), (1, 2));
    }
}

#[tokio::test]
async fn who_asks_for_http11_gets_it_from_then_on() {
    for whole_connection in [false, true] {
        let (client, to, seen) = http2_partner(move |mut wire, _, seen| async move {
            let id = wire.request().await.unwrap();
            note(&seen, id);
            if whole_connection {
                wire.goaway(0, HTTP_1_1_REQUIRED).await;
            } else {
                wire.reset(id, HTTP_1_1_REQUIRED).await;
            }
            wire.until_closed().await;
        })
        .await;
        assert_eq!(attempted(&client, &to).await, (status(200), true));
        for _ in 0..3 {
            assert_eq!(attempted(&client, &to).await, (status(200), false));
        }
        assert_eq!((seen.connections(), seen.requests()), (2, 5));
    }
}

#[tokio::test]
async fn where_a_kept_connection_ends_before_an_answer_the_request_is_sent_once_more() {
    let (client, to, seen) = http2_partner(|mut wire, number, seen| async move {
        if number > 1 {
            return answer_all(wire, seen).await;
        }
        let first = wire.request().await.unwrap();
        wire.answer(first, 204, true).await;
        let second = wire.request().await.unwrap();
        note(&seen, second);
    })
    .await;
    assert_eq!(attempted(&client, &to).await, (status(204), false));
    assert_eq!(attempted(&client, &to).await, (status(204), true));
    assert_eq!((seen.connections(), seen.requests()), (2, 2));
}

#[tokio::test]
async fn where_a_new_connection_ends_before_an_answer_the_request_is_not_sent_again() {
    let (client, to, seen) = http2_partner(|mut wire, _, seen| async move {
        let id = wire.request().await.unwrap();
        note(&seen, id);
    })
    .await;
    let (reply, reconnected) = attempted(&client, &to).await;
    assert_failed(&reply, Failure::Protocol, "before answering");
    assert_eq!((reconnected, seen.requests()), (false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_does_not_answer_a_ping_swallows_no_further_attempt() {
    let (client, to, seen) = http2_partner(|mut wire, number, seen| async move {
        if number > 1 {
            return answer_all(wire, seen).await;
        }
        let first = wire.request().await.unwrap();
        wire.answer(first, 204, true).await;
        wire.answers_pings = false;
        let second = wire.request().await.unwrap();
        note(&seen, second);
        wire.until_closed().await;
    })
    .await;
    assert_eq!(attempted(&client, &to).await, (status(204), false));
    let before = clock::deadline(Duration::ZERO);
    let (reply, reconnected) = attempted(&client, &to).await;
    assert_failed(&reply, Failure::Timeout, "PING");
    assert!(
        before.elapsed() <= Duration::from_secs(10),
        "{:?}",
        before.elapsed()
    );
    assert!(!reconnected);
    assert_eq!(attempted(&client, &to).await, (status(204), false));
    assert_eq!((seen.connections(), seen.requests()), (2, 2));
}

/// Starts a request over a connection without a socket, whose receiver does this after 14 s.
async fn over_memory<R>(
    partner: impl FnOnce(Wire<DuplexStream>, u32) -> R + Send + 'static,
) -> (u16, bool)
where
    R: Future<Output = ()> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut wire = Wire::new(far).await.unwrap();
        let id = wire.request().await.unwrap();
        partner(wire, id).await;
    });
    let mut streams = crate::deliver::streams::Streams::open(near).await.unwrap();
    let request = http::Request::post("https://a.test/").body(()).unwrap();
    let mut stream = streams.begin(request, body()).unwrap();
    let code = match stream.answer().await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) => 0,
    };
    (code, streams.is_hung())
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_is_slow_and_answers_pings_has_the_whole_time() {
    let before = clock::deadline(Duration::ZERO);
    let answers = over_memory(|mut wire, id| async move {
        let slow = tokio::time::sleep(Duration::from_secs(14));
        tokio::select! {
            () = wire.until_closed() => return,
            () = slow => {}
        }
        wire.answer(id, 204, true).await;
        wire.until_closed().await;
    });
    assert_eq!(answers.await, (204, false));
    assert_eq!(before.elapsed(), Duration::from_secs(14));
    let hangs = over_memory(|mut wire, _| async move {
        wire.answers_pings = false;
        wire.until_closed().await;
    });
    assert_eq!(hangs.await, (0, true));
    assert_eq!(before.elapsed(), Duration::from_secs(24));
}

#[tokio::test]
async fn a_status_counts_whatever_follows_it() {
    for (code, reason) in [(200, NO_ERROR), (200, CANCEL), (500, INTERNAL_ERROR)] {
        let (client, to, seen) = http2_partner(move |mut wire, _, seen| async move {
            while let Some(id) = wire.head().await {
                note(&seen, id);
                wire.answer(id, code, false).await;
                wire.reset(id, reason).await;
            }
        })
        .await;
        for _ in 0..2 {
            assert_eq!(attempted(&client, &to).await, (status(code), false));
        }
        assert_eq!((seen.connections(), seen.requests()), (1, 2));
    }
}

#[tokio::test]
async fn a_status_counts_though_the_headers_after_it_are_malformed() {
    // Each follows `:status`; the last makes the connection unreadable.
    let malformed: [&[u8]; 4] = [
        b"\x00\x0aconnection\x05close",
        b"\x00\x0ex-Odd-Name\x01\x02\x03\x01a",
        b"\x00\x07:status\x03200",
        b"\xff\xff\xff\xff\xff\xff",
    ];
    for (lines, code) in malformed.into_iter().flat_map(|m| [(m, 200), (m, 500)]) {
        let (client, to, seen) = http2_partner(move |mut wire, _, seen| async move {
            while let Some(id) = wire.request().await {
                note(&seen, id);
                let status = if code == 200 { 0x88 } else { 0x8e };
                let block = [&[status], lines].concat();
                wire.send(HEADERS, END_HEADERS | END_STREAM, id, &block)
                    .await;
            }
        })
        .await;
        for n in 1..=2 {
            assert_eq!(
                attempted(&client, &to).await,
                (status(code), false),
                "{lines:x?}"
            );
            assert_eq!(seen.requests(), n);
        }
    }
}

#[tokio::test]
async fn an_answer_that_came_before_the_connection_broke_counts() {
    for code in [200, 500] {
        let (client, to, _) = http2_partner(move |mut wire, _, _| async move {
            wire.takes = false;
            let id = wire.head().await.unwrap();
            wire.answer(id, code, false).await;
            wire.stream.get_ref().0.set_zero_linger().unwrap();
        })
        .await;
        let large = Bytes::from(vec![b'x'; 1 << 20]);
        let (reply, _) = attempt_with(&client, &to, large).await;
        assert_eq!(reply, status(code));
    }
}

#[tokio::test]
async fn a_success_that_came_early_is_one_when_the_request_was_taken() {
    let (client, to, seen) = http2_partner(|mut wire, _, seen| async move {
        wire.takes = false;
        let id = wire.head().await.unwrap();
        wire.answer(id, 200, true).await;
        seen.close.notified().await;
        wire.takes = true;
        let more = 1_000_000_u32.to_be_bytes();
        wire.send(WINDOW_UPDATE, 0, 0, &more).await;
        wire.send(WINDOW_UPDATE, 0, id, &more).await;
        assert_eq!(wire.request().await, Some(id));
        note(&seen, u32::try_from(wire.bodies[&id]).unwrap());
        answer_all(wire, seen).await;
    })
    .await;
    let large = Bytes::from(vec![b'x'; 240 * 1024]);
    let mut attempt = Box::pin(attempt_with(&client, &to, large));
    let early = tokio::time::timeout(Duration::from_millis(800), &mut attempt).await;
    assert!(early.is_err(), "{early:?}");
    seen.close.notify_one();
    assert_eq!(attempt.await, (status(200), false));
    assert_eq!(attempted(&client, &to).await, (status(204), false));
    assert_eq!(seen.requests.lock().unwrap()[0], format!("{}", 240 * 1024));
    assert_eq!(seen.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_early_success_whose_request_is_never_taken_is_none_and_a_failure_counts() {
    for code in [200, 500] {
        let (client, to, _) = http2_partner(move |mut wire, _, _| async move {
            wire.takes = false;
            let id = wire.head().await.unwrap();
            wire.answer(id, code, true).await;
            wire.until_closed().await;
        })
        .await;
        let large = Bytes::from(vec![b'x'; 240 * 1024]);
        let (reply, _) = attempt_with(&client, &to, large).await;
        if code == 200 {
            assert_failed(&reply, Failure::Timeout, "answered 200 but did not read");
        } else {
            assert_eq!(reply, status(500));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let (client, to, seen) = http2_partner(|mut wire, _, seen| async move {
        let id = wire.request().await.unwrap();
        wire.answer(id, 204, true).await;
        wire.until_closed().await;
        seen.closed.notify_one();
    })
    .await;
    assert_eq!(attempted(&client, &to).await, (status(204), false));
    seen.closed.notified().await;
    assert_eq!(client.inner.pool.idle_count(), 0);
}
