//! Which certificates are trusted: the system's, those that the operator adds, and for one endpoint those that are set on
//! it. What is added is trusted as an issuer of others, and as itself for the names it holds. Revocation is not checked.

use super::tls_words::{SelfSigned, words};
use crate::certificates::{Pair, certified};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use stormhook_store::endpoint::{Certificate, EndpointTls};
use webpki::EndEntityCert;

/// Why a file of `tls.extra_roots` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is missing, unreadable, or not PEM.
    #[error(
        "tls.extra_roots: {path} can't be read as PEM certificates: {why}; name a readable PEM file"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is PEM without a certificate.
    #[error("tls.extra_roots: {0} contains no certificate; name a PEM file with at least one")]
    Empty(PathBuf),
    /// The TLS library rejected its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// Returns the configuration of a TLS client that trusts the system's certificates and these files.
///
/// # Errors
/// [`TrustError`] if a file can't be used.
pub fn client_config(extra_roots: &[PathBuf]) -> Result<ClientConfig, TrustError> {
    let trust = Trust::new(extra_roots)?;
    trust.config(None).map_err(TrustError::Tls)
}

/// What is trusted for every endpoint.
pub(super) struct Trust(Arc<Verifier>);

impl Trust {
    /// Reads the system's certificates and these files.
    pub(super) fn new(extra_roots: &[PathBuf]) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let mut named = HashSet::new();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "ignored a system certificate");
        }
        roots.add_parsable_certificates(native.certs);
        for path in extra_roots {
            add_file(&mut roots, &mut named, path)?;
        }
        if roots.is_empty() {
            tracing::warn!(
                "no trusted certificates; deliveries over https will fail. Install the system's certificates or set tls.extra_roots"
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self(Arc::new(Verifier::new(roots, named, provider, None))))
    }

    /// Returns a configuration for endpoints with these TLS settings.
    ///
    /// # Errors
    /// Why the settings can't be used, in plain words. They were checked when they were set.
    pub(super) fn config(&self, tls: Option<&EndpointTls>) -> Result<ClientConfig, String> {
        let provider = self.0.provider.clone();
        let verifier = match tls.map(EndpointTls::trusted) {
            None | Some([]) => self.0.clone(),
            Some(trusted) => Arc::new(self.with(trusted)?),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| words(&error, false))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some(client) = tls.and_then(EndpointTls::client) else {
            return Ok(builder.with_no_client_auth());
        };
        let certified = certified(client).map_err(|pair| match pair {
            Pair::Certificate(unfit) => format!("the endpoint's client certificate {unfit}"),
            Pair::Key(unfit) => format!("the key of the endpoint's client certificate {unfit}"),
        })?;
        let presented = SingleCertAndKey::from(certified);
        Ok(builder.with_client_cert_resolver(Arc::new(presented)))
    }

    /// Adds certificates that an endpoint trusts.
    fn with(&self, trusted: &[Certificate]) -> Result<Verifier, String> {
        let mut roots = RootCertStore::empty();
        let mut named = HashSet::new();
        for der in trusted {
            let certificate = CertificateDer::from_slice(der).into_owned();
            roots.add(certificate.clone()).map_err(|error| {
                format!(
                    "a trusted certificate of the endpoint can't be used: {}",
                    words(&error, false)
                )
            })?;
            named.insert(certificate);
        }
        let provider = self.0.provider.clone();
        Ok(Verifier::new(roots, named, provider, Some(self.0.clone())))
    }
}

fn add_file(
    roots: &mut RootCertStore,
    named: &mut HashSet<CertificateDer<'static>>,
    path: &PathBuf,
) -> Result<(), TrustError> {
    let unreadable = |why: String| TrustError::Unreadable {
        path: path.clone(),
        why,
    };
    let before = named.len();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    let mut any = false;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots
            .add(certificate.clone())
            .map_err(|error| unreadable(words(&error, false)))?;
        named.insert(certificate);
        any = true;
    }
    if !any && named.len() == before {
        return Err(TrustError::Empty(path.clone()));
    }
    Ok(())
}

/// Verifies a server's certificate by its issuers, as usual, or because exactly that certificate was named.
#[derive(Debug)]
struct Verifier {
    by_issuer: Option<Arc<WebPkiServerVerifier>>,
    named: HashSet<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    /// What else verifies it.
    or: Option<Arc<Verifier>>,
}

impl Verifier {
    fn new(
        roots: RootCertStore,
        named: HashSet<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
        or: Option<Arc<Self>>,
    ) -> Self {
        let by_issuer = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        Self {
            // Without a root it could verify nothing.
            by_issuer: by_issuer.build().ok(),
            named,
            provider,
            or,
        }
    }

    fn verify(&self, server: &Server<'_>) -> Result<ServerCertVerified, rustls::Error> {
        let error = match self.verify_alone(server) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        let Some(or) = &self.or else {
            return Err(error);
        };
        // Of two errors, the one that is not a missing issuer says more.
        let other = or.verify(server);
        other.map_err(|other| match lacks_issuer_only(&other) {
            true => error,
            false => other,
        })
    }

    fn verify_alone(&self, server: &Server<'_>) -> Result<ServerCertVerified, rustls::Error> {
        let Some(by_issuer) = &self.by_issuer else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = by_issuer.verify_server_cert(
            server.end_entity,
            server.intermediates,
            server.name,
            server.ocsp_response,
            server.now,
        );
        match verified {
            Err(error) if lacks_issuer_only(&error) && self.named.contains(server.end_entity) => {
                let certificate = ParsedCertificate::try_from(server.end_entity)?;
                verify_server_name(&certificate, server.name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }
}

/// What a server presents.
struct Server<'a> {
    end_entity: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    ocsp_response: &'a [u8],
    now: UnixTime,
}

/// Whether only a trusted issuer is missing: the library checks the certificate's dates and purpose before it looks for
/// an issuer.
fn lacks_issuer_only(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => matches!(
            other.0.downcast_ref(),
            Some(webpki::Error::CaUsedAsEndEntity)
        ),
        _ => false,
    }
}

/// Whether a certificate names itself as its issuer.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|cert| cert.issuer() == cert.subject())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verify(&Server {
            end_entity,
            intermediates,
            name: server_name,
            ocsp_response,
            now,
        });
        verified.map_err(|error| {
            if lacks_issuer_only(&error) && is_self_signed(end_entity) {
                CertificateError::Other(OtherError(Arc::new(SelfSigned))).into()
            } else {
                error
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
