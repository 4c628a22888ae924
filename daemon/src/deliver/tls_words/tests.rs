//! Each sentence, from a handshake that fails for its reason, with the verifier that deliveries use.

use super::super::handshakes::Handshakes;
use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SerialNumber,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, SupportedProtocolVersion, version};
use std::path::PathBuf;
use std::sync::Arc;
use stormhook_store::endpoint::{ClientCertificate, ClientKey, EndpointTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

pub(in super::super) static TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
pub(in super::super) static TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];

const HOST: &str = "web.test";

/// A certificate with its key.
pub(in super::super) struct Made {
    pub(in super::super) der: CertificateDer<'static>,
    pub(in super::super) pem: String,
    params: CertificateParams,
    key: KeyPair,
}

impl Made {
    pub(in super::super) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::new(None, change)
    }

    pub(in super::super) fn authority(name: &str) -> Self {
        Self::self_signed(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let common = rcgen::DnType::CommonName;
            params.distinguished_name.push(common, name);
        })
    }

    pub(in super::super) fn issued(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::new(Some(self), change)
    }

    fn new(issuer: Option<&Self>, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        change(&mut params);
        let made = match issuer {
            None => params.self_signed(&key),
            Some(issuer) => {
                params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key))
            }
        };
        let made = made.unwrap();
        Self {
            der: made.der().clone(),
            pem: made.pem(),
            params,
            key,
        }
    }

    /// Returns the settings of an endpoint that presents this certificate, with these issuers after it.
    pub(in super::super) fn as_client(&self, issuers: &[&Self]) -> EndpointTls {
        let chain = std::iter::once(self).chain(issuers.iter().copied());
        let client = ClientCertificate {
            chain: chain.map(|made| made.der.to_vec()).collect(),
            key: ClientKey::new(self.key.serialize_der()),
        };
        EndpointTls::new(Some(client), Vec::new()).unwrap()
    }

    /// Returns the settings of an endpoint that trusts these certificates.
    pub(in super::super) fn trusted(all: &[&Self]) -> EndpointTls {
        let all = all.iter().map(|made| made.der.to_vec());
        EndpointTls::new(None, all.collect()).unwrap()
    }

    pub(in super::super) fn acceptor_asking_for_clients(
        &self,
        versions: &'static [&'static SupportedProtocolVersion],
        alpn: &'static [u8],
    ) -> TlsAcceptor {
        let mut server = self.server();
        server.versions = versions;
        server.alpn = alpn;
        server.asks_for_client = Some(Clients::of(&Self::authority("clients")));
        TlsAcceptor::from(server.config())
    }

    /// Returns a list that revokes the certificate with this serial number.
    fn revokes(&self, serial: u64) -> CertificateRevocationListDer<'static> {
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2001, 2, 3),
            next_update: rcgen::date_time_ymd(3001, 2, 3),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![rcgen::RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: rcgen::date_time_ymd(2001, 2, 3),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &self.key);
        list.signed_by(&issuer).unwrap().der().clone()
    }

    fn server(&self) -> Server {
        Server {
            certificate: vec![self.der.clone()],
            key: self.key.serialize_der(),
            versions: rustls::ALL_VERSIONS,
            alpn: b"http/1.1",
            asks_for_client: None,
            suites: None,
        }
    }
}

/// Which clients a server accepts.
struct Clients {
    authority: CertificateDer<'static>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
}

impl Clients {
    fn of(authority: &Made) -> Self {
        Self {
            authority: authority.der.clone(),
            revoked: Vec::new(),
        }
    }
}

/// How a server does the handshake.
struct Server {
    certificate: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: &'static [u8],
    asks_for_client: Option<Clients>,
    suites: Option<Vec<rustls::SupportedCipherSuite>>,
}

impl Server {
    pub(super) fn config(self) -> Arc<ServerConfig> {
        let mut provider = rustls::crypto::ring::default_provider();
        if let Some(suites) = self.suites {
            provider.cipher_suites = suites;
        }
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap();
        let builder = match self.asks_for_client {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.authority).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .with_crls(clients.revoked);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key));
        let mut config = builder.with_single_cert(self.certificate, key).unwrap();
        config.alpn_protocols = vec![self.alpn.to_vec()];
        Arc::new(config)
    }
}

/// Returns files with these certificates, as `tls.extra_roots` names them.
pub(in super::super) fn roots(of: &[&Made]) -> (Vec<PathBuf>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let paths = of.iter().enumerate().map(|(n, made)| {
        let path = folder.path().join(format!("{n}.pem"));
        std::fs::write(&path, &made.pem).unwrap();
        path
    });
    (paths.collect(), folder)
}

/// Does a handshake with a server that treats its end of the connection like this, and reads a byte.
async fn shake<F: Future<Output = ()> + Send + 'static>(
    trusted: &[&Made],
    host: &str,
    serve: impl FnOnce(DuplexStream) -> F,
) -> Result<(), String> {
    shake_with(None, trusted, host, serve).await
}

/// The same as an endpoint with these TLS settings.
async fn shake_with<F: Future<Output = ()> + Send + 'static>(
    tls: Option<&EndpointTls>,
    trusted: &[&Made],
    host: &str,
    serve: impl FnOnce(DuplexStream) -> F,
) -> Result<(), String> {
    let (paths, _folder) = roots(trusted);
    let handshake = Handshakes::new(&paths).unwrap().of(tls).unwrap();
    let connector = handshake.connector(false);
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(serve(theirs));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut stream = connector
        .connect(name, ours)
        .await
        .map_err(|error| io_words(&error, handshake.presents))?;
    let read = stream.read_u8().await;
    read.map(drop)
        .map_err(|error| io_words(&error, handshake.presents))
}

/// The same with a server that answers with a byte.
async fn shaken(server: Server, trusted: &[&Made], host: &str) -> Result<(), String> {
    shaken_by(TlsAcceptor::from(server.config()), trusted, host).await
}

async fn shaken_by(acceptor: TlsAcceptor, trusted: &[&Made], host: &str) -> Result<(), String> {
    shake(trusted, host, |stream| serve(acceptor, stream)).await
}

/// The same as an endpoint with these TLS settings.
async fn shaken_with(
    tls: &EndpointTls,
    server: Arc<ServerConfig>,
    trusted: &[&Made],
) -> Result<(), String> {
    let acceptor = TlsAcceptor::from(server);
    shake_with(Some(tls), trusted, HOST, |stream| serve(acceptor, stream)).await
}

async fn serve(acceptor: TlsAcceptor, stream: DuplexStream) {
    if let Ok(mut stream) = acceptor.accept(stream).await {
        let _ = stream.write_all(b"x").await;
        let _ = stream.shutdown().await;
    }
}

#[track_caller]
fn assert_says(result: Result<(), String>, says: &str) {
    let text = result.unwrap_err();
    assert!(text.contains(says), "{text}");
    assert!(text.len() < 500, "{} bytes: {text}", text.len());
    // The libraries' names of errors are in camel case.
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let inside = word.chars().skip(1).any(char::is_uppercase);
        let capitals = word.chars().all(|c| c.is_uppercase() || c.is_numeric());
        let is_date = word.starts_with(|c: char| c.is_numeric());
        let known = ["subjectAltName", "IPv6", "IPv4"].contains(&word)
            || ["caCertificate", "clientCertificate", "clientKey"].contains(&word);
        assert!(
            !inside || capitals || is_date || known,
            "{word:?} in {text}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_is_named_is_trusted_as_it_is_for_the_names_it_holds() {
    let plain = Made::self_signed(|_| {});
    let not_ca = Made::self_signed(|params| params.is_ca = IsCa::ExplicitNoCa);
    let ca = Made::authority("a");
    let stranger = Made::authority("b");
    let issued = stranger.issued(|_| {});
    for (what, made) in [
        ("without constraints", &plain),
        ("no authority", &not_ca),
        ("an authority", &ca),
        ("issued by a stranger", &issued),
    ] {
        assert_eq!(shaken(made.server(), &[made], HOST).await, Ok(()), "{what}");
        let wrong = shaken(made.server(), &[made], "other.test").await;
        assert_says(wrong, "certificate is for web.test, not other.test");
        let other = Made::self_signed(|_| {});
        assert!(
            shaken(made.server(), &[&other], HOST).await.is_err(),
            "{what}"
        );
    }
    let other_key = Made::self_signed(|params| *params = plain.params.clone());
    let forged = shaken(other_key.server(), &[&plain], HOST).await;
    assert!(forged.is_err(), "another certificate with the same names");
}

#[tokio::test]
async fn a_named_certificate_must_be_within_its_dates_and_for_servers() {
    let long_ago = rcgen::date_time_ymd(2001, 2, 3);
    let far_off = rcgen::date_time_ymd(3001, 2, 3);
    for is_ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let expired = Made::self_signed(|params| {
            params.is_ca = is_ca;
            params.not_after = long_ago;
        });
        let result = shaken(expired.server(), &[&expired], HOST).await;
        assert_says(
            result,
            "certificate expired on 2001-02-03; the partner must renew it",
        );
        let early = Made::self_signed(|params| {
            params.is_ca = is_ca;
            params.not_before = far_off;
            params.not_after = rcgen::date_time_ymd(3002, 2, 3);
        });
        let result = shaken(early.server(), &[&early], HOST).await;
        assert_says(result, "certificate is not valid before 3001-02-03; check");
        let client = Made::self_signed(|params| {
            params.is_ca = IsCa::ExplicitNoCa;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let result = shaken(client.server(), &[&client], HOST).await;
        assert_says(result, "is not valid for servers");
    }
}

#[tokio::test]
async fn an_issued_certificate_is_trusted_by_its_authority() {
    let ca = Made::authority("a");
    let issued = ca.issued(|_| {});
    assert_eq!(shaken(issued.server(), &[&ca], HOST).await, Ok(()));
    let wrong = shaken(issued.server(), &[&ca], "other.test").await;
    assert_says(wrong, "certificate is for web.test, not other.test");
}

#[tokio::test]
async fn whom_nobody_vouches_for_is_told_apart() {
    let other = Made::authority("other");
    let alone = Made::self_signed(|params| params.is_ca = IsCa::ExplicitNoCa);
    let result = shaken(alone.server(), &[&other], HOST).await;
    assert_says(
        result,
        "certificate is self-signed and not trusted; add it to the endpoint's tls.caCertificate or to tls.extra_roots",
    );
    let ca = Made::authority("a");
    let result = shaken(ca.server(), &[&other], HOST).await;
    assert_says(result, "self-signed");
    let sub = ca.issued(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let result = shaken(sub.server(), &[&ca], HOST).await;
    assert_says(
        result,
        "certificate is a certificate authority's; have the partner",
    );
    let issued = ca.issued(|_| {});
    let result = shaken(issued.server(), &[&other], HOST).await;
    assert_says(
        result,
        "certificate is not signed by a trusted authority; have the partner send the whole chain, or add its issuer to",
    );
    let namesake = Made::authority("a");
    let forged = namesake.issued(|_| {});
    let result = shaken(forged.server(), &[&ca], HOST).await;
    assert_says(result, "a signature on the server's certificate");
}

#[tokio::test]
async fn the_names_of_a_certificate_are_told_within_bounds() {
    let name = |n: usize| format!("{}{n}.{}.test", "a".repeat(50), "b".repeat(60));
    let many: Vec<String> = (0..290).map(name).collect();
    let made = Made::self_signed(|params| {
        *params = CertificateParams::new(many).unwrap();
    });
    let result = shaken(made.server(), &[&made], HOST).await;
    assert_says(result, "and 287 more, not web.test");
    let none = Made::self_signed(|params| params.subject_alt_names.clear());
    let result = shaken(none.server(), &[&none], HOST).await;
    assert_says(
        result,
        "certificate has no names, so it is not for web.test",
    );
}

#[tokio::test]
async fn what_client_and_server_have_not_in_common_is_said() {
    let made = Made::self_signed(|_| {});
    let mut server = made.server();
    server.alpn = b"gopher";
    let result = shaken(server, &[&made], HOST).await;
    assert_says(result, "neither HTTP/2 nor HTTP/1.1");
    let mut server = made.server();
    let rsa_only = rustls::crypto::ring::ALL_CIPHER_SUITES.iter().copied();
    let rsa_only = rsa_only.filter(|suite| format!("{suite:?}").contains("_ECDHE_RSA_"));
    server.suites = Some(rsa_only.collect());
    server.versions = TLS12;
    let result = shaken(server, &[&made], HOST).await;
    assert_says(result, "no cipher in common");
}

#[tokio::test]
async fn a_client_certificate_that_is_required_is_named_in_both_versions() {
    let made = Made::self_signed(|_| {});
    for versions in [TLS12, TLS13] {
        let acceptor = made.acceptor_asking_for_clients(versions, b"http/1.1");
        let result = shaken_by(acceptor, &[&made], HOST).await;
        assert_says(result, "requires a client certificate");
    }
}

/// For a client certificate, as TLS servers require it.
fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(7));
}

#[tokio::test]
async fn a_client_certificate_is_presented_where_the_server_asks_for_one() {
    let made = Made::self_signed(|_| {});
    let clients = Made::authority("clients");
    let sub = clients.issued(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let common = rcgen::DnType::CommonName;
        params.distinguished_name.push(common, "below");
    });
    let direct = clients.issued(for_clients).as_client(&[]);
    let through = sub.issued(for_clients).as_client(&[&sub]);
    for versions in [TLS12, TLS13] {
        for tls in [&direct, &through] {
            let mut server = made.server();
            server.versions = versions;
            server.asks_for_client = Some(Clients::of(&clients));
            let shaken = shaken_with(tls, server.config(), &[&made]).await;
            assert_eq!(shaken, Ok(()), "{versions:?}");
        }
        // Nothing is wrong with a server that doesn't ask.
        let mut server = made.server();
        server.versions = versions;
        let shaken = shaken_with(&direct, server.config(), &[&made]).await;
        assert_eq!(shaken, Ok(()), "{versions:?}");
    }
}

#[tokio::test]
async fn why_a_client_certificate_is_refused_is_said_in_both_versions() {
    let made = Made::self_signed(|_| {});
    let clients = Made::authority("clients");
    let stranger = Made::authority("strangers").issued(for_clients);
    let namesake = Made::authority("clients").issued(for_clients);
    let expired = clients.issued(|params| {
        for_clients(params);
        params.not_before = rcgen::date_time_ymd(2000, 2, 3);
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
    });
    let good = clients.issued(for_clients);
    for versions in [TLS12, TLS13] {
        for (client, revoked, says) in [
            (
                &namesake,
                false,
                "refused the client certificate: a signature doesn't match",
            ),
            (
                &stranger,
                false,
                "refused the client certificate: it doesn't trust its issuer",
            ),
            (
                &expired,
                false,
                "refused the client certificate: it has expired",
            ),
            (
                &good,
                true,
                "refused the client certificate: it was revoked",
            ),
        ] {
            let mut server = made.server();
            server.versions = versions;
            server.asks_for_client = Some(Clients {
                revoked: revoked.then(|| clients.revokes(7)).into_iter().collect(),
                ..Clients::of(&clients)
            });
            let tls = client.as_client(&[]);
            let shaken = shaken_with(&tls, server.config(), &[&made]).await;
            assert_says(shaken, says);
        }
    }
}

#[tokio::test]
async fn what_an_endpoint_trusts_is_trusted_in_addition_and_for_it_alone() {
    let (common, own) = (Made::authority("a"), Made::authority("b"));
    let by_common = common.issued(|_| {});
    let by_own = own.issued(|_| {});
    let alone = Made::self_signed(|params| params.is_ca = IsCa::ExplicitNoCa);
    let tls = Made::trusted(&[&own, &alone]);
    for made in [&by_common, &by_own, &alone] {
        let shaken = shaken_with(&tls, made.server().config(), &[&common]).await;
        assert_eq!(shaken, Ok(()));
        let stranger = Made::trusted(&[&Made::authority("c")]);
        let shaken = shaken_with(&stranger, made.server().config(), &[]).await;
        assert!(shaken.is_err());
    }
    let without = shaken(by_own.server(), &[&common], HOST).await;
    assert_says(without, "certificate is not signed by a trusted authority");
    let wrong = shake_with(Some(&tls), &[], "other.test", |stream| {
        serve(TlsAcceptor::from(alone.server().config()), stream)
    });
    assert_says(wrong.await, "certificate is for web.test, not other.test");
    // The error is that of the side that knows more.
    let namesake = Made::authority("b").issued(|_| {});
    let forged = shaken_with(&tls, namesake.server().config(), &[&common]).await;
    assert_says(forged, "a signature on the server's certificate");
}

#[tokio::test]
async fn a_server_without_the_key_of_its_certificate_is_found_out() {
    let made = Made::self_signed(|_| {});
    let provider = rustls::crypto::ring::default_provider();
    let other = PrivatePkcs8KeyDer::from(KeyPair::generate().unwrap().serialize_der());
    let other = provider
        .key_provider
        .load_private_key(other.into())
        .unwrap();
    for versions in [TLS12, TLS13] {
        let stolen =
            SingleCertAndKey::from(CertifiedKey::new(vec![made.der.clone()], other.clone()));
        let config = ServerConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(stolen));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let result = shaken_by(acceptor, &[&made], HOST).await;
        assert_says(
            result,
            "a signature on the server's certificate or handshake",
        );
    }
}

#[tokio::test]
async fn a_server_of_before_tls_1_2_is_named() {
    // A ServerHello of TLS 1.1 with TLS_RSA_WITH_AES_128_CBC_SHA (RFC 4346, section 7.4.1.3).
    let mut hello = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    let serve = |mut stream: DuplexStream| async move {
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let _ = stream.read(&mut [0; 4_096]).await;
    };
    let result = shake(&[], HOST, serve).await;
    assert_says(result, "the server supports neither TLS 1.2 nor TLS 1.3");
}

#[tokio::test]
async fn what_is_not_tls_or_ends_early_is_said() {
    let answer = |bytes: &'static [u8]| {
        move |mut stream: DuplexStream| async move {
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            // Reads the rest, so that nothing is lost.
            let _ = stream.read(&mut [0; 4_096]).await;
        }
    };
    let plain = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_says(
        shake(&[], HOST, answer(plain)).await,
        "server does not speak TLS; check that the port serves https",
    );
    assert_says(
        shake(&[], HOST, answer(b"")).await,
        "was closed during the TLS handshake",
    );
    for (alert, says) in [
        (70, "neither TLS 1.2 nor TLS 1.3"),
        (40, "refused the handshake"),
        (112, "doesn't know this host"),
        (80, "an internal error"),
        (71, "no cipher in common"),
        (48, "requires a client certificate that it trusts"),
        (116, "requires a client certificate"),
        (10, "refused the TLS handshake"),
    ] {
        let record: &'static [u8] = vec![21, 3, 3, 0, 2, 2, alert].leak();
        assert_says(shake(&[], HOST, answer(record)).await, says);
    }
}

#[test]
fn every_error_without_a_handshake_here_has_words_too() {
    for error in [
        Error::DecryptError,
        Error::NoCertificatesPresented,
        Error::UnsupportedNameType,
        Error::FailedToGetCurrentTime,
        Error::HandshakeNotComplete,
        Error::General("SomethingInside".to_owned()),
        Error::PeerIncompatible(PeerIncompatible::ExtendedMasterSecretExtensionRequired),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        Error::InvalidCertificate(CertificateError::BadEncoding),
        Error::InvalidCertificate(CertificateError::Revoked),
        Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension),
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure),
    ] {
        assert_says(Err(words(&error, false)), " ");
    }
    let reset = io::Error::from(rustix::io::Errno::CONNRESET);
    assert_says(Err(io_words(&reset, false)), "closed the connection");
}
