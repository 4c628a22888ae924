//! Connections to other daemons: one to each, over which requests go side by side (HTTP/2, TLS with a pinned
//! certificate).

use super::PASSED;
use super::certificate;
use axum::body::Body;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use stormhook_postgres::cluster::{Member, Seat};
use stormhook_store::hex;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a connection to another daemon may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a connection without traffic is checked, and how long the answer may take.
const PING: Duration = Duration::from_secs(2);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// Nothing was sent.
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    /// It is not known whether the request was carried out.
    #[error("it gave no answer: {0}")]
    Unanswered(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connections {
    token: HeaderValue,
    open: Mutex<HashMap<Seat, Open>>,
}

#[derive(Clone, Debug)]
struct Open {
    /// Of the daemon that it leads to: another may have the seat since.
    incarnation: i64,
    sender: SendRequest<Body>,
}

/// Returns what daemons show each other, as a header.
pub(crate) fn bearer(token: &[u8]) -> HeaderValue {
    let text = format!("Bearer {}", hex(token));
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

impl Connections {
    pub(crate) fn new(token: &[u8]) -> Self {
        Self {
            token: bearer(token),
            open: Mutex::default(),
        }
    }

    /// Passes a request on to the daemon on this seat.
    pub(crate) async fn pass(
        &self,
        seat: Seat,
        member: &Member,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, PeerError> {
        let mut sender = self.sender(seat, member).await?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(PASSED, HeaderValue::from_static("1"));
        let answered = sender.send_request(request).await;
        answered.map_err(|error| {
            self.forget(seat);
            if error.is_canceled() {
                PeerError::Unreachable(error.to_string())
            } else {
                PeerError::Unanswered(error.to_string())
            }
        })
    }

    fn forget(&self, seat: Seat) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&seat);
    }

    /// Returns the connection to a daemon, or opens one.
    async fn sender(&self, seat: Seat, member: &Member) -> Result<SendRequest<Body>, PeerError> {
        let known = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.get(&seat)
                .filter(|open| open.incarnation == member.incarnation && !open.sender.is_closed())
                .cloned()
        };
        if let Some(Open { mut sender, .. }) = known
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let connecting = tokio::time::timeout(CONNECT, connect(member));
        let sender = connecting
            .await
            .unwrap_or_else(|_| Err("no connection within 2 s".to_owned()))
            .map_err(PeerError::Unreachable)?;
        let opened = Open {
            incarnation: member.incarnation,
            sender: sender.clone(),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(seat, opened);
        Ok(sender)
    }
}

async fn connect(member: &Member) -> Result<SendRequest<Body>, String> {
    let (Some(address), Some(certificate)) = (&member.address, &member.certificate) else {
        return Err("it takes no requests from other daemons (cluster.listen)".to_owned());
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let _slower = stream.set_nodelay(true);
    let client = certificate::client(certificate.clone()).map_err(|error| error.to_string())?;
    // The certificate is what is checked, not this name.
    let name = ServerName::try_from("stormhook").map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(client)
        .connect(name, stream)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    tokio::spawn(async move {
        let _ended = connection.await;
    });
    Ok(sender)
}
