//! Attempts against partners of every kind, over real sockets on the loopback address. Time stands still but for waiting.

mod connecting;

use super::*;
use crate::target::Pattern;
use http::HeaderValue;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

fn settings() -> Settings {
    Settings {
        timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(5),
        pool_idle: Duration::from_secs(4),
        pool_max_age: Duration::from_secs(300),
        pool_connections: 8,
        response_bytes: 64 * 1024,
        excerpt_bytes: 16,
        policy: TargetPolicy {
            allow: vec!["127.0.0.0/8".parse::<Pattern>().unwrap()],
            allow_http: true,
            ..TargetPolicy::default()
        },
        name_servers: Vec::new(),
        extra_roots: Vec::new(),
    }
}

fn client() -> Client {
    Client::new(&settings()).unwrap()
}

/// What a partner saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
    /// Told when a partner sees a connection closed.
    closed: Notify,
    /// Tells a partner to close one.
    close: Notify,
}

impl Seen {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// A partner that handles each connection so; its address.
async fn partner<F, R>(handle: F) -> (SocketAddr, Arc<Seen>)
where
    F: Fn(TcpStream, Arc<Seen>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(handle(stream, shared.clone()));
        }
    });
    (address, seen)
}

/// Reads one whole request; `None` when the connection is closed.
async fn read_request(stream: &mut TcpStream, seen: &Seen) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        if n == 0 {
            seen.closed.notify_one();
            return None;
        }
        bytes.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .split("\r\n")
                .find_map(|l| l.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                seen.requests.lock().unwrap().push(text);
                return Some(());
            }
        }
    }
}

/// A partner that answers every request with these bytes.
async fn answering(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<Seen>) {
    let answer = Arc::new(answer.into());
    partner(move |mut stream, seen| {
        let answer = answer.clone();
        async move {
            while read_request(&mut stream, &seen).await.is_some() {
                let _ = stream.write_all(&answer).await;
            }
        }
    })
    .await
}

fn target(url: &str) -> Target {
    Target::new(url, &settings().policy).unwrap()
}

async fn attempt(client: &Client, to: &Target) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("b"));
    let request = AttemptRequest {
        target: to,
        headers,
        body: Bytes::from_static(b"{}"),
        still_wanted: &|| true,
    };
    match client.attempt(request).await {
        Attempted::Reply(reply) => reply,
        Attempted::NotSent => panic!("not sent"),
    }
}

async fn attempt_to(address: SocketAddr) -> Reply {
    attempt(&client(), &target(&format!("http://{address}/"))).await
}

fn status(code: u16) -> Reply {
    Reply::Status {
        code,
        retry_after: None,
        excerpt: Vec::new(),
    }
}

#[track_caller]
fn assert_failed(reply: &Reply, expected: Failure, says: &str) {
    let Reply::Failed(failure, why) = reply else {
        panic!("expected {expected:?}, got {reply:?}");
    };
    assert_eq!(*failure, expected, "{why}");
    assert!(why.contains(says), "{why}");
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(start_paused = true)]
async fn the_request_on_the_wire_is_this_one() {
    let (address, seen) = answering(OK).await;
    let to = target(&format!("http://{address}/hooks?a=b|c"));
    assert_eq!(attempt(&client(), &to).await, status(200));
    let request = seen.requests.lock().unwrap().remove(0);
    let expected = format!(
        "POST /hooks?a=b|c HTTP/1.1\r\nx-a: b\r\nhost: {address}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    assert_eq!(request, expected);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_until_it_was_idle_for_too_long() {
    let (address, seen) = answering(OK).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    for _ in 0..5 {
        assert_eq!(attempt(&client, &to).await, status(200));
        tokio::time::sleep(Duration::from_millis(3_900)).await;
    }
    assert_eq!((seen.connections(), seen.requests()), (1, 5));
    seen.closed.notified().await;
    assert_eq!(client.inner.pool.idle_count(), 0);
    attempt(&client, &to).await;
    assert_eq!(seen.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_dropped_when_the_partner_says_it_will_close_it() {
    let answer = "HTTP/1.1 204 No Content\r\nKeep-Alive: max=5, timeout=2\r\n\r\n";
    let (address, seen) = answering(answer).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    attempt(&client, &to).await;
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    attempt(&client, &to).await;
    assert_eq!(seen.connections(), 1);
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    attempt(&client, &to).await;
    assert_eq!(seen.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_partner_closed_meanwhile_is_replaced_by_a_fresh_one() {
    for answer in [
        OK,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (address, seen) = partner(move |mut stream, seen| async move {
            read_request(&mut stream, &seen).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let (client, to) = (client(), target(&format!("http://{address}/")));
        for n in 1..=4 {
            assert_eq!(attempt(&client, &to).await, status(200));
            assert_eq!((seen.connections(), seen.requests()), (n, n));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_while_it_was_idle_is_not_used() {
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        seen.close.notified().await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    for n in 1..=4 {
        assert_eq!(attempt(&client, &to).await, status(200));
        assert_eq!((seen.connections(), seen.requests()), (n, n));
        assert_eq!(client.inner.pool.idle_count(), 1);
        seen.close.notify_one();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_pool_keeps_no_more_than_its_bound() {
    let client = client();
    for _ in 0..20 {
        let (address, _) = answering(OK).await;
        attempt(&client, &target(&format!("http://{address}/"))).await;
        assert!(client.inner.pool.idle_count() <= 8);
    }
    assert_eq!(client.inner.pool.idle_count(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_written_is_not_sent_again() {
    // The second request on a connection meets its end.
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        read_request(&mut stream, &seen).await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    assert_eq!(attempt(&client, &to).await, status(200));
    let reply = attempt(&client, &to).await;
    assert_failed(&reply, Failure::Protocol, "closed before an answer");
    assert_eq!((seen.connections(), seen.requests()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_hangs_times_out_and_its_connection_is_closed() {
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        read_request(&mut stream, &seen).await;
    })
    .await;
    let before = clock::deadline(Duration::ZERO);
    assert_failed(
        &attempt_to(address).await,
        Failure::Timeout,
        "no answer within 15s",
    );
    assert_eq!(before.elapsed(), Duration::from_secs(15));
    seen.closed.notified().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_an_attempt_closes_its_connection() {
    let (address, seen) = partner(|mut stream, seen| async move {
        while read_request(&mut stream, &seen).await.is_some() {}
    })
    .await;
    let attempt = tokio::time::timeout(Duration::from_secs(1), attempt_to(address)).await;
    assert!(attempt.is_err());
    seen.closed.notified().await;
}

#[tokio::test(start_paused = true)]
async fn headers_that_drip_a_byte_a_second_time_out() {
    let (address, _) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        for byte in OK.bytes() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = stream.write_all(&[byte]).await;
        }
    })
    .await;
    assert_failed(&attempt_to(address).await, Failure::Timeout, "no answer");
}

#[tokio::test(start_paused = true)]
async fn endless_headers_are_a_protocol_failure() {
    for line in [
        "a: b\r\n",
        "a: 0123456789012345678901234567890123456789\r\n",
    ] {
        let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
        answer.extend(line.repeat(100_000).bytes());
        let (address, _) = answering(answer).await;
        assert_failed(&attempt_to(address).await, Failure::Protocol, "too large");
    }
    let line = format!("a: {}\r\n", "b".repeat(600));
    let answer = format!("HTTP/1.1 204 No Content\r\n{}\r\n", line.repeat(95));
    let (address, _) = answering(answer).await;
    assert_eq!(attempt_to(address).await, status(204), "57 KB are fine");
}

#[tokio::test(start_paused = true)]
async fn headers_are_bounded_by_their_bytes_however_those_arrive() {
    let block = |lines: usize, bytes: usize| -> String {
        let line = |n: usize| format!("x-{n}: {}\r\n", "v".repeat(bytes));
        let lines: String = (0..lines).map(line).collect();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n")
    };
    for fine in [block(300, 1), block(63, 1_000)] {
        let (address, _) = answering(fine).await;
        assert_eq!(attempt_to(address).await, status(200));
    }
    for too_many in [block(66, 1_000), block(100, 1_000)] {
        let (at_once, _) = answering(too_many.clone()).await;
        let (in_pieces, _) = partner(move |mut stream, seen| {
            let answer = too_many.clone();
            async move {
                read_request(&mut stream, &seen).await;
                for piece in answer.as_bytes().chunks(4_000) {
                    let _ = stream.write_all(piece).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                std::future::pending::<()>().await;
            }
        })
        .await;
        for address in [at_once, in_pieces] {
            let reply = attempt_to(address).await;
            assert_failed(&reply, Failure::Protocol, "headers are too large");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_when_there_is_a_connection_is_not_sent() {
    let (address, seen) = answering(OK).await;
    let to = target(&format!("http://{address}/"));
    let client = client();
    let request = AttemptRequest {
        target: &to,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        still_wanted: &|| false,
    };
    assert_eq!(client.attempt(request).await, Attempted::NotSent);
    assert_eq!(client.inner.pool.idle_count(), 1);
    assert_eq!(attempt(&client, &to).await, status(200));
    assert_eq!((seen.connections(), seen.requests()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_after_a_2xx_is_success_and_ends_the_connection() {
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(b"4\r\nabcd\r\n").await.is_ok() {}
        seen.closed.notify_one();
    })
    .await;
    let client = client();
    let to = target(&format!("http://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    seen.closed.notified().await;
    assert_eq!(client.inner.pool.idle_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_or_is_cut_after_a_2xx_is_success_soon() {
    let head = "HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\nabc";
    let (drips, _) = answering(head).await;
    let (cuts, _) = partner(move |mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.write_all(head.as_bytes()).await.unwrap();
    })
    .await;
    let before = clock::deadline(Duration::ZERO);
    assert_eq!(attempt_to(drips).await, status(202));
    assert_eq!(attempt_to(cuts).await, status(202));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn of_a_failure_the_beginning_is_kept_as_it_came() {
    let answer = b"HTTP/1.1 503 No\r\nretry-after: 120\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n\xff\x00345678901234567890";
    let (address, _) = answering(*answer).await;
    let expected = Reply::Status {
        code: 503,
        retry_after: Some(b"120".to_vec()),
        excerpt: b"\xff\x0034567890123456".to_vec(),
    };
    assert_eq!(attempt_to(address).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_failure_whose_body_never_ends_is_that_failure_with_what_came() {
    let answer = "HTTP/1.1 500 Oops\r\ncontent-length: 1000\r\n\r\nsorry";
    let (address, _) = answering(answer).await;
    let reply = attempt_to(address).await;
    let Reply::Status { code, excerpt, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!((code, excerpt.as_slice()), (500, &b"sorry"[..]));
}

#[tokio::test(start_paused = true)]
async fn of_a_body_no_more_than_the_bound_is_read_before_the_connection_is_dropped() {
    for (bytes, kept) in [(64 * 1024, 1), (64 * 1024 + 1, 0)] {
        let body = "x".repeat(bytes);
        let answer = format!("HTTP/1.1 400 Bad\r\ncontent-length: {bytes}\r\n\r\n{body}");
        let (address, _) = answering(answer).await;
        let client = client();
        attempt(&client, &target(&format!("http://{address}/"))).await;
        assert_eq!(client.inner.pool.idle_count(), kept, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_answered_with_its_status_and_not_followed() {
    let (elsewhere, untouched) = answering(OK).await;
    let answer =
        format!("HTTP/1.1 307 Go\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = answering(answer).await;
    assert_eq!(attempt_to(address).await, status(307));
    assert_eq!(untouched.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn interim_answers_are_skipped() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{hints}{hints}{OK}");
    let (address, _) = answering(answer).await;
    assert_eq!(attempt_to(address).await, status(200));
}

#[tokio::test(start_paused = true)]
async fn garbage_and_a_reset_are_protocol_failures() {
    let (address, _) = answering("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    assert_failed(&attempt_to(address).await, Failure::Protocol, "not HTTP");
    let (address, _) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_failed(&attempt_to(address).await, Failure::Protocol, "reset");
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_failed(&attempt_to(address).await, Failure::Connect, "refused");
}

#[tokio::test]
async fn a_name_that_leads_to_a_refused_address_is_refused_before_anything_is_sent() {
    let (address, seen) = answering(OK).await;
    let policy = TargetPolicy {
        allow: vec!["localhost".parse::<Pattern>().unwrap()],
        ..settings().policy
    };
    let url = format!("http://localhost:{}/", address.port());
    let to = Target::new(&url, &policy).unwrap();
    let refusing = Client::new(&Settings {
        policy,
        ..settings()
    })
    .unwrap();
    let reply = attempt(&refusing, &to).await;
    assert_failed(&reply, Failure::TargetRefused, "private_v");
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn an_own_listener_is_refused_even_when_its_address_is_allowed() {
    let (address, seen) = answering(OK).await;
    let mut settings = settings();
    let to = target(&format!("http://{address}/"));
    settings.policy.own_listener = Some(address);
    let reply = attempt(&Client::new(&settings).unwrap(), &to).await;
    assert_failed(&reply, Failure::TargetRefused, "own_listener");
    assert_eq!(seen.connections(), 0);
}

/// What accepts TLS and offers these protocols, and the PEM of its certificate.
fn acceptor(alpn: &[&[u8]]) -> (tokio_rustls::TlsAcceptor, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (Arc::new(config).into(), file)
}

/// A partner over TLS that offers these protocols, and the PEM of its certificate.
async fn secure_partner(alpn: &[&[u8]]) -> (SocketAddr, Arc<Seen>, tempfile::NamedTempFile) {
    secure_partner_taking(100, alpn).await
}

/// The same, taking so many HTTP/2 requests over one connection at once.
async fn secure_partner_taking(
    streams: u32,
    alpn: &[&[u8]],
) -> (SocketAddr, Arc<Seen>, tempfile::NamedTempFile) {
    let (acceptor, file) = acceptor(alpn);
    let (address, seen) = partner(move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: http::Request<_>| {
                let authority = request.uri().authority().map(ToString::to_string);
                let line = format!("{:?} {authority:?}", request.version());
                seen.requests.lock().unwrap().push(line);
                let hangs = request.uri().path() == "/hang";
                async move {
                    let _: hyper::body::Incoming = request.into_body();
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    let body = http_body_util::Full::new(Bytes::from_static(b"ok"));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                }
            });
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .http2()
                .max_concurrent_streams(streams)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
    (address, seen, file)
}

#[tokio::test]
async fn http2_is_spoken_where_the_partner_offers_it_and_its_connection_is_shared() {
    let (address, seen, root) = secure_partner(&[b"h2", b"http/1.1"]).await;
    let settings = Settings {
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    let many = (0..50).map(|_| attempt(&client, &to));
    for reply in futures_util::future::join_all(many).await {
        assert_eq!(reply, status(200));
    }
    assert_eq!((seen.connections(), seen.requests()), (1, 51));
    let expected = format!("HTTP/2.0 Some(\"{address}\")");
    assert!(seen.requests.lock().unwrap().iter().all(|r| *r == expected));
    assert_eq!(client.inner.pool.idle_count(), 1);
}

#[tokio::test]
async fn no_more_is_sent_over_a_shared_connection_than_the_partner_takes_at_once() {
    let (address, seen, root) = secure_partner_taking(2, &[b"h2"]).await;
    let settings = Settings {
        timeout: Duration::from_millis(500),
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    let hanging = target(&format!("https://{address}/hang"));
    let many = (0..6).map(|_| attempt(&client, &hanging));
    for reply in futures_util::future::join_all(many).await {
        assert_failed(&reply, Failure::Timeout, "no answer");
    }
    // Each was on the wire when its time was over: none is sent afterwards.
    assert_eq!(seen.requests(), 7);
    assert!(seen.connections() >= 3, "{}", seen.connections());
}

#[tokio::test]
async fn http11_is_spoken_over_tls_where_the_partner_offers_nothing_else() {
    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let (address, seen, root) = secure_partner(alpn).await;
        let settings = Settings {
            extra_roots: vec![root.path().to_owned()],
            ..settings()
        };
        let client = Client::new(&settings).unwrap();
        let to = target(&format!("https://{address}/"));
        for _ in 0..3 {
            assert_eq!(attempt(&client, &to).await, status(200));
        }
        assert_eq!(seen.connections(), 1);
        assert_eq!(seen.requests.lock().unwrap()[0], "HTTP/1.1 None");
    }
}

#[tokio::test]
async fn a_connection_over_tls_that_is_not_kept_is_closed_with_a_goodbye() {
    let (acceptor, root) = acceptor(&[b"http/1.1"]);
    let (said, hears) = tokio::sync::oneshot::channel();
    let said = Mutex::new(Some(said));
    let (address, _) = partner(move |stream, _| {
        let (acceptor, said) = (acceptor.clone(), said.lock().unwrap().take());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
            // An end without `close_notify` is an error (RFC 8446, section 6.1).
            let end = stream.read(&mut [0; 16]).await;
            said.unwrap().send(end.ok()).unwrap();
        }
    })
    .await;
    let settings = Settings {
        pool_idle: Duration::ZERO,
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    assert_eq!(hears.await, Ok(Some(0)));
}

#[tokio::test]
async fn after_a_hanging_request_a_shared_connection_takes_no_new_ones() {
    let (address, seen, root) = secure_partner(&[b"h2"]).await;
    let settings = Settings {
        timeout: Duration::from_millis(300),
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let hanging = attempt(&client, &target(&format!("https://{address}/hang"))).await;
    assert_failed(&hanging, Failure::Timeout, "no answer");
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    assert_eq!(seen.connections(), 2);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_tls_failure() {
    let (address, seen, _root) = secure_partner(&[b"h2"]).await;
    let reply = attempt(&client(), &target(&format!("https://{address}/"))).await;
    assert_failed(&reply, Failure::Tls, "certificate");
    assert_eq!(seen.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_answers_is_a_tls_failure_within_the_time_to_connect() {
    let (address, _) = partner(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let before = clock::deadline(Duration::ZERO);
    let reply = attempt(&client(), &target(&format!("https://{address}/"))).await;
    assert_failed(&reply, Failure::Tls, "longer than 5s");
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[test]
fn an_extra_root_that_is_no_certificate_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = Settings {
        extra_roots: vec![file.path().to_owned()],
        ..settings()
    };
    let error = Client::new(&settings).err().unwrap();
    assert!(matches!(error, TrustError::Empty(_)), "{error}");
    let missing = Settings {
        extra_roots: vec!["/nowhere.pem".into()],
        ..settings
    };
    let error = Client::new(&missing).err().unwrap().to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
}
