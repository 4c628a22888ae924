//! What is wrong with TLS to a daemon, in plain words for who runs the command. The library's own words are never shown.

use std::error::Error as StdError;
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use stormhook_engine::times::rfc3339;
use stormhook_store::UnixMs;

use crate::terminal::plain;

/// How many names of a certificate are shown.
const NAMES: usize = 3;

/// Says why a handshake with this host failed.
pub(super) fn of_handshake(error: &io::Error, host: &str) -> String {
    let inside = error
        .get_ref()
        .and_then(|inner| (inner as &(dyn StdError + 'static)).downcast_ref::<Error>());
    match inside {
        Some(Error::InvalidCertificate(why)) => of_certificate(why, host),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS; check the port, or that tls.certificate is set there".to_owned()
        }
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
            "it supports neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        Some(Error::PeerIncompatible(_)) => {
            "it and this program have no version or cipher of TLS in common".to_owned()
        }
        Some(_) => "the TLS handshake failed; check that a stormhook daemon listens there".to_owned(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection during the TLS handshake; check that it serves TLS and isn't full".to_owned()
        }
        None => format!("the TLS handshake failed: {error}"),
    }
}

fn of_certificate(error: &CertificateError, host: &str) -> String {
    use CertificateError as C;
    match error {
        C::ExpiredContext { not_after, .. } => format!(
            "its certificate expired at {}; renew it there (tls.certificate)",
            date(*not_after)
        ),
        C::Expired => "its certificate has expired; renew it there (tls.certificate)".to_owned(),
        C::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}; check this machine's clock",
            date(*not_before)
        ),
        C::NotValidYet => {
            "its certificate is not valid yet; check this machine's clock".to_owned()
        }
        C::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(NAMES).map(|name| of_name(name)).collect();
            let names = if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            };
            format!(
                "its certificate is for {names}, not for {}; use a name of the certificate in --server",
                plain(host)
            )
        }
        C::NotValidForName => format!(
            "its certificate is not for {}; use a name of the certificate in --server",
            plain(host)
        ),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "its certificate is not for servers; replace it there (tls.certificate)".to_owned()
        }
        C::Revoked => "its certificate was revoked; replace it there (tls.certificate)".to_owned(),
        C::BadSignature => {
            "a signature on its certificate or handshake is invalid".to_owned()
        }
        // Without an issuer, or signed by itself.
        C::UnknownIssuer | C::Other(_) => {
            "its certificate is not signed by a trusted authority; name the certificate, or that of its authority, with --ca-file FILE".to_owned()
        }
        _ => "its certificate was rejected; replace it there (tls.certificate)".to_owned(),
    }
}

/// Returns a name as it stands in the certificate: the library shows `DnsName("hooks.example")`.
fn of_name(presented: &str) -> String {
    let quoted = presented.split('"').nth(1);
    let bare = presented
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    let name: String = quoted
        .or(bare)
        .unwrap_or(presented)
        .chars()
        .take(80)
        .collect();
    plain(&name)
}

fn date(time: UnixTime) -> String {
    rfc3339(UnixMs(time.as_secs().saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_certificate_is_shown_as_it_is_and_cannot_drive_the_terminal() {
        for (presented, shown) in [
            (r#"DnsName("hooks.example")"#, "hooks.example"),
            ("IpAddress(192.0.2.1)", "192.0.2.1"),
            ("DnsName(\"a\u{1b}[2Jb\")", "a\\u{1b}[2Jb"),
            ("other", "other"),
        ] {
            assert_eq!(of_name(presented), shown);
        }
    }

    #[test]
    fn an_error_that_is_not_of_tls_keeps_its_words() {
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "reset by peer");
        assert!(of_handshake(&reset, "h").ends_with("reset by peer"));
        let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(of_handshake(&ended, "h").contains("closed the connection"));
    }
}
