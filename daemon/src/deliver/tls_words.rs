//! TLS errors in plain words: what is wrong and what to do. This is the only table of them; the library's own words are
//! never shown.

use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved,
};
use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use stormhook_engine::times::day;
use stormhook_store::UnixMs;

/// A self-signed certificate that the operator did not name.
#[derive(Debug, thiserror::Error)]
#[error("self-signed certificate")]
pub(super) struct SelfSigned;

/// How many names of a certificate an error shows.
const MAX_NAMES: usize = 3;
/// How many bytes of one name an error shows.
const MAX_NAME_BYTES: usize = 80;

/// What went wrong in a handshake, or after it, when that was TLS's. `presents` says whether a client certificate was there
/// to present.
pub(super) fn io_words(error: &io::Error, presents: bool) -> String {
    match inside(error) {
        Some(error) => words(error, presents),
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
pub(super) fn words(error: &Error, presents: bool) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => alerted(*alert, presents),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "server does not speak TLS; check that the port serves https".to_owned()
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
        C::Expired => "certificate has expired; the partner must renew it".to_owned(),
        C::ExpiredContext { not_after, .. } => format!(
            "certificate expired on {}; the partner must renew it",
            day_of(*not_after)
        ),
        C::NotValidYet => "certificate is not valid yet".to_owned(),
        C::NotValidYetContext { not_before, .. } => format!(
            "certificate is not valid before {}; check this machine's clock, or have the partner replace it",
            day_of(*not_before)
        ),
        C::Revoked => "certificate was revoked; the partner must replace it".to_owned(),
        C::UnknownIssuer => {
            "certificate is not signed by a trusted authority; have the partner send the whole chain, or add its issuer to the endpoint's tls.caCertificate or to tls.extra_roots".to_owned()
        }
        C::BadSignature => {
            "a signature on the server's certificate or handshake is invalid".to_owned()
        }
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate uses an unsupported signature algorithm; the partner must use a current algorithm".to_owned()
        }
        C::NotValidForName => "certificate is for another host".to_owned(),
        C::NotValidForNameContext {
            expected,
            presented,
        } => wrong_host(&expected.to_str(), presented),
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
        return "certificate is self-signed and not trusted; add it to the endpoint's tls.caCertificate or to tls.extra_roots".to_owned();
    }
    match error.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::CaUsedAsEndEntity) => {
            "certificate is a certificate authority's; have the partner use a server certificate, or add it to the endpoint's tls.caCertificate or to tls.extra_roots".to_owned()
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

fn wrong_host(expected: &str, presented: &[String]) -> String {
    let expected = cut(expected);
    if presented.is_empty() {
        return format!(
            "certificate has no names, so it is not for {expected}; the partner must use one with a subjectAltName"
        );
    }
    let mut text = "certificate is for ".to_owned();
    for (n, name) in presented.iter().take(MAX_NAMES).enumerate() {
        text.push_str(if n == 0 { "" } else { ", " });
        text.push_str(plain_name(name));
    }
    // Writing to a String can't fail.
    if let Some(more @ 1..) = presented.len().checked_sub(MAX_NAMES) {
        let _ = write!(text, " and {more} more");
    }
    let _ = write!(text, ", not {expected}");
    text
}

/// Returns a name in a certificate without the library's prefix for its kind, truncated.
fn plain_name(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    cut(inner.trim_matches('"'))
}

fn cut(name: &str) -> &str {
    let end = name.floor_char_boundary(MAX_NAME_BYTES.min(name.len()));
    name.get(..end).unwrap_or_default()
}

fn alerted(alert: AlertDescription, presents: bool) -> String {
    use AlertDescription as A;
    let text = match alert {
        _ if presents && let Some(refusal) = client_refused(alert) => refusal,
        A::CertificateRequired => {
            "the server requires a client certificate; set tls.clientCertificate and tls.clientKey of the endpoint"
        }
        A::HandshakeFailure | A::InsufficientSecurity if presents => {
            "the server refused the handshake: no cipher in common, or it does not accept the client certificate"
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
            "the server requires a client certificate that it trusts; set tls.clientCertificate and tls.clientKey of the endpoint"
        }
        A::InternalError => "the server had an internal error in the TLS handshake",
        A::CloseNotify | A::UserCanceled => "the server ended the TLS handshake",
        _ => "the server refused the TLS handshake",
    };
    text.to_owned()
}

/// Describes the refusal of the client certificate that was presented.
fn client_refused(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as A;
    Some(match alert {
        A::CertificateExpired => {
            "the server refused the client certificate: it has expired or is not valid yet; replace tls.clientCertificate"
        }
        A::CertificateRevoked => {
            "the server refused the client certificate: it was revoked; replace tls.clientCertificate"
        }
        A::UnknownCA => {
            "the server refused the client certificate: it doesn't trust its issuer; add the issuers to tls.clientCertificate, or have the partner trust them"
        }
        A::DecryptError => {
            "the server refused the client certificate: a signature doesn't match; check that the issuers in tls.clientCertificate are those that the partner trusts"
        }
        A::UnsupportedCertificate => {
            "the server refused the client certificate: it doesn't support its type; ask the partner which certificate to use"
        }
        A::AccessDenied => {
            "the server accepted the client certificate but denies it access; ask the partner to allow it"
        }
        A::BadCertificate | A::CertificateUnknown | A::NoCertificate | A::CertificateRequired => {
            "the server refused the client certificate; ask the partner which certificate it expects"
        }
        _ => return None,
    })
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

fn day_of(at: UnixTime) -> String {
    day(UnixMs(at.as_secs().saturating_mul(1_000)))
}

#[cfg(test)]
pub(super) mod tests;
