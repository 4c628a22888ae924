//! TLS to the database, by the words that libpq has for it. Files are read for each connection, so that a renewed one is
//! used without a restart.

mod trust;
pub(crate) mod words;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use trust::{Trust, Verifier};

/// How much TLS protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// No TLS.
    Disable,
    /// TLS if the server has it. Its certificate is not checked.
    Prefer,
    /// TLS. Its certificate is not checked.
    Require,
    /// TLS with a certificate of a trusted authority, whatever it is for.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for the host.
    VerifyFull,
}

const MODES: [(&str, Mode); 5] = [
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

/// The word for the roots of the platform.
const SYSTEM: &str = "system";
const OF_ANYONE: &str = "anyone can get a certificate from one of the system's authorities";

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    mode: Option<Mode>,
    roots: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Tls {
    /// Sets a parameter. Returns false if it is not about TLS.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        if !["sslmode", "sslrootcert", "sslcert", "sslkey"].contains(&name) {
            return Ok(false);
        }
        if name == "sslmode" {
            let known = MODES.iter().find(|(word, _)| *word == value);
            let (_, mode) = known.ok_or_else(|| {
                format!("sslmode={value} is not supported: use disable, prefer, require, verify-ca or verify-full")
            })?;
            self.mode = Some(*mode);
            return Ok(true);
        }
        if value.is_empty() {
            return Err(format!("{name} is empty: name a file"));
        }
        match name {
            "sslrootcert" => self.roots = Some(value.to_owned()),
            "sslcert" => self.certificate = Some(value.into()),
            _ => self.key = Some(value.into()),
        }
        Ok(true)
    }

    /// Checks that the parameters go together, and completes them. A local server is reached without TLS, whatever they say.
    pub(crate) fn checked(mut self, is_local: bool) -> Result<Self, String> {
        if is_local {
            self.mode = Some(Mode::Disable);
            return Ok(self);
        }
        let of_system = self.roots.as_deref() == Some(SYSTEM);
        let default = if of_system {
            Mode::VerifyFull
        } else {
            Mode::Prefer
        };
        let mode = self.mode.unwrap_or(default);
        let mode = match (mode, &self.roots) {
            (Mode::Require | Mode::VerifyCa, Some(_)) if of_system => {
                return Err(format!(
                    "sslrootcert=system needs sslmode=verify-full: {OF_ANYONE}"
                ));
            }
            (Mode::VerifyCa, None) => {
                return Err(format!(
                    "sslmode=verify-ca needs sslrootcert=FILE: {OF_ANYONE}"
                ));
            }
            (Mode::Prefer, Some(_)) => {
                return Err("sslrootcert has no effect with sslmode=prefer: use verify-full, or remove sslrootcert".to_owned());
            }
            (Mode::Require, Some(_)) => Mode::VerifyCa,
            (mode, _) => mode,
        };
        self.mode = Some(mode);
        match (&self.certificate, &self.key) {
            (Some(_), None) => {
                Err("sslcert needs sslkey=FILE, the certificate's private key".to_owned())
            }
            (None, Some(_)) => Err("sslkey needs sslcert=FILE, the key's certificate".to_owned()),
            _ => Ok(self),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Prefer)
    }

    /// Returns the files that it is read from.
    pub(crate) fn files(self) -> Vec<PathBuf> {
        let roots = self.roots.filter(|roots| roots != SYSTEM);
        let files = [roots.map(PathBuf::from), self.certificate, self.key];
        files.into_iter().flatten().collect()
    }

    #[cfg(test)]
    pub(crate) fn roots(&self) -> Option<&str> {
        self.roots.as_deref()
    }

    /// Returns what the driver knows of the mode. It leaves the certificate to [`Tls::connector`].
    pub(crate) fn driver_mode(&self) -> SslMode {
        match self.mode() {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }

    /// Reads the files, and returns what makes TLS of a connection; `None` if there is to be none.
    ///
    /// # Errors
    /// What is wrong with a file, and what to do.
    pub(crate) fn connector(&self) -> Result<Option<MakeRustlsConnect>, String> {
        let trust = match (self.mode(), self.roots.as_deref()) {
            (Mode::Disable, _) => return Ok(None),
            (Mode::Prefer | Mode::Require, _) => None,
            (Mode::VerifyCa | Mode::VerifyFull, None | Some(SYSTEM)) => Some(Trust::of_system()?),
            (Mode::VerifyCa | Mode::VerifyFull, Some(file)) => Some(Trust::of_file(file.as_ref())?),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier {
            trust,
            for_host: self.mode() == Mode::VerifyFull,
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| words::of(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("sslcert", certificate)?;
                let key = private_key(key)?;
                config.with_client_auth_cert(chain, key).map_err(|_| {
                    "sslkey is not the private key of the certificate in sslcert: name the files that belong together".to_owned()
                })?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Some(MakeRustlsConnect::new(config)))
    }
}

/// Reads the certificates of a PEM file.
fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: String| {
        format!(
            "{name}={}: {why}; name a readable PEM file with at least one certificate",
            path.display()
        )
    };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(|error| wrong(error.to_string()))?;
    if read.is_empty() {
        return Err(wrong("it has no certificate".to_owned()));
    }
    Ok(read)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        format!(
            "sslkey={}: {error}; name a readable PEM file with a private key that is not encrypted",
            path.display()
        )
    })
}
