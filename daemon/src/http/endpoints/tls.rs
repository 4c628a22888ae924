//! The TLS settings of an endpoint: as a request sends them, as responses show them, and what to warn of.

use crate::certificates::{self, Facts, Pair, Unfit, Validity};
use crate::http::fields::{self, Verbatim};
use crate::http::openapi::examples::EXPIRES;
use crate::http::problem::Problem;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use stormhook_engine::times::{at, day};
use stormhook_store::UnixMs;
use stormhook_store::endpoint::EndpointTls;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// How long before a certificate expires a warning begins.
const SOON_MS: u64 = 30 * 24 * 3_600_000;

const CLIENT_CERTIFICATE: &str = "tls.clientCertificate";
const CLIENT_KEY: &str = "tls.clientKey";
const CA_CERTIFICATE: &str = "tls.caCertificate";

/// The settings as they were written. They hold a private key.
pub(super) struct Written(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Verbatim(json) = Verbatim::deserialize(from)?;
        if !json.starts_with(b"{") {
            return Err(D::Error::custom("tls must be an object, or null for none."));
        }
        Ok(Self(Zeroizing::new(json.to_vec())))
    }
}

/// What TLS connections to the endpoint use in addition to the daemon's settings. Sent as a whole: what is omitted or null
/// is not set.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewEndpointTls)]
pub(super) struct TlsBody {
    /// The certificate to present if the server asks for one, in PEM, followed by those of its issuers: at most 10
    /// certificates and 64 KiB. Requires `clientKey`.
    #[schema(value_type = Option<String>, max_length = 65536)]
    client_certificate: Option<Option<String>>,
    /// The private key of that certificate, in PEM, without a passphrase. No response shows it.
    #[schema(value_type = Option<String>, max_length = 65536, write_only)]
    client_key: Option<Option<String>>,
    /// Certificates to trust for this endpoint in addition to all others, in PEM: as issuers, and as the server's own. At
    /// most 10 certificates and 64 KiB.
    #[schema(value_type = Option<String>, max_length = 65536)]
    ca_certificate: Option<Option<String>>,
}

impl Written {
    /// Returns the settings, checked; `None` if there are none.
    pub(super) fn parse(&self) -> Result<Option<Arc<EndpointTls>>, Problem> {
        let body: TlsBody = fields::read(&self.0).map_err(within_tls)?;
        let chain = body.client_certificate.flatten();
        let chain = chain.map(|pem| certificates::certificates(&pem));
        let chain = chain.transpose().map_err(of(CLIENT_CERTIFICATE))?;
        let key = body.client_key.flatten();
        let key = key.map(|pem| certificates::key(&Zeroizing::new(pem)));
        let key = key.transpose().map_err(of(CLIENT_KEY))?;
        let trusted = body.ca_certificate.flatten();
        let trusted = trusted.map(|pem| certificates::trusted(&pem));
        let trusted = trusted.transpose().map_err(of(CA_CERTIFICATE))?;
        let client = match (chain, key) {
            (Some(chain), Some(key)) => {
                Some(certificates::client(chain, key).map_err(|pair| match pair {
                    Pair::Certificate(unfit) => of(CLIENT_CERTIFICATE)(unfit),
                    Pair::Key(unfit) => of(CLIENT_KEY)(unfit),
                })?)
            }
            (None, None) => None,
            (Some(_), None) => return Err(alone(CLIENT_KEY, CLIENT_CERTIFICATE)),
            (None, Some(_)) => return Err(alone(CLIENT_CERTIFICATE, CLIENT_KEY)),
        };
        Ok(EndpointTls::new(client, trusted.unwrap_or_default()).map(Arc::new))
    }
}

fn of(field: &'static str) -> impl Fn(Unfit) -> Problem {
    move |unfit| Problem::field(field, format!("{field} {unfit}."))
}

fn alone(missing: &'static str, sent: &str) -> Problem {
    Problem::field(
        missing,
        format!("{missing} is required with {sent}. The settings are replaced as a whole."),
    )
}

/// Names a field of the object as a field of the body.
fn within_tls(mut problem: Problem) -> Problem {
    if let Some(field) = &mut problem.field {
        *field = format!("tls.{field}").into();
    }
    problem
}

/// What TLS connections to an endpoint use in addition to the daemon's settings. The private key is not shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EndpointTls)]
pub(super) struct TlsView {
    /// The certificate that is presented if the server asks for one; null for none.
    #[schema(required)]
    client_certificate: Option<CertificateView>,
    /// The first certificate that is trusted for this endpoint in addition to all others; null for none.
    #[schema(required)]
    ca_certificate: Option<CertificateView>,
}

/// A certificate.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Certificate, examples(json!({"subject": "CN=stormhook", "issuer": "CN=Partner CA", "notAfter": EXPIRES,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"})))]
pub(super) struct CertificateView {
    subject: String,
    issuer: String,
    /// When it expires.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    not_after: UnixMs,
    /// The SHA-256 digest of the certificate, in hex.
    #[schema(min_length = 64, max_length = 64)]
    sha256: String,
    /// The certificates after it in the PEM; omitted if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, no_recursion)]
    chain: Vec<CertificateView>,
}

impl TlsView {
    pub(super) fn of(tls: &EndpointTls) -> Self {
        let chain = tls.client().map(|client| client.chain.as_slice());
        Self {
            client_certificate: CertificateView::of(chain.unwrap_or_default()),
            ca_certificate: CertificateView::of(tls.trusted()),
        }
    }
}

impl CertificateView {
    fn of(list: &[Vec<u8>]) -> Option<Self> {
        let mut all = list.iter().filter_map(|der| Facts::of(der)).map(Self::from);
        let first = all.next()?;
        Some(Self {
            chain: all.collect(),
            ..first
        })
    }
}

impl From<Facts> for CertificateView {
    fn from(facts: Facts) -> Self {
        Self {
            subject: facts.subject,
            issuer: facts.issuer,
            not_after: facts.validity.not_after,
            sha256: facts.sha256,
            chain: Vec::new(),
        }
    }
}

/// Something that works now and will not, or that looks like a mistake.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Warning, examples(json!({"code": "certificate_expires_soon",
    "detail": "tls.clientCertificate (CN=stormhook) expires on 2026-01-20. Replace it before."})))]
pub(super) struct WarningView {
    /// `certificate_expired`, `certificate_expires_soon` (within 30 days), `certificate_not_valid_yet`, or
    /// `server_certificate_expires_soon` about the certificate that the server had at the last connection.
    code: &'static str,
    /// What it is about, and what to do.
    detail: String,
}

/// Returns what to warn of at the time `now`.
pub(super) fn warnings(tls: &EndpointTls, now: UnixMs) -> Vec<WarningView> {
    let chain = tls.client().map(|client| client.chain.as_slice());
    let lists = [
        (CLIENT_CERTIFICATE, chain.unwrap_or_default()),
        (CA_CERTIFICATE, tls.trusted()),
    ];
    let all = lists
        .into_iter()
        .flat_map(|(field, list)| list.iter().map(move |der| (field, der)));
    all.filter_map(|(field, der)| warning(field, &Facts::of(der)?, now))
        .collect()
}

fn warning(field: &str, facts: &Facts, now: UnixMs) -> Option<WarningView> {
    let Validity {
        not_before,
        not_after,
    } = facts.validity;
    let (code, what) = if not_after < now {
        let on = day(not_after);
        (
            "certificate_expired",
            format!("expired on {on}. Replace it."),
        )
    } else if now < not_before {
        let on = day(not_before);
        let what = format!("is not valid before {on}. Deliveries may fail until then.");
        ("certificate_not_valid_yet", what)
    } else if not_after < now.plus_ms(SOON_MS) {
        let on = day(not_after);
        let what = format!("expires on {on}. Replace it before.");
        ("certificate_expires_soon", what)
    } else {
        return None;
    };
    let detail = format!("{field} ({}) {what}", facts.subject);
    Some(WarningView { code, detail })
}

/// Warns of a server's certificate, as it was at the last connection, that was not renewed in time: 30 days before it
/// expires, or with a tenth of its time left if that is shorter.
pub(super) fn server_warning(validity: Validity, now: UnixMs) -> Option<WarningView> {
    let Validity {
        not_before,
        not_after,
    } = validity;
    let soon_ms = SOON_MS.min(not_after.since_ms(not_before) / 10);
    (not_after < now.plus_ms(soon_ms)).then(|| WarningView {
        code: "server_certificate_expires_soon",
        detail: format!(
            "The server's certificate expires on {}, as of the last connection. Deliveries will fail then; have the partner renew it.",
            day(not_after)
        ),
    })
}

#[cfg(test)]
mod tests;
