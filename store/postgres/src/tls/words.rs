//! What failed in TLS to the database, in plain words with what to do.

use rustls::{AlertDescription, CertificateError, Error};
use std::error::Error as StdError;

/// What the driver says if the server has no TLS.
const NO_TLS: &str = "server does not support TLS";
/// How many names of a certificate an error shows.
const MAX_NAMES: usize = 3;

/// Returns what is said of an error of the driver; `None` if it is not about TLS.
pub(crate) fn inside(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(of(tls));
        }
        if error.to_string() == NO_TLS {
            return Some("the server has no TLS, which sslmode asks for: set `ssl = on` in postgresql.conf, or use sslmode=disable on a network that you trust".to_owned());
        }
        let io = error.downcast_ref::<std::io::Error>();
        next = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Describes one error.
pub(crate) fn of(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError,
        ) => "the server refuses this daemon's certificate: name one that it trusts with sslcert and sslkey".to_owned(),
        other => format!("the TLS handshake failed ({other}): check that the address is that of a PostgreSQL server with TLS 1.2 or later"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    use CertificateError as C;
    match error {
        // The latter if a trusted authority has the name of the server's.
        C::UnknownIssuer | C::BadSignature => "the server's certificate is not signed by a trusted authority: name its authority with sslrootcert=FILE".to_owned(),
        C::Expired | C::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it".to_owned()
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: check the clock of this machine".to_owned()
        }
        C::NotValidForNameContext {
            expected,
            presented,
        } => wrong_host(&expected.to_str(), presented),
        C::Other(other)
            if matches!(
                other.0.downcast_ref(),
                Some(webpki::Error::CaUsedAsEndEntity)
            ) =>
        {
            "the server's certificate is that of an authority: name it with sslrootcert=FILE, or give the server one of its own".to_owned()
        }
        other => format!("the server's certificate can't be used ({other}): give the server another"),
    }
}

fn wrong_host(host: &str, names: &[String]) -> String {
    let what = if names.is_empty() {
        "it has no subjectAltName".to_owned()
    } else {
        let names: Vec<&str> = names
            .iter()
            .take(MAX_NAMES)
            .map(|name| plain(name))
            .collect();
        format!("it is for {}", names.join(", "))
    };
    format!(
        "the server's certificate is not for {host}, {what}: connect by a name that it has, or give the server one for {host}"
    )
}

/// Returns a name without the library's word for its kind.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}
