//! Opens a connection: looks the name up once, checks all its addresses, and connects to one of exactly those; or asks a
//! proxy for a tunnel. Every failure says whose fault it is.

use super::destination::Target;
use super::dial::{Missed, dial, in_turn};
use super::fault::Fault;
use super::handshakes::Handshakes;
use super::http1::Http1;
use super::names::{Names, Resolved, Sources, Unresolved};
use super::proxy::Proxy;
use super::secured::Secured;
use super::server_certificates::ServerCertificates;
use super::streams::Streams;
use super::{Failed, Settings, SetupError, Unconnected, tls_words};
use crate::certificates::Validity;
use crate::target::{Judgement, TargetPolicy};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::clock;
use stormhook_engine::outcome::Failure;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// A connection that nothing has been sent over.
pub(super) enum Opened {
    /// One request at a time.
    Http1(Http1),
    /// Many requests in parallel, as many as the receiver allows.
    Http2(Streams),
}

/// Opens connections.
pub(super) struct Connector {
    connect_timeout: Duration,
    policy: TargetPolicy,
    handshakes: Handshakes,
    names: Names,
    proxy: Option<Proxy>,
    certificates: Arc<ServerCertificates>,
}

impl Connector {
    /// Reads the certificates to trust, and the credentials for the proxy.
    pub(super) fn new(
        settings: &Settings,
        certificates: Arc<ServerCertificates>,
    ) -> Result<Self, SetupError> {
        let sources = Sources::of_machine(settings.name_servers.clone());
        let proxy = settings.proxy.clone();
        let proxy = proxy.map(|url| Proxy::new(url, settings.proxy_credentials_file.as_deref()));
        Ok(Self {
            connect_timeout: settings.connect_timeout,
            policy: settings.policy.clone(),
            handshakes: Handshakes::new(&settings.extra_roots)?,
            names: Names::new(sources, settings.connect_timeout),
            proxy: proxy.transpose()?,
            certificates,
        })
    }

    /// Opens a connection to `target` within the time limit. Offers HTTP/2 unless `http1_only`.
    pub(super) async fn open(
        &self,
        target: &Target,
        http1_only: bool,
    ) -> Result<Opened, Unconnected> {
        let deadline = clock::deadline(self.connect_timeout);
        let stream = match &self.proxy {
            Some(proxy) => {
                // A name is resolved by the proxy, which must guard.
                if let Some(address) = target.url().address() {
                    self.judge(target, &[address])?;
                }
                proxy.tunnel(target, &self.names, deadline).await?
            }
            None => self.connect(target, deadline).await?,
        };
        // A request is one write, and its sender waits for the response: delaying bytes gains nothing.
        let _ = stream.set_nodelay(true);
        if !target.url().is_https() {
            return Ok(Opened::Http1(Http1::new(stream)));
        }
        let handshake = self.handshakes.of(target.tls());
        let handshake = handshake.map_err(Unconnected::OurTrouble)?;
        let connector = handshake.connector(http1_only);
        let shaking = connector.connect(target.server_name(), stream);
        let stream = match timeout_at(deadline, shaking).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let words = tls_words::io_words(&error, handshake.presents);
                let why = format!("{}: {words}", target.origin());
                return Err((Failure::Tls, why).into());
            }
            Err(_) => {
                let why = format!(
                    "the TLS handshake with {} took longer than {:?}",
                    target.origin(),
                    self.connect_timeout
                );
                return Err((Failure::Tls, why).into());
            }
        };
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| Validity::of(chain.first()?));
        if let Some(validity) = shown {
            self.certificates.note(target.origin(), validity);
        }
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let stream = Secured::new(stream, handshake.presents);
        if is_http2 {
            Ok(Opened::Http2(Streams::open(stream).await?))
        } else {
            Ok(Opened::Http1(Http1::new(stream)))
        }
    }

    async fn connect(&self, target: &Target, deadline: Instant) -> Result<TcpStream, Unconnected> {
        let port = target.url().port();
        let with_port = |ip: &IpAddr| SocketAddr::new(*ip, port);
        let resolved = self.look_up(target, deadline).await?;
        self.judge(target, &resolved.addresses)?;
        let addresses = in_turn(resolved.addresses.iter().map(with_port));
        let late = async {
            // One forbidden address rules out the late ones. Those in the race have all been checked already.
            match resolved.late().await {
                Some(all) if self.judge(target, &all).is_ok() => {
                    all.iter().map(with_port).collect()
                }
                _ => Vec::new(),
            }
        };
        let dialled = dial(addresses, late, deadline, TcpStream::connect);
        let stream = dialled.await.map_err(|Missed { fault, why }| {
            let why = format!("connecting to {}: {why}", target.origin());
            match fault {
                Fault::Ours => Unconnected::OurTrouble(why),
                Fault::Partner => (Failure::Connect, why).into(),
            }
        })?;
        self.judge_connection(&stream)?;
        Ok(stream)
    }

    fn judge_connection(&self, stream: &TcpStream) -> Result<(), Failed> {
        // A connection that ended already has no addresses, and nothing to protect.
        let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
            return Ok(());
        };
        let judged = self.policy.judge_connection(local, peer);
        judged.map_err(|refusal| (Failure::TargetRefused, refusal.to_string()))
    }

    async fn look_up(&self, target: &Target, deadline: Instant) -> Result<Resolved, Unconnected> {
        let url = target.url();
        if let Some(address) = url.address() {
            return Ok(Resolved::known([address]));
        }
        let name = url.name().unwrap_or_default();
        let found = self.names.look_up(name, deadline).await;
        found.map_err(|unresolved| match unresolved {
            Unresolved::Ours(why) => Unconnected::OurTrouble(why),
            Unresolved::Theirs(why) => (Failure::Dns, why).into(),
        })
    }

    fn judge(&self, target: &Target, addresses: &[IpAddr]) -> Result<(), Failed> {
        match self.policy.judge_all(target.url(), addresses) {
            Judgement::Allowed => Ok(()),
            Judgement::NoAddress => {
                let why = format!("{} has no address", target.url().host());
                Err((Failure::Dns, why))
            }
            Judgement::Refused(refusal) => Err((Failure::TargetRefused, refusal.to_string())),
        }
    }
}
