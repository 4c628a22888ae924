//! TLS between daemons. Each makes a key when it starts, and publishes its certificate in the database; the others accept
//! exactly that one. There is no authority, no name and no expiry to look after.

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use std::sync::Arc;

const HTTP2: &[u8] = b"h2";

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The key or the certificate.
    #[error("making a certificate for the other daemons: {0}")]
    Made(#[from] rcgen::Error),
    /// TLS refused it.
    #[error("using a certificate for the other daemons: {0}")]
    Used(#[from] rustls::Error),
}

/// This daemon's certificate, and how it serves with it.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) server: Arc<ServerConfig>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Certificate {
    /// Makes a key and its certificate.
    pub(crate) fn make() -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let made = CertificateParams::new(vec!["stormhook".to_owned()])?.self_signed(&key)?;
        let der = made.der().to_vec();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(der.clone())], key.into())?;
        server.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Self {
            der,
            server: Arc::new(server),
        })
    }
}

/// Returns the configuration of a connection to a daemon with this certificate.
pub(super) fn client(certificate: Vec<u8>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = provider();
    let pinned = Pinned {
        certificate,
        provider: Arc::clone(&provider),
    };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    client.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(client))
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.as_ref() == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General(
                "it is not the certificate that the daemon published".to_owned(),
            ))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}
