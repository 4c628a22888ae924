//! Which certificates of a server are trusted: those of an authority, or one that the operator names itself.

use super::words;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;

/// The authorities.
#[derive(Debug)]
pub(super) struct Trust {
    roots: RootCertStore,
    /// The certificates of the operator's file. A server may have one of them itself.
    named: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Reads those of a PEM file.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let named = super::certificates("sslrootcert", path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &named {
            roots.add(certificate.clone()).map_err(|error| {
                format!("sslrootcert={}: {}", path.display(), words::of(&error))
            })?;
        }
        Ok(Self { roots, named })
    }

    /// Reads those of the platform.
    pub(super) fn of_system() -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine has no trusted authorities: install them, or name a file with sslrootcert=FILE".to_owned());
        }
        let named = Vec::new();
        Ok(Self { roots, named })
    }
}

/// Checks the certificate of a server. That the server has its key is always checked.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Without it any certificate is good.
    pub(super) trust: Option<Trust>,
    /// Whether it must be for the host.
    pub(super) for_host: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// Whether only a trusted issuer is missing: the library checks the dates before it looks for an issuer.
fn lacks_issuer_only(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => matches!(
            other.0.downcast_ref(),
            Some(webpki::Error::CaUsedAsEndEntity)
        ),
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let by_issuer = verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &trust.roots,
            intermediates,
            now,
            self.algorithms.all,
        );
        if let Err(error) = by_issuer
            && !(lacks_issuer_only(&error) && trust.named.contains(end_entity))
        {
            return Err(error);
        }
        if self.for_host {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
