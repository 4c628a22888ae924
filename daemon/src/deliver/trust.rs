//! Whose certificates are trusted: the system's, and those that the operator adds.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;

/// Why a file of `tls.extra_roots` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not there, not allowed, or not PEM.
    #[error(
        "tls.extra_roots: {path} can't be read as PEM certificates: {why}; name a readable PEM file"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// PEM, but without a certificate.
    #[error("tls.extra_roots: {0} holds no certificate; name a PEM file with at least one")]
    Empty(PathBuf),
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS as a client, HTTP/2 preferred.
pub(super) fn client_config(extra_roots: &[PathBuf]) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a system certificate is left out");
    }
    roots.add_parsable_certificates(native.certs);
    for path in extra_roots {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        tracing::warn!(
            "no certificate is trusted: deliveries over https will fail; install the system's certificates or set tls.extra_roots"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_file(roots: &mut RootCertStore, path: &PathBuf) -> Result<(), TrustError> {
    let unreadable = |why: String| TrustError::Unreadable {
        path: path.clone(),
        why,
    };
    let before = roots.len();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.len() == before {
        return Err(TrustError::Empty(path.clone()));
    }
    Ok(())
}
