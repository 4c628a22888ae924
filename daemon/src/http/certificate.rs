//! The certificate of the TCP listener: read from its files, checked, and replaced while connections continue.

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use stormhook_engine::times::rfc3339;
use stormhook_store::UnixMs;
use webpki::{EndEntityCert, KeyUsage};
use zeroize::Zeroizing;

/// Chains are a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// How long before its end a certificate is warned about.
const EXPIRES_SOON_MS: u64 = 14 * 86_400_000;

/// Why a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// A file is missing, unreadable, or not PEM.
    #[error("{setting}: {} can't be read: {why}; name a readable PEM file", path.display())]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file is PEM without what is looked for.
    #[error("{setting}: {} contains no {what}; name a PEM file with one", path.display())]
    Empty {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is looked for.
        what: &'static str,
    },
    /// The key is that of another certificate.
    #[error("tls.key: the key in {} does not belong to the certificate in {}; name the files of one pair", key.display(), certificate.display())]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// The key is of a kind that TLS can't use.
    #[error("tls.key: the key in {} can't be used for TLS; use an ECDSA P-256 or P-384, Ed25519 or RSA key in PKCS#8", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
    },
    /// No client would accept the certificate.
    #[error("tls.certificate: the certificate in {} {why}", path.display())]
    Unacceptable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
}

/// Returns how TLS is done: by whom, and with which algorithms.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ListenerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ListenerCertificate {
    /// Reads a certificate and its key.
    pub(crate) fn read(
        certificate: &Path,
        key: &Path,
        now: UnixMs,
    ) -> Result<Self, CertificateFileError> {
        let current = load(certificate, key, now)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(Arc::new(current)),
        })
    }

    /// Reads the files again, for the handshakes from now on. If they can't be used, nothing changes.
    pub(crate) fn read_again(&self, now: UnixMs) -> Result<(), CertificateFileError> {
        let new = load(&self.certificate, &self.key, now)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(new);
        Ok(())
    }
}

impl ResolvesServerCert for ListenerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

fn load(certificate: &Path, key: &Path, now: UnixMs) -> Result<CertifiedKey, CertificateFileError> {
    let chain = chain(certificate)?;
    if let Some(own) = chain.first() {
        check(certificate, own, now)?;
    }
    let made = CertifiedKey::from_der(chain, private_key(key)?, &provider());
    made.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => CertificateFileError::Mismatch {
            key: key.to_owned(),
            certificate: certificate.to_owned(),
        },
        _ => CertificateFileError::Unsupported {
            path: key.to_owned(),
        },
    })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    const SETTING: &str = "tls.certificate";
    let (bytes, _) = read(SETTING, path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateFileError::Empty {
            setting: SETTING,
            path: path.to_owned(),
            what: "certificate",
        }),
        Ok(chain) => Ok(chain),
        Err(error) => Err(malformed(SETTING, path, "certificate", &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateFileError> {
    const SETTING: &str = "tls.key";
    let (bytes, mode) = read(SETTING, path)?;
    if mode & 0o007 != 0 {
        tracing::warn!(
            path = %path.display(),
            "tls.key is readable by every user; set its mode to 0600, or 0640 with a group of its own"
        );
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| malformed(SETTING, path, "unencrypted private key", &error))
}

/// Returns what is in a file, and the file's mode.
fn read(
    setting: &'static str,
    path: &Path,
) -> Result<(Zeroizing<Vec<u8>>, u32), CertificateFileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut reading = || {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
        Ok(mode)
    };
    let mode = reading().map_err(|error| CertificateFileError::Unreadable {
        setting,
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    Ok((bytes, mode))
}

fn malformed(
    setting: &'static str,
    path: &Path,
    what: &'static str,
    error: &pem::Error,
) -> CertificateFileError {
    let path = path.to_owned();
    match error {
        pem::Error::NoItemsFound => CertificateFileError::Empty {
            setting,
            path,
            what,
        },
        _ => CertificateFileError::Unreadable {
            setting,
            path,
            why: "it is not valid PEM".to_owned(),
        },
    }
}

/// Checks what every client checks whomever it trusts: form, dates and purpose.
fn check(
    path: &Path,
    certificate: &CertificateDer<'_>,
    now: UnixMs,
) -> Result<(), CertificateFileError> {
    let parsed = EndEntityCert::try_from(certificate).map_err(|_| {
        let why = "is not an X.509 certificate of version 3; have it issued again".to_owned();
        CertificateFileError::Unacceptable {
            path: path.to_owned(),
            why,
        }
    })?;
    if let Some(why) = flaw(&parsed, now) {
        return Err(CertificateFileError::Unacceptable {
            path: path.to_owned(),
            why,
        });
    }
    let soon = UnixMs(now.0.saturating_add(EXPIRES_SOON_MS));
    if let webpki::Error::CertExpired { not_after, .. } = verified(&parsed, soon) {
        tracing::warn!(
            path = %path.display(),
            "the certificate of the listener expires at {}; renew it",
            date(not_after)
        );
    }
    Ok(())
}

fn flaw(certificate: &EndEntityCert<'_>, now: UnixMs) -> Option<String> {
    match verified(certificate, now) {
        webpki::Error::CertExpired { not_after, .. } => {
            Some(format!("expired at {}; renew it", date(not_after)))
        }
        webpki::Error::CertNotValidYet { not_before, .. } => Some(format!(
            "is not valid before {}; check this machine's clock, or replace it",
            date(not_before)
        )),
        webpki::Error::RequiredEkuNotFoundContext(_) => {
            Some("is not for servers; have one issued for server authentication".to_owned())
        }
        _ => None,
    }
}

/// Returns the first thing that is wrong. Something always is, since no authority is trusted; but the certificate itself is
/// looked at first.
fn verified(certificate: &EndEntityCert<'_>, now: UnixMs) -> webpki::Error {
    let algorithms = provider().signature_verification_algorithms.all;
    let time = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let usage = KeyUsage::server_auth();
    let verified = certificate.verify_for_usage(algorithms, &[], &[], time, usage, None, None);
    verified.err().unwrap_or(webpki::Error::UnknownIssuer)
}

fn date(time: UnixTime) -> String {
    rfc3339(UnixMs(time.as_secs().saturating_mul(1_000)))
}
