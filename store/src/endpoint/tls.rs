//! What TLS connections to one endpoint use in addition to the operator's settings: a client certificate with its private
//! key, and certificates to trust. Everything is DER that was checked before; nothing is parsed here.

use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// A certificate in DER (RFC 5280).
pub type Certificate = Vec<u8>;

/// The private key of a client certificate, in DER: PKCS #8, PKCS #1 or SEC 1. Wiped when dropped, and never printed.
#[derive(Clone)]
pub struct ClientKey(Zeroizing<Vec<u8>>);

impl ClientKey {
    /// Takes over a key without leaving a copy behind.
    #[must_use]
    pub fn new(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// Returns the bytes, to sign handshakes with.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

/// What the endpoint's server is shown if it asks for a certificate.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate, followed by those of its issuers.
    pub chain: Vec<Certificate>,
    /// The key that fits the first certificate.
    pub key: ClientKey,
}

/// See the module.
#[derive(Clone)]
pub struct EndpointTls {
    client: Option<ClientCertificate>,
    trusted: Vec<Certificate>,
    fingerprint: [u8; 32],
}

impl EndpointTls {
    /// Returns these settings; `None` if there are none.
    #[must_use]
    pub fn new(client: Option<ClientCertificate>, trusted: Vec<Certificate>) -> Option<Self> {
        if client.is_none() && trusted.is_empty() {
            return None;
        }
        let fingerprint = fingerprint(client.as_ref(), &trusted);
        Some(Self {
            client,
            trusted,
            fingerprint,
        })
    }

    /// Returns the client certificate.
    #[must_use]
    pub fn client(&self) -> Option<&ClientCertificate> {
        self.client.as_ref()
    }

    /// Returns the certificates that are trusted for this endpoint only.
    #[must_use]
    pub fn trusted(&self) -> &[Certificate] {
        &self.trusted
    }

    /// Returns what tells these settings from others: a digest of all certificates. The key needs no part in it: it is
    /// the only one that fits its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

/// Equal settings have the same certificates.
impl PartialEq for EndpointTls {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTls")
            .field("client", &self.client.is_some())
            .field("trusted", &self.trusted.len())
            .finish()
    }
}

fn fingerprint(client: Option<&ClientCertificate>, trusted: &[Certificate]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let chain = client.map(|client| client.chain.as_slice());
    for list in [chain.unwrap_or_default(), trusted] {
        hash.update((list.len() as u64).to_be_bytes());
        for certificate in list {
            hash.update((certificate.len() as u64).to_be_bytes());
            hash.update(certificate);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(certificate: &[u8]) -> ClientCertificate {
        ClientCertificate {
            chain: vec![certificate.to_vec()],
            key: ClientKey::new(vec![0xA7; 4]),
        }
    }

    #[test]
    fn nothing_set_is_no_setting() {
        assert_eq!(EndpointTls::new(None, Vec::new()), None);
    }

    #[test]
    fn settings_differ_when_a_certificate_differs_or_has_another_role() {
        let of = |client, trusted: &[&[u8]]| {
            EndpointTls::new(client, trusted.iter().map(|c| c.to_vec()).collect()).unwrap()
        };
        let all = [
            of(Some(client(b"ab")), &[]),
            of(None, &[b"ab"]),
            of(None, &[b"a", b"b"]),
            of(Some(client(b"a")), &[b"b"]),
            of(Some(client(b"b")), &[b"a"]),
        ];
        for (n, one) in all.iter().enumerate() {
            for (m, other) in all.iter().enumerate() {
                assert_eq!(one == other, n == m, "{n} and {m}");
            }
        }
    }

    #[test]
    fn a_key_is_kept_as_it_is_and_not_printed() {
        let tls = EndpointTls::new(Some(client(b"a")), Vec::new()).unwrap();
        let key = &tls.client().unwrap().key;
        assert_eq!(key.expose(), [0xA7; 4]);
        let shown = format!("{tls:?} {key:?}");
        assert!(!shown.contains("167") && !shown.contains("a7"), "{shown}");
    }
}
