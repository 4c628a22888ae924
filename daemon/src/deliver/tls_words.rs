//! TLS errors in plain words: what is wrong and what to do. This is the only table of them; the library's own words are
//! never shown.

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved,
};
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use stormhook_store::UnixMs;

/// A self-signed certificate that the operator did not name.
#[derive(Debug, thiserror::Error)]
#[error("self-signed certificate")]
pub(super) struct SelfSigned;

/// How many names of a certificate an error shows.
const MAX_NAMES: usize = 3;
/// How many bytes of one name an error shows.
const MAX_NAME_BYTES: usize = 80;

const ROOTS: &str = "add its issuer to tls.extra_roots, or have the partner send the whole chain";

/// What went wrong in a handshake, or after it, when that was TLS's.
pub(super) fn io_words(error: &io::Error) -> String {
    match inside(error) {
        Some(error) => words(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed during the TLS handshake".to_owned()
        }
        None => format!(
            "the TLS handshake failed: it {}",
            super::fault::words(error)
        ),
    }
}

/// The TLS error that is at the bottom of another one.
pub(super) fn inside<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    // Chains are short; one that went in circles would end here.
    for _ in 0..16 {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(tls);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Describes one error in a sentence.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => alerted(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the answer is not TLS; check that the port serves https".to_owned()
        }
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerSentOversizedRecord => "the server violated the TLS protocol".to_owned(),
        Error::PeerMisbehaved(how) => misbehaved(how),
        Error::PeerIncompatible(why) => incompatible(why),
        Error::NoCertificatesPresented => "the server sent no certificate".to_owned(),
        Error::UnsupportedNameType => {
            "the host in the URL can't be verified by a certificate; use a host name".to_owned()
        }
        Error::DecryptError => {
            "the server's data can't be decrypted: it was modified in transit, or the server is faulty"
                .to_owned()
        }
        Error::NoApplicationProtocol => {
            "the server supports neither HTTP/2 nor HTTP/1.1 over TLS".to_owned()
        }
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => {
            "this machine has no valid time or no random numbers for TLS".to_owned()
        }
        _ => "the TLS handshake failed for an unknown reason".to_owned(),
    }
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as C;
    match error {
        C::BadEncoding => "the server's certificate can't be read".to_owned(),
        C::Expired => "the server's certificate has expired; the partner must renew it".to_owned(),
        C::ExpiredContext { not_after, .. } => format!(
            "the server's certificate expired at {}; the partner must renew it",
            date(not_after.as_secs())
        ),
        C::NotValidYet => "the server's certificate is not valid yet".to_owned(),
        C::NotValidYetContext { not_before, .. } => format!(
            "the server's certificate is not valid before {}; check this machine's clock, or have the partner replace it",
            date(not_before.as_secs())
        ),
        C::Revoked => "the server's certificate was revoked".to_owned(),
        C::UnknownIssuer => {
            format!("the server's certificate was issued by an authority that is not trusted; {ROOTS}")
        }
        C::BadSignature => {
            "a signature on the server's certificate or handshake is invalid".to_owned()
        }
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate uses an unsupported signature algorithm; the partner must use a current algorithm".to_owned()
        }
        C::NotValidForName => {
            "the server's certificate is not for this host".to_owned()
        }
        C::NotValidForNameContext { presented, .. } => wrong_host(presented),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "the server's certificate is not valid for servers; the partner must get one for server authentication".to_owned()
        }
        C::UnhandledCriticalExtension => {
            "the server's certificate has an unsupported critical extension".to_owned()
        }
        C::Other(other) => other_certificate(&*other.0),
        _ => "the server's certificate was rejected".to_owned(),
    }
}

fn other_certificate(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    if error.is::<SelfSigned>() {
        return "the server's certificate is self-signed and not trusted; add it to tls.extra_roots".to_owned();
    }
    match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => {
            "the server's certificate is a certificate authority's; add it to tls.extra_roots to trust it anyway, or have the partner use a server certificate".to_owned()
        }
        Some(webpki::Error::EndEntityUsedAsCa) => {
            "the issuer of the server's certificate is not a certificate authority".to_owned()
        }
        Some(webpki::Error::NameConstraintViolation) => {
            "the issuer of the server's certificate may not issue for this host".to_owned()
        }
        Some(webpki::Error::UnsupportedCertVersion) => {
            "the server's certificate is not of version 3; the partner must replace it".to_owned()
        }
        _ => "the server's certificate is not valid".to_owned(),
    }
}

fn wrong_host(presented: &[String]) -> String {
    let mut text = "the server's certificate is not for this host".to_owned();
    if presented.is_empty() {
        text.push_str(": it has no names; the partner must use one with a subjectAltName");
        return text;
    }
    for (n, name) in presented.iter().take(MAX_NAMES).enumerate() {
        text.push_str(if n == 0 { " but for " } else { ", " });
        text.push_str(plain_name(name));
    }
    if let Some(more @ 1..) = presented.len().checked_sub(MAX_NAMES) {
        // Writing to a String can't fail.
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Returns a name in a certificate without the library's prefix for its kind, truncated.
fn plain_name(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    let inner = inner.trim_matches('"');
    let end = inner.floor_char_boundary(MAX_NAME_BYTES.min(inner.len()));
    inner.get(..end).unwrap_or_default()
}

fn alerted(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let text = match alert {
        A::CertificateRequired => {
            "the server requires a client certificate, which deliveries don't have"
        }
        A::HandshakeFailure | A::InsufficientSecurity => {
            "the server refused the handshake: no cipher in common, or it requires a client certificate"
        }
        A::ProtocolVersion => "the server supports neither TLS 1.2 nor TLS 1.3",
        A::UnrecognisedName => "the server doesn't know this host",
        A::NoApplicationProtocol => "the server supports neither HTTP/2 nor HTTP/1.1 over TLS",
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateUnknown
        | A::CertificateExpired
        | A::CertificateRevoked
        | A::UnknownCA
        | A::NoCertificate
        | A::AccessDenied => {
            "the server requires a trusted client certificate, which deliveries don't have"
        }
        A::InternalError => "the server had an internal error in the TLS handshake",
        A::CloseNotify | A::UserCanceled => "the server ended the TLS handshake",
        _ => "the server refused the TLS handshake",
    };
    text.to_owned()
}

fn misbehaved(how: &PeerMisbehaved) -> String {
    let text = match how {
        PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
        | PeerMisbehaved::SignedKxWithWrongAlgorithm => {
            "the server signed the handshake with an algorithm that was not offered"
        }
        _ => "the server violated the TLS protocol",
    };
    text.to_owned()
}

fn incompatible(why: &PeerIncompatible) -> String {
    use PeerIncompatible as P;
    let text = match why {
        P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => "the server supports neither TLS 1.2 nor TLS 1.3",
        P::NoCipherSuitesInCommon
        | P::NoKxGroupsInCommon
        | P::NoSignatureSchemesInCommon
        | P::NoEcPointFormatsInCommon
        | P::NoCertificateRequestSignatureSchemesInCommon => {
            "the server and this daemon have no cipher in common"
        }
        _ => "the server lacks a required TLS feature",
    };
    text.to_owned()
}

fn date(seconds: u64) -> String {
    stormhook_engine::times::rfc3339(UnixMs(seconds.saturating_mul(1_000)))
}

#[cfg(test)]
pub(super) mod tests;
