//! A client of the daemon: one connection per call, over the Unix socket or TCP, with the checks that apply to every
//! response (`x-request-id`, the form of a problem, the daemon's own description).

use super::{Tls, document, until, within};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Clone)]
enum Via {
    Unix(PathBuf),
    Tcp(SocketAddr, Option<String>),
    Tls(SocketAddr, Option<String>, TlsConnector),
}

/// Where calls go, and with which token.
#[derive(Clone)]
pub(crate) struct Client {
    via: Via,
}

type AnyBody = BoxBody<Bytes, Infallible>;

impl Client {
    pub(crate) fn unix(path: PathBuf) -> Self {
        Self {
            via: Via::Unix(path),
        }
    }

    pub(crate) fn tcp(address: SocketAddr, token: Option<String>) -> Self {
        Self {
            via: Via::Tcp(address, token),
        }
    }

    /// Over TLS and HTTP/1.1, trusting the authority of this certificate.
    pub(crate) fn tls(address: SocketAddr, token: Option<String>, tls: &Tls) -> Self {
        let connector = tls.connector(rustls::DEFAULT_VERSIONS, &["http/1.1"]);
        Self {
            via: Via::Tls(address, token, connector),
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.via, Via::Tcp(..))
    }

    /// The token that it shows, if it shows one.
    pub(crate) fn token(&self) -> Option<String> {
        match &self.via {
            Via::Unix(_) => None,
            Via::Tcp(_, token) | Via::Tls(_, token, _) => token.clone(),
        }
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match &self.via {
            Via::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Via::Tcp(address, _) => Box::new(TcpStream::connect(address).await?),
            Via::Tls(address, _, connector) => {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::from(address.ip());
                Box::new(connector.connect(name, stream).await?)
            }
        })
    }

    /// Starts a call that can be given headers and a body.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call<'_> {
        let mut headers = Vec::new();
        match &self.via {
            Via::Unix(_) => headers.push(("host".to_owned(), "localhost".to_owned())),
            Via::Tcp(address, token) | Via::Tls(address, token, _) => {
                headers.push(("host".to_owned(), address.to_string()));
                if let Some(token) = token {
                    headers.push(("authorization".to_owned(), format!("Bearer {token}")));
                }
            }
        }
        Call {
            client: self,
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            headers,
            body: Bytes::new(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Payload>) -> Answer {
        self.call("POST", path).json(body).send().await
    }

    pub(crate) async fn patch(&self, path: &str, body: impl Into<Payload>) -> Answer {
        self.call("PATCH", path).json(body).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path).send().await
    }

    /// Writes these bytes to a new connection and reads until the daemon closes it.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await.expect("the daemon accepts");
        // The daemon may refuse, answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = within(
            "the daemon closes the connection",
            stream.read_to_end(&mut answer),
        )
        .await;
        answer
    }

    /// A bare connection.
    pub(crate) async fn open(&self) -> impl AsyncRead + AsyncWrite + Send + Unpin + use<> {
        self.connect().await.expect("the daemon accepts")
    }

    /// Creates an endpoint of organization `org_1` and returns the daemon's response.
    pub(crate) async fn endpoint(&self, url: &str, types: &[&str]) -> Value {
        self.endpoint_with(url, types, json!({})).await
    }

    /// The same with more fields.
    pub(crate) async fn endpoint_with(&self, url: &str, types: &[&str], more: Value) -> Value {
        let mut body = json!({"organizationId": "org_1", "url": url, "eventTypes": types});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.post("/v1/endpoints", body).await.expect(201)
    }

    /// Sends an event of organization `org_1` and returns its id.
    pub(crate) async fn event(&self, kind: &str, data: Value) -> String {
        let body = json!({"organizationId": "org_1", "type": kind, "data": data});
        let accepted = self.post("/v1/events", body).await.expect(202);
        accepted["id"].as_str().unwrap().to_owned()
    }

    /// The deliveries of an event.
    pub(crate) async fn deliveries(&self, event: &str) -> Vec<Value> {
        let page = self
            .get(&format!("/v1/deliveries?eventId={event}"))
            .await
            .expect(200);
        page["data"].as_array().unwrap().clone()
    }

    /// The one delivery of an event that goes to one endpoint.
    pub(crate) async fn delivery_of(&self, event: &str) -> Value {
        let mut all = self.deliveries(event).await;
        assert_eq!(all.len(), 1, "{all:?}");
        let id = all.remove(0)["id"].as_str().unwrap().to_owned();
        self.delivery(&id).await
    }

    pub(crate) async fn delivery(&self, id: &str) -> Value {
        self.get(&format!("/v1/deliveries/{id}")).await.expect(200)
    }

    /// The event's one delivery once it has this status.
    pub(crate) async fn delivery_when(&self, event: &str, status: &str) -> Value {
        until(&format!("{event} is {status}"), async || {
            Some(self.delivery_of(event).await).filter(|it| it["status"] == status)
        })
        .await
    }

    /// Every element of a list, over all its pages.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}{cursor}")).await.expect(200);
            all.extend(page["data"].as_array().unwrap().iter().cloned());
            let Some(next) = page["nextCursor"].as_str() else {
                return all;
            };
            let sign = if path.contains('?') { '&' } else { '?' };
            cursor = format!("{sign}cursor={}", encode(next));
        }
    }

    pub(crate) async fn stats(&self, query: &str) -> Value {
        self.get(&format!("/v1/stats{query}")).await.expect(200)
    }

    /// Starts a streamed upload; the response's lines can be read while it continues.
    pub(crate) async fn upload(&self, path: &str, content_type: &str) -> Upload {
        let (lines, receiver) = mpsc::channel(1);
        let mut call = self.call("POST", path);
        call.headers
            .push(("content-type".to_owned(), content_type.to_owned()));
        let body = BodyExt::boxed(Chunks(receiver));
        let request = call.request(body);
        let stream = self.connect().await.expect("the daemon accepts");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let answer = tokio::spawn(async move { sender.send_request(request).await });
        Upload {
            lines: Some(lines),
            answer,
            connection,
        }
    }

    /// Opens a server-sent event stream (or any answer read line by line).
    pub(crate) async fn follow(&self, path: &str) -> Lines {
        let response = self
            .call("GET", path)
            .begin()
            .await
            .expect("the daemon answers");
        assert_eq!(response.status(), 200);
        Lines::new(response.into_parts().1)
    }

    /// Sends a whole NDJSON text and returns the answer's lines.
    pub(crate) async fn batch(&self, text: &str) -> Vec<Value> {
        let answer = self
            .call("POST", "/v1/events/batch")
            .header("content-type", "application/x-ndjson")
            .body(text.to_owned())
            .send()
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.lines()
    }
}

/// Percent-encodes characters of a cursor or a time that a query must not contain.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// A request body: JSON, or bytes.
pub(crate) struct Payload(Bytes);

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self(Bytes::from(value.to_string()))
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self(Bytes::from(text.to_owned()))
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::from(bytes))
    }
}

/// A call being built.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Call<'_> {
    /// Sets a header; `host` and `authorization` replace the client's own.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if name == "host" || name == "authorization" {
            self.headers.retain(|(have, _)| have != name);
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Payload>) -> Self {
        self.body = body.into().0;
        self
    }

    pub(crate) fn json(self, body: impl Into<Payload>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    fn request(&self, body: AnyBody) -> Request<AnyBody> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body).unwrap()
    }

    async fn begin(self) -> Result<http::Response<Incoming>, String> {
        let stream = self
            .client
            .connect()
            .await
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let request = self.request(Full::new(self.body.clone()).boxed());
        let answer = within("the daemon answers", sender.send_request(request)).await;
        answer.map_err(|error| error.to_string())
    }

    pub(crate) async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        match self.try_send().await {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    /// Returns `Err` if the daemon is gone or cuts the connection.
    pub(crate) async fn try_send(self) -> Result<Answer, String> {
        let what = format!("{} {}", self.method, self.path);
        let (method, path, sent) = (self.method.clone(), self.path.clone(), self.body.clone());
        let (parts, body) = self.begin().await?.into_parts();
        let body = within("the answer's body", body.collect()).await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let answer = Answer {
            what,
            status: parts.status,
            headers: parts.headers,
            body,
        };
        assert!(
            answer.headers.contains_key("x-request-id"),
            "no x-request-id: {answer:?}"
        );
        document::check(method.as_str(), &path, &sent, &answer);
        Ok(answer)
    }
}

/// A complete response.
pub(crate) struct Answer {
    what: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(
            f,
            "{} → {} {:?}\n{body}",
            self.what, self.status, self.headers
        )
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The NDJSON lines of the body.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns the JSON of a response that must have this status; null if it has no body.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Asserts that the status is 200, whatever the body.
    #[track_caller]
    pub(crate) fn expect_ok(&self) {
        assert_eq!(self.status.as_u16(), 200, "{self:?}");
    }

    /// Returns the problem of a response that must have this status and code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "expected {code}: {self:?}");
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "{self:?}");
        let problem = self.json();
        check_problem(&problem, status, code);
        problem
    }

    /// The same for a problem that names a field.
    #[track_caller]
    pub(crate) fn problem_in(&self, status: u16, code: &str, field: &str) -> Value {
        let problem = self.problem(status, code);
        assert_eq!(problem["field"], field, "{self:?}");
        problem
    }
}

/// Checks the members of RFC 9457 and the stable code.
#[track_caller]
pub(crate) fn check_problem(problem: &Value, status: u16, code: &str) {
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    for member in ["type", "title", "detail"] {
        let text = problem[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "no {member}: {problem}");
    }
}

/// An upload in progress.
pub(crate) struct Upload {
    lines: Option<mpsc::Sender<Bytes>>,
    answer: tokio::task::JoinHandle<hyper::Result<http::Response<Incoming>>>,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Upload {
    pub(crate) async fn write(&mut self, bytes: impl Into<Bytes>) {
        let lines = self.lines.as_ref().expect("the upload goes on");
        within("the daemon reads", lines.send(bytes.into()))
            .await
            .expect("the upload goes on");
    }

    /// Writes if the daemon still reads; returns false if it has closed the connection.
    pub(crate) async fn offer(&mut self, bytes: impl Into<Bytes>) -> bool {
        self.lines
            .as_ref()
            .expect("the upload goes on")
            .send(bytes.into())
            .await
            .is_ok()
    }

    /// Ends the body.
    pub(crate) fn finish(&mut self) {
        self.lines = None;
    }

    /// Returns the response's head, which arrives immediately, and its lines to read.
    pub(crate) async fn answer(&mut self) -> (StatusCode, Lines) {
        let response = within("the answer begins", &mut self.answer)
            .await
            .unwrap()
            .unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, Lines::new(body))
    }

    /// Cuts the connection in the middle.
    pub(crate) fn cut(self) {
        self.connection.abort();
        self.answer.abort();
    }
}

pub(crate) struct Chunks(pub(crate) mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A response read line by line as it arrives.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
        }
    }

    /// The next line without its end; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            let frame = within("the next line of the answer", self.body.frame()).await;
            match frame {
                Some(Ok(frame)) => {
                    self.buffer
                        .extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(crate) async fn next_json(&mut self) -> Value {
        let line = self.next().await.expect("another line");
        let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        document::check_value("BatchAnswer", &value);
        value
    }

    /// Returns the next server-sent event: its name (`message` if it has none) and its data.
    pub(crate) async fn next_sse(&mut self) -> (String, String) {
        let (mut name, mut data) = ("message".to_owned(), String::new());
        loop {
            let line = self.next().await.expect("the stream goes on");
            if line.is_empty() {
                if !data.is_empty() {
                    let event = json!({"event": name, "data": data});
                    document::check_value("StreamedEvent", &event);
                    let schema = match name.as_str() {
                        "attempt" => "FinishedAttempt",
                        _ => "MissedAttempts",
                    };
                    document::check_value(schema, &serde_json::from_str(&data).unwrap());
                    return (name, data);
                }
            } else if let Some(text) = line.strip_prefix("event:") {
                text.trim().clone_into(&mut name);
            } else if let Some(text) = line.strip_prefix("data:") {
                data.push_str(text.trim_start());
            }
        }
    }
}
