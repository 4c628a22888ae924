//! A receiver: an HTTP server on a loopback port that records every request and answers by script. HTTP/1.1 is read and
//! written by hand, since most scripts are responses that no HTTP library would send; HTTP/2 is hyper's.

use super::{PATIENCE, within};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The files that [`Tls::write_to`] writes.
pub(crate) const CERTIFICATE_FILE: &str = "listener.pem";
pub(crate) const KEY_FILE: &str = "listener.key";

/// One request as received.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case, in the order received.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
    pub(crate) wall: SystemTime,
    /// The connection of this receiver that it arrived on, from 0.
    pub(crate) connection: usize,
    pub(crate) http2: bool,
}

impl Recorded {
    pub(crate) fn header_opt(&self, name: &str) -> Option<String> {
        let mut values = self.headers.iter().filter(|(have, _)| have == name);
        let value = values.next().map(|(_, value)| value.clone());
        assert!(
            values.next().is_none(),
            "{name} came twice: {:?}",
            self.headers
        );
        value
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> String {
        self.header_opt(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    pub(crate) fn event(&self) -> String {
        self.header("webhook-id")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the bytes of `data`, which is the last member of the body.
    pub(crate) fn data(&self) -> &str {
        let text = self.text();
        let at = text.find(r#","data":"#).expect("a data member") + r#","data":"#.len();
        text[at..].strip_suffix('}').expect("an object")
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status with an empty body.
    Status(u16),
    /// Status, additional header lines, body.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Waits, then answers.
    After(Duration, Box<Reply>),
    /// Waits for a permit of [`Receiver::release`], then answers.
    Held(Box<Reply>),
    /// Never answers, and keeps the connection open.
    Hang,
    /// Answers with a TCP reset.
    Reset,
    /// Closes the connection without a byte.
    Close,
    /// Sends these bytes, then closes the connection.
    Raw(Vec<u8>),
    /// A valid response, one byte per interval.
    Drip(Duration),
    /// A status line and header lines without end.
    EndlessHeaders,
    /// This status and a body without end.
    EndlessBody(u16),
    /// This status, a promised length, part of the body, then the end of the connection.
    CutBody(u16),
}

impl Reply {
    pub(crate) fn body(status: u16, body: &str) -> Self {
        Self::Full(status, Vec::new(), body.as_bytes().to_vec())
    }

    pub(crate) fn with(status: u16, name: &'static str, value: &str) -> Self {
        Self::Full(status, vec![(name, value.to_owned())], Vec::new())
    }

    pub(crate) fn held(status: u16) -> Self {
        Self::Held(Box::new(Self::Status(status)))
    }
}

type Rule = Box<dyn FnMut(&Recorded) -> Reply + Send>;

struct Shared {
    requests: Mutex<Vec<Recorded>>,
    count: watch::Sender<usize>,
    script: Mutex<VecDeque<Reply>>,
    rule: Mutex<Rule>,
    gate: Semaphore,
    connections: watch::Sender<usize>,
}

impl Shared {
    fn record(&self, request: Recorded) -> Reply {
        let reply = match self.script.lock().unwrap().pop_front() {
            Some(reply) => reply,
            None => (self.rule.lock().unwrap())(&request),
        };
        let mut requests = self.requests.lock().unwrap();
        requests.push(request);
        self.count.send_replace(requests.len());
        reply
    }
}

/// The TLS configuration of a receiver; its certificate is issued by an authority made for the test.
pub(crate) struct Tls {
    /// The authority's certificate in PEM, for `tls.extra_roots`.
    pub(crate) root: String,
    /// The certificate and its key in PEM.
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    /// Whose certificates a client must have.
    clients: Option<CertificateDer<'static>>,
}

/// An authority that issues certificates to clients.
pub(crate) struct Clients {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Clients {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a test's clients");
        let certificate = parameters.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: rcgen::Issuer::new(parameters, key),
        }
    }

    /// Returns a certificate and its key in PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        self.issue_with(name, |_| {})
    }

    pub(crate) fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The authority's own certificate in PEM.
    pub(crate) fn root(&self) -> String {
        self.certificate.pem()
    }
}

impl Tls {
    /// A certificate that is valid for these names.
    pub(crate) fn for_names(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    /// The same for one that is valid for a year, until this time.
    pub(crate) fn for_names_until(names: &[&str], end: time::OffsetDateTime) -> Self {
        Self::with(names, |parameters| {
            parameters.not_before = end - time::Duration::days(365);
            parameters.not_after = end;
        })
    }

    /// The same with other properties.
    pub(crate) fn with(names: &[&str], change: impl Fn(&mut rcgen::CertificateParams)) -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a test's authority");
        let authority = parameters.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut leaf = rcgen::CertificateParams::new(names).unwrap();
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        Self {
            root: authority.pem(),
            certificate_pem: leaf.pem(),
            key_pem: key.serialize_pem(),
            certificate: leaf.der().clone(),
            key: key.serialize_der(),
            clients: None,
        }
    }

    /// The same, for clients with a certificate of this authority only.
    pub(crate) fn requiring(mut self, clients: &Clients) -> Self {
        self.clients = Some(clients.certificate.der().clone());
        self
    }

    /// Writes the certificate and its key to a directory, for `tls.certificate` and `tls.key`.
    pub(crate) fn write_to(&self, folder: &Path) {
        let key = folder.join(KEY_FILE);
        std::fs::write(folder.join(CERTIFICATE_FILE), &self.certificate_pem).unwrap();
        std::fs::write(&key, &self.key_pem).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    }

    /// Returns a client that trusts the authority and offers these protocols.
    pub(crate) fn connector(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocols: &[&str],
    ) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each handshake shows the certificate.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsConnector::from(Arc::new(config))
    }

    fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A running receiver; it ends with the test's runtime.
pub(crate) struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts a receiver that answers 200 until told otherwise.
    pub(crate) async fn start() -> Self {
        Self::serve(None).await
    }

    pub(crate) async fn answering(reply: Reply) -> Self {
        let receiver = Self::start().await;
        receiver.answer(reply);
        receiver
    }

    pub(crate) async fn tls(tls: &Tls, protocols: &[&str]) -> Self {
        Self::serve(Some(tls.acceptor(protocols))).await
    }

    async fn serve(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::new(Vec::new()),
            count: watch::Sender::new(0),
            script: Mutex::new(VecDeque::new()),
            rule: Mutex::new(Box::new(|_| Reply::Status(200))),
            gate: Semaphore::new(0),
            connections: watch::Sender::new(0),
        });
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Self {
            address,
            scheme,
            shared,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Answers like this from now on.
    pub(crate) fn answer(&self, reply: Reply) {
        self.answer_by(move |_| reply.clone());
    }

    pub(crate) fn answer_by(&self, rule: impl FnMut(&Recorded) -> Reply + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// Answers with these first, in order.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.script.lock().unwrap().extend(replies);
    }

    /// Lets this many held requests be answered.
    pub(crate) fn release(&self, requests: usize) {
        self.shared.gate.add_permits(requests);
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        *self.shared.count.borrow()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until this many requests have arrived, and returns all that have.
    pub(crate) async fn wait_for(&self, requests: usize) -> Vec<Recorded> {
        self.wait_for_within(requests, PATIENCE).await
    }

    pub(crate) async fn wait_for_within(&self, requests: usize, time: Duration) -> Vec<Recorded> {
        let mut count = self.shared.count.subscribe();
        let enough = count.wait_for(|count| *count >= requests);
        if tokio::time::timeout(time, enough).await.is_err() {
            let came = self.requests();
            let ids: Vec<_> = came.iter().map(|r| r.header_opt("webhook-id")).collect();
            panic!(
                "{} of {requests} requests came within {time:?}: {ids:?}",
                came.len()
            );
        }
        self.requests()
    }

    /// Waits until this many requests that satisfy `which` have arrived, and returns those.
    pub(crate) async fn wait_where(
        &self,
        requests: usize,
        which: impl Fn(&Recorded) -> bool,
    ) -> Vec<Recorded> {
        let mut count = self.shared.count.subscribe();
        within("the requests awaited come", async {
            loop {
                count.borrow_and_update();
                let came: Vec<_> = self.requests().into_iter().filter(|r| which(r)).collect();
                if came.len() >= requests {
                    return came;
                }
                count.changed().await.unwrap();
            }
        })
        .await
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let mut number = 0;
        shared.connections.send_modify(|count| {
            number = *count;
            *count += 1;
        });
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            let Some(acceptor) = acceptor else {
                return http1(stream, shared, number).await;
            };
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2(stream, shared, number).await;
            } else {
                http1(stream, shared, number).await;
            }
        });
    }
}

/// What a reply needs of the connection below TLS.
trait Connection: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn http1(mut stream: impl Connection, shared: Arc<Shared>, connection: usize) {
    let mut buffer = Vec::new();
    while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
        request.connection = connection;
        let reply = shared.record(request);
        if !write_reply(&mut stream, &shared, reply).await {
            return;
        }
    }
}

/// Reads a head and, by its `content-length`, a body. `None` at the end of the connection.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<Recorded> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..head_end).collect()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(Recorded {
        method,
        path,
        headers,
        body: buffer.drain(..length).collect(),
        at: Instant::now(),
        wall: SystemTime::now(),
        connection: 0,
        http2: false,
    })
}

fn head(status: u16, headers: &[(&'static str, String)], length: Option<usize>) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Some Reason\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(length) = length {
        text.push_str(&format!("content-length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Answers, and returns whether the connection can carry another request.
async fn write_reply(stream: &mut impl Connection, shared: &Shared, reply: Reply) -> bool {
    let endless = vec![b'x'; 8192];
    match settle(shared, reply).await {
        Reply::Status(status) => {
            let length = (status != 204 && status != 304).then_some(0);
            stream.write_all(&head(status, &[], length)).await.is_ok()
        }
        Reply::Full(status, headers, body) => {
            let mut bytes = head(status, &headers, Some(body.len()));
            bytes.extend_from_slice(&body);
            stream.write_all(&bytes).await.is_ok()
        }
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            false
        }
        Reply::Reset => {
            let _ = stream.tcp().set_zero_linger();
            false
        }
        Reply::Drip(interval) => {
            for byte in head(200, &[], Some(0)) {
                tokio::time::sleep(interval).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return false;
                }
                let _ = stream.flush().await;
            }
            true
        }
        Reply::EndlessHeaders => {
            let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
            while stream.write_all(&bytes).await.is_ok() {
                bytes = b"x-more: and more and more and more\r\n".repeat(100);
            }
            false
        }
        Reply::EndlessBody(status) => {
            let mut bytes = head(
                status,
                &[("content-length", "99999999999".to_owned())],
                None,
            );
            while stream.write_all(&bytes).await.is_ok() {
                bytes.clone_from(&endless);
            }
            false
        }
        Reply::CutBody(status) => {
            let mut bytes = head(status, &[], Some(1000));
            bytes.extend_from_slice(b"only this");
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            false
        }
        Reply::Close | Reply::After(..) | Reply::Held(_) | Reply::Hang => false,
    }
}

/// Waits as the reply says, and returns what to write then.
async fn settle(shared: &Shared, mut reply: Reply) -> Reply {
    loop {
        match reply {
            Reply::After(time, then) => {
                tokio::time::sleep(time).await;
                reply = *then;
            }
            Reply::Held(then) => {
                shared.gate.acquire().await.unwrap().forget();
                reply = *then;
            }
            Reply::Hang => std::future::pending().await,
            other => return other,
        }
    }
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    connection: usize,
) {
    let service =
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes().to_vec();
                let headers = parts.headers.iter().map(|(name, value)| {
                    (
                        name.as_str().to_owned(),
                        value.to_str().unwrap_or_default().to_owned(),
                    )
                });
                let reply = shared.record(Recorded {
                    method: parts.method.to_string(),
                    path: parts.uri.path().to_owned(),
                    headers: headers.collect(),
                    body,
                    at: Instant::now(),
                    wall: SystemTime::now(),
                    connection,
                    http2: true,
                });
                let (status, headers, body) = match settle(&shared, reply).await {
                    Reply::Status(status) => (status, Vec::new(), Vec::new()),
                    Reply::Full(status, headers, body) => (status, headers, body),
                    other => panic!("{other:?} can't be said in HTTP/2 here"),
                };
                let mut response = http::Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from(body))).unwrap())
            }
        });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
