//! Certificates and private keys of endpoints: which PEM can be used, and what is shown of a certificate. Whom a server's
//! certificate is trusted by is decided in `deliver`.

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use stormhook_engine::text;
use stormhook_store::endpoint::{Certificate, ClientCertificate, ClientKey};
use stormhook_store::{UnixMs, hex};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroize;

/// The maximum size of a PEM.
pub(crate) const MAX_PEM_BYTES: usize = 64 * 1024;
/// The maximum number of certificates in a PEM.
pub(crate) const MAX_CERTIFICATES: usize = 10;
/// How much of a name in a certificate is shown.
const MAX_NAME_BYTES: usize = 500;

/// Why a PEM can't be used. A phrase that follows the field's name, with what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("has {0} bytes, at most {MAX_PEM_BYTES} are allowed; leave out what isn't needed")]
    TooLarge(usize),
    #[error("is not valid PEM; send the text of the file, from -----BEGIN to -----END")]
    NotPem,
    #[error("contains no certificate; send PEM with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    #[error(
        "contains more than {MAX_CERTIFICATES} certificates; send only those that the connection needs"
    )]
    TooMany,
    #[error("contains a certificate that can't be read, number {0}; export it again")]
    Unreadable(usize),
    #[error("contains no private key; send PEM with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    #[error("is encrypted with a passphrase; send it decrypted (`openssl pkey` does that)")]
    EncryptedKey,
    #[error(
        "can't be used; send an RSA key of 2,048 to 4,096 bits, an ECDSA key on P-256 or P-384, or an Ed25519 key"
    )]
    UnusableKey,
    #[error(
        "doesn't fit the client certificate; send the key that the certificate was requested with"
    )]
    OtherKey,
}

fn check_size(pem: &str) -> Result<(), Unfit> {
    match pem.len() {
        bytes if bytes > MAX_PEM_BYTES => Err(Unfit::TooLarge(bytes)),
        _ => Ok(()),
    }
}

/// Returns the certificates in a PEM, of which at least one is required.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Certificate>, Unfit> {
    check_size(pem)?;
    let mut all = Vec::new();
    for found in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = found.map_err(|_| Unfit::NotPem)?;
        if all.len() == MAX_CERTIFICATES {
            return Err(Unfit::TooMany);
        }
        all.push(certificate.to_vec());
        if Facts::of(&certificate).is_none() {
            return Err(Unfit::Unreadable(all.len()));
        }
    }
    if all.is_empty() {
        return Err(Unfit::NoCertificate);
    }
    Ok(all)
}

/// Returns the certificates in a PEM, all of which can be trusted.
pub(crate) fn trusted(pem: &str) -> Result<Vec<Certificate>, Unfit> {
    let all = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    for (n, certificate) in all.iter().enumerate() {
        let added = roots.add(CertificateDer::from_slice(certificate).into_owned());
        added.map_err(|_| Unfit::Unreadable(n + 1))?;
    }
    Ok(all)
}

/// Returns the private key in a PEM.
pub(crate) fn key(pem: &str) -> Result<ClientKey, Unfit> {
    check_size(pem)?;
    let mut key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
        PemError::NoItemsFound if pem.contains("ENCRYPTED PRIVATE KEY") => Unfit::EncryptedKey,
        PemError::NoItemsFound => Unfit::NoKey,
        // The former form of OpenSSL has headers within the section.
        _ if pem.contains("Proc-Type: 4,ENCRYPTED") => Unfit::EncryptedKey,
        _ => Unfit::NotPem,
    })?;
    let kept = ClientKey::new(key.secret_der().to_vec());
    key.zeroize();
    Ok(kept)
}

/// Why a chain and a key can't be used together, by the one at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    Certificate(Unfit),
    Key(Unfit),
}

/// Returns a client certificate whose key fits it.
pub(crate) fn client(chain: Vec<Certificate>, key: ClientKey) -> Result<ClientCertificate, Pair> {
    let client = ClientCertificate { chain, key };
    certified(&client)?;
    Ok(client)
}

/// Returns a client certificate as TLS uses it.
pub(crate) fn certified(client: &ClientCertificate) -> Result<CertifiedKey, Pair> {
    use rustls::{Error, InconsistentKeys};
    let chain = client.chain.iter();
    let chain = chain.map(|der| CertificateDer::from_slice(der).into_owned());
    let key = PrivateKeyDer::try_from(client.key.expose())
        .map_err(|_| Pair::Key(Unfit::UnusableKey))?
        .clone_key();
    let certified = CertifiedKey::from_der(chain.collect(), key, &default_provider());
    certified.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Pair::Key(Unfit::OtherKey),
        Error::InvalidCertificate(_) => Pair::Certificate(Unfit::Unreadable(1)),
        _ => Pair::Key(Unfit::UnusableKey),
    })
}

/// What is shown of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) validity: Validity,
    /// The digest of the whole certificate, in hex.
    pub(crate) sha256: String,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: UnixMs,
    pub(crate) not_after: UnixMs,
}

impl Validity {
    /// Reads a certificate; `None` if it isn't one.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self::in_certificate(&certificate))
    }

    fn in_certificate(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: time(validity.not_before),
            not_after: time(validity.not_after),
        }
    }
}

impl Facts {
    /// Reads a certificate; `None` if it isn't one.
    pub(crate) fn of(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            subject: text::cut(certificate.subject().to_string(), MAX_NAME_BYTES),
            issuer: text::cut(certificate.issuer().to_string(), MAX_NAME_BYTES),
            validity: Validity::in_certificate(&certificate),
            sha256: hex(&Sha256::digest(der)),
        })
    }
}

fn time(at: ASN1Time) -> UnixMs {
    UnixMs(
        u64::try_from(at.timestamp())
            .unwrap_or(0)
            .saturating_mul(1_000),
    )
}

#[cfg(test)]
mod tests;
