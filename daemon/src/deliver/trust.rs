//! Which certificates are trusted: the system's, and those that the operator adds. A certificate that the operator adds
//! is trusted as an issuer of others, and as itself for the names it holds.

use super::tls_words::SelfSigned;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
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

/// Returns the TLS client configuration, which prefers HTTP/2.
///
/// # Errors
/// [`TrustError`] if a file can't be used.
pub fn client_config(extra_roots: &[PathBuf]) -> Result<Arc<ClientConfig>, TrustError> {
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
    let verifier = Verifier {
        // Without a root it could verify nothing.
        by_issuer: WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .ok(),
        named,
        provider: provider.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::Tls(super::tls_words::words(&error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
            .map_err(|error| unreadable(super::tls_words::words(&error)))?;
        named.insert(certificate);
        any = true;
    }
    if !any && named.len() == before {
        return Err(TrustError::Empty(path.clone()));
    }
    Ok(())
}

/// Verifies a server's certificate by its issuers, as usual, or because the operator named that exact certificate.
#[derive(Debug)]
struct Verifier {
    by_issuer: Option<Arc<WebPkiServerVerifier>>,
    named: HashSet<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Whether only a trusted issuer is missing: the library checks the certificate's dates and purpose before it looks
    /// for an issuer.
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
        let Some(by_issuer) = &self.by_issuer else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let error = match by_issuer.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        if !Self::lacks_issuer_only(&error) {
            return Err(error);
        }
        if self.named.contains(end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        if is_self_signed(end_entity) {
            let other = CertificateError::Other(OtherError(Arc::new(SelfSigned)));
            return Err(other.into());
        }
        Err(error)
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
