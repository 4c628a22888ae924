//! HTTP/2 callers that flood the daemon with frames that cost them nothing. Each is ended or held up, the memory stays
//! bounded, and other callers are answered meanwhile. They write the frames byte by byte.

use crate::support::{Daemon, Receiver, Setup, Tls, until, within};
use rustls::pki_types::ServerName;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const INITIAL_WINDOW_SIZE: u8 = 4;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A caller's connection.
struct Wire {
    write: WriteHalf<TlsStream<TcpStream>>,
    read: ReadHalf<TlsStream<TcpStream>>,
}

/// A frame of the daemon.
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    id: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Returns a field as HPACK's literal without indexing (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| {
        let length = text.len();
        if length < 127 {
            return vec![u8::try_from(length).unwrap()];
        }
        let mut bytes = vec![127];
        let mut rest = length - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
        bytes
    };
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.extend(length(text));
        bytes.extend(text.as_bytes());
    }
    bytes
}

fn head(daemon: &Daemon, method: &str, path: &str) -> Vec<u8> {
    let bearer = format!("Bearer {}", daemon.token());
    let fields = [
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
        ("authorization", &bearer),
        ("content-type", "application/json"),
    ];
    fields
        .iter()
        .flat_map(|(name, value)| field(name, value))
        .collect()
}

impl Wire {
    /// Connects and sends the preface with these settings.
    async fn open(daemon: &Daemon, tls: &Tls, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(daemon.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::from(daemon.address().ip());
        let connector = tls.connector(rustls::DEFAULT_VERSIONS, &["h2"]);
        let stream = connector.connect(name, stream).await.unwrap();
        let (read, write) = tokio::io::split(stream);
        let mut wire = Self { write, read };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        wire.send(preface).await.unwrap();
        wire.send(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
        wire
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// Writes these bytes again and again without reading, until the daemon takes no more for a second or ends the
    /// connection. Returns how many were taken, at most `most`.
    async fn flood(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            let sent = tokio::time::timeout(Duration::from_secs(1), self.send(bytes)).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
            taken += bytes.len();
        }
        taken
    }

    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.read.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            id: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Reads until the daemon ends the connection, and returns why it says it does.
    async fn end(&mut self) -> Option<u32> {
        let mut reason = None;
        let reading = async {
            while let Some(frame) = self.frame().await {
                if frame.kind == GOAWAY {
                    let bytes = frame.payload[4..8].try_into().unwrap();
                    reason = Some(u32::from_be_bytes(bytes));
                }
            }
        };
        within("the daemon ends the connection", reading).await;
        reason
    }

    /// Reads up to the end of a stream, and returns its frames.
    async fn answer(&mut self, id: u32) -> Vec<Frame> {
        let mut answer = Vec::new();
        let reading = async {
            loop {
                let frame = self.frame().await.expect("the connection goes on");
                if frame.id != id {
                    continue;
                }
                let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
                let ends = ends || frame.kind == RST_STREAM;
                answer.push(frame);
                if ends {
                    return;
                }
            }
        };
        within("an answer", reading).await;
        answer
    }
}

fn resident_kib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let digits = line.unwrap().split_whitespace().nth(1).unwrap();
    digits.parse().unwrap()
}

/// A daemon whose callers may stay silent for a short time, after a request over HTTP/2.
async fn started() -> (Daemon, Tls) {
    let tls = Tls::for_names(&["127.0.0.1"]);
    let setup = Setup::new().set("limits.idle", r#""2s""#).secured_by(&tls);
    let daemon = setup.start().await;
    let mut wire = Wire::open(&daemon, &tls, &[]).await;
    let head = head(&daemon, "GET", "/v1/stats");
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head);
    wire.send(&request).await.unwrap();
    let answer = wire.answer(1).await;
    // `:status` 200 is 8 in the static table.
    assert_eq!(answer[0].payload[0], 0x88, "{answer:?}");
    (daemon, tls)
}

async fn others_are_answered(daemon: &Daemon, tls: &Tls) {
    daemon.tls(tls).get("/v1/stats").await.expect(200);
    daemon.client().get("/v1/stats").await.expect(200);
}

#[tokio::test]
async fn requests_that_are_cancelled_at_once_end_the_connection() {
    let (daemon, tls) = started().await;
    let mut wire = Wire::open(&daemon, &tls, &[]).await;
    let head = head(&daemon, "GET", "/v1/events?limit=250");
    let mut sent = 0;
    for n in 0..20_000 {
        let id = 2 * n + 1;
        let mut both = frame(HEADERS, END_STREAM | END_HEADERS, id, &head);
        both.extend(frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes()));
        if wire.send(&both).await.is_err() {
            break;
        }
        sent = n;
    }
    let _reason = wire.end().await;
    eprintln!("{sent} cancelled requests were sent before the end");
    assert!(sent < 19_999, "it took all");
    others_are_answered(&daemon, &tls).await;
}

#[tokio::test]
async fn requests_that_are_cancelled_while_they_are_answered_end_the_connection() {
    let (daemon, tls) = started().await;
    let mut wire = Wire::open(&daemon, &tls, &[]).await;
    // A stream that doesn't end by itself: the daemon has begun to answer when it is cancelled.
    let head = head(&daemon, "GET", "/v1/attempts/stream");
    let mut id = 1;
    let cancelling = async {
        loop {
            let request = frame(HEADERS, END_STREAM | END_HEADERS, id, &head);
            if wire.send(&request).await.is_err() {
                return;
            }
            loop {
                match wire.frame().await {
                    Some(frame) if frame.kind == HEADERS && frame.id == id => break,
                    Some(_) => {}
                    None => return,
                }
            }
            let reset = frame(RST_STREAM, 0, id, &CANCEL.to_be_bytes());
            if wire.send(&reset).await.is_err() {
                return;
            }
            id += 2;
        }
    };
    within("the connection ends", cancelling).await;
    assert!((200..600).contains(&(id / 2)), "after {} requests", id / 2);
    until("it is said", async || {
        daemon
            .log()
            .contains("ended an HTTP/2 connection")
            .then_some(())
    })
    .await;
    others_are_answered(&daemon, &tls).await;
}

#[tokio::test]
async fn a_header_block_without_end_ends_the_connection() {
    let (daemon, tls) = started().await;
    let before = resident_kib(&daemon);
    for part in [vec![], field("x-a", &"v".repeat(8_000))] {
        let mut wire = Wire::open(&daemon, &tls, &[]).await;
        let head = head(&daemon, "GET", "/v1/stats");
        wire.send(&frame(HEADERS, END_STREAM, 1, &head))
            .await
            .unwrap();
        let more = frame(CONTINUATION, 0, 1, &part);
        let most = 64 << 20;
        let taken = wire.flood(&more, most).await;
        assert!(taken < most, "it took {taken} bytes");
        let reason = wire.end().await;
        // The end may be lost where the daemon closed with frames unread.
        assert!(
            [None, Some(ENHANCE_YOUR_CALM), Some(1)].contains(&reason),
            "{reason:?}"
        );
    }
    let after = resident_kib(&daemon);
    assert!(
        after < before + 16 * 1024,
        "{before} KiB became {after} KiB"
    );
    others_are_answered(&daemon, &tls).await;
}

#[tokio::test]
async fn frames_that_want_an_answer_wait_until_the_answers_are_read() {
    let (daemon, tls) = started().await;
    let before = resident_kib(&daemon);
    for one in [
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE, 0, 0, 255, 255]),
        frame(PING, 0, 0, b"12345678"),
    ] {
        let mut wire = Wire::open(&daemon, &tls, &[]).await;
        let most = 64 << 20;
        let taken = wire.flood(&one.repeat(500), most).await;
        assert!(taken < most, "it took {taken} bytes");
        others_are_answered(&daemon, &tls).await;
        wire.end().await;
    }
    let after = resident_kib(&daemon);
    assert!(
        after < before + 16 * 1024,
        "{before} KiB became {after} KiB"
    );
}

#[tokio::test]
async fn empty_frames_of_a_body_are_not_kept_and_gain_no_time() {
    let (daemon, tls) = started().await;
    let before = resident_kib(&daemon);
    let mut wire = Wire::open(&daemon, &tls, &[]).await;
    let head = head(&daemon, "POST", "/v1/events");
    wire.send(&frame(HEADERS, END_HEADERS, 1, &head))
        .await
        .unwrap();
    let empty = frame(DATA, 0, 1, &[]).repeat(1_000);
    let Wire {
        mut write,
        mut read,
    } = wire;
    let flooding = tokio::spawn(async move {
        let mut frames = 0_u64;
        while write.write_all(&empty).await.is_ok() && write.flush().await.is_ok() {
            frames += 1_000;
        }
        frames
    });
    let mut came = Vec::new();
    let ending = async {
        let mut buffer = [0; 4_096];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            came.extend_from_slice(&buffer[..length]);
        }
    };
    within("the daemon ends the connection", ending).await;
    let frames = within("the flood ends", flooding).await.unwrap();
    eprintln!("{frames} empty frames");
    let after = resident_kib(&daemon);
    assert!(
        after < before + 16 * 1024,
        "{before} KiB became {after} KiB"
    );
    others_are_answered(&daemon, &tls).await;
}

#[tokio::test]
async fn a_caller_that_asks_nothing_or_reads_nothing_is_cut_off() {
    let (daemon, tls) = started().await;
    let mut silent = Wire::open(&daemon, &tls, &[]).await;
    assert_eq!(silent.end().await, Some(0), "a friendly end");
    // A window of 0 bytes: no body can be sent.
    let closed = [0, INITIAL_WINDOW_SIZE, 0, 0, 0, 0];
    let mut wire = Wire::open(&daemon, &tls, &closed).await;
    let head = head(&daemon, "GET", "/v1/openapi.json");
    for n in 0..50 {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &head);
        wire.send(&request).await.unwrap();
    }
    let end = async {
        // It answers pings meanwhile.
        while let Some(came) = wire.frame().await {
            if came.kind == PING && came.flags & ACK == 0 {
                let pong = frame(PING, ACK, 0, &came.payload);
                let _gone = wire.send(&pong).await;
            }
        }
    };
    within("a caller that reads nothing is cut off", end).await;
    others_are_answered(&daemon, &tls).await;
}

#[tokio::test]
async fn a_caller_that_follows_attempts_is_not_cut_off() {
    let (daemon, tls) = started().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut wire = Wire::open(&daemon, &tls, &[]).await;
    let head = head(&daemon, "GET", "/v1/attempts/stream");
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head);
    wire.send(&request).await.unwrap();
    let next = async |wire: &mut Wire, kind| {
        let reading = async {
            loop {
                let frame = wire.frame().await.expect("the connection goes on");
                if (frame.kind, frame.id) == (kind, 1) {
                    return String::from_utf8_lossy(&frame.payload).into_owned();
                }
            }
        };
        within("the next frame of the stream", reading).await
    };
    next(&mut wire, HEADERS).await;
    for _ in 0..2 {
        api.event("a.b", 1.into()).await;
        let told = next(&mut wire, DATA).await;
        assert!(told.contains("event: attempt"), "{told}");
        // Two that say nothing for as long as that is allowed, one after the other.
        for _ in 0..2 {
            Wire::open(&daemon, &tls, &[]).await.end().await;
        }
    }
}

#[tokio::test]
async fn too_many_headers_are_refused_as_over_http1() {
    let (daemon, tls) = started().await;
    let long = field("x-long", &"v".repeat(17_000));
    let many: Vec<u8> = (0..101)
        .flat_map(|n| field(&format!("x-{n}"), "v"))
        .collect();
    for more in [long, many] {
        let mut wire = Wire::open(&daemon, &tls, &[]).await;
        let block = [head(&daemon, "GET", "/v1/stats"), more].concat();
        let mut parts = block.chunks(16_000).peekable();
        let first = parts.next().unwrap();
        let ends = |last: bool| if last { END_HEADERS } else { 0 };
        let flags = END_STREAM | ends(parts.peek().is_none());
        wire.send(&frame(HEADERS, flags, 1, first)).await.unwrap();
        while let Some(part) = parts.next() {
            let flags = ends(parts.peek().is_none());
            wire.send(&frame(CONTINUATION, flags, 1, part))
                .await
                .unwrap();
        }
        let answer = wire.answer(1).await;
        let body: Vec<u8> = answer
            .iter()
            .filter(|frame| frame.kind == DATA)
            .flat_map(|frame| frame.payload.clone())
            .collect();
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("headers_too_large"), "{body}");
    }
}
