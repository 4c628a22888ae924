//! TLS on the TCP listener: the handshake within its time, and a plain answer to callers that don't speak TLS.

use super::bare;
use super::certificate::{ListenerCertificate, provider};
use super::front::Front;
use super::problem::{Code, Problem};
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// How long a handshake may take, if `limits.idle` is longer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How much of a request without TLS is read, so that its sender gets the response.
const UNREAD_BYTES: u64 = 64 << 10;

/// See the module.
#[derive(Clone)]
pub(super) struct Secured {
    serving: TlsAcceptor,
    /// For connections that are refused: HTTP/1.1 suffices for one response.
    refusing: TlsAcceptor,
    within: Duration,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").finish_non_exhaustive()
    }
}

impl Secured {
    /// TLS 1.2 and 1.3 with this certificate.
    pub(super) fn new(
        certificate: Arc<ListenerCertificate>,
        idle: Duration,
    ) -> Result<Self, rustls::Error> {
        let mut serving = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        serving.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        let mut refusing = serving.clone();
        refusing.alpn_protocols = vec![HTTP1.to_vec()];
        Ok(Self {
            serving: Arc::new(serving).into(),
            refusing: Arc::new(refusing).into(),
            within: idle.min(HANDSHAKE),
        })
    }

    /// Returns the secured connection, and whether the caller chose HTTP/2.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        front: &Front,
    ) -> Option<(TlsStream<TcpStream>, bool)> {
        let stream = self.shake_hands(&self.serving, stream, front).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        Some((stream, is_http2))
    }

    /// The same for a connection that gets one response, over HTTP/1.1.
    pub(super) async fn accept_to_refuse(
        &self,
        stream: TcpStream,
        front: &Front,
    ) -> Option<TlsStream<TcpStream>> {
        self.shake_hands(&self.refusing, stream, front).await
    }

    async fn shake_hands(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
        front: &Front,
    ) -> Option<TlsStream<TcpStream>> {
        let shaking = async {
            if is_plain_http(&stream).await {
                tell_to_use_tls(stream, front).await;
                return None;
            }
            match acceptor.accept(stream).await {
                Ok(stream) => Some(stream),
                Err(error) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    None
                }
            }
        };
        tokio::time::timeout(self.within, shaking).await.ok()?
    }
}

/// Whether the first byte begins an HTTP request; a TLS handshake begins with 22 (RFC 8446, section 5.1).
async fn is_plain_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_uppercase()
}

async fn tell_to_use_tls(mut stream: TcpStream, front: &Front) {
    let problem = Problem::new(
        Code::InvalidRequest,
        "This listener speaks only TLS. Use https:// in the URL.",
    );
    let bytes = bare::written(&problem, &front.request_id(), "");
    let _gone = stream.write_all(&bytes).await;
    let _gone = stream.shutdown().await;
    // Closing with unread bytes would reset the connection before the caller reads the response.
    let mut rest = stream.take(UNREAD_BYTES);
    let _end = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
}
