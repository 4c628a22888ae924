//! Attempts against receivers of every kind, over real sockets on the loopback address. The clock advances only while
//! tests wait.

mod answers;
mod connecting;
mod early;
mod kept;
mod odd;
mod proxied;
mod secure;
mod streams;

use super::*;
use crate::target::Pattern;
use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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
        policy: TargetPolicy {
            allow: vec!["127.0.0.0/8".parse::<Pattern>().unwrap()],
            allow_http: true,
            ..TargetPolicy::default()
        },
        name_servers: Vec::new(),
        extra_roots: Vec::new(),
        proxy: None,
        proxy_credentials_file: None,
    }
}

fn client() -> Client {
    Client::new(&settings()).unwrap()
}

/// What a receiver saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
    /// Notified when a receiver sees a connection closed.
    closed: Notify,
    /// Makes a receiver close a connection.
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

/// Starts a receiver that handles each connection like this, and returns its address.
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
            // Input that is held back when a connection is reset is lost.
            stream.set_nodelay(true).unwrap();
            shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(handle(stream, shared.clone()));
        }
    });
    (address, seen)
}

/// Reads one whole request; `None` if the connection is closed.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), seen: &Seen) -> Option<()> {
    let (head, length) = read_head(stream, seen).await?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let text = head + &String::from_utf8(body).unwrap();
    seen.requests.lock().unwrap().push(text);
    Some(())
}

/// Reads the head of a request and no further byte, and returns the length of the body.
async fn read_head(stream: &mut (impl AsyncRead + Unpin), seen: &Seen) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            seen.closed.notify_one();
            return None;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let length = lines.find_map(|l| l.strip_prefix("content-length: "));
    let length = length.unwrap().parse().unwrap();
    Some((head, length))
}

/// Starts a receiver that answers every request with these bytes.
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
    attempt_with(client, to, Bytes::from_static(b"{}")).await.0
}

/// Makes an attempt with this body, and returns the reply and whether the request was sent again.
async fn attempt_with(client: &Client, to: &Target, body: Bytes) -> (Reply, bool) {
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("b"));
    let request = AttemptRequest {
        headers,
        body,
        excerpt_bytes: 16,
        still_wanted: &|| true,
    };
    match client.attempt(to, request).await {
        Attempted::Reply { reply, reconnected } => (reply, reconnected),
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
        "did not answer within 15s",
    );
    assert_eq!(before.elapsed(), Duration::from_secs(15));
    seen.closed.notified().await;
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
