//! Certificates that a test makes: an authority, and what it issues.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority of the test's own.
pub struct Authority {
    parameters: CertificateParams,
    key: KeyPair,
    pem: String,
}

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("a test's authority")
    }

    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        let made = parameters.self_signed(&key).expect("a certificate");
        Self {
            parameters,
            key,
            pem: made.pem(),
        }
    }

    /// Returns its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for names, of hosts or addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let (parameters, key) = leaf(names);
        let issuer = Issuer::from_params(&self.parameters, &self.key);
        let made = parameters.signed_by(&key, &issuer).expect("a certificate");
        Issued {
            certificate: made.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// Makes a certificate that is its own authority, as `openssl req -x509` does.
    pub fn self_signed(names: &[&str]) -> Self {
        let (mut parameters, key) = leaf(names);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let made = parameters.self_signed(&key).expect("a certificate");
        Self {
            certificate: made.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn leaf(names: &[&str]) -> (CertificateParams, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).expect("names");
    // The name of a database user, if it is a client's.
    parameters
        .distinguished_name
        .push(DnType::CommonName, "postgres");
    (parameters, key)
}
