//! The TLS settings of an endpoint as options: three files that make one object, and how what is set is shown.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::input;
use crate::table::Cell;

/// The setting's name in the API, and for `--clear`.
pub(super) const TLS: &str = "tls";

/// The API's limit.
const PEM_BYTES: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// Certificate to present to the server, with its issuers: a PEM file
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Private key of that certificate: a PEM file
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// Certificates to trust for this endpoint in addition: a PEM file
    #[arg(long, value_name = "FILE")]
    ca_certificate: Option<PathBuf>,
}

impl TlsArgs {
    /// Adds the settings to a body for the API, as a whole.
    pub(super) fn put(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        let mut tls = Map::new();
        for (key, file) in [
            ("clientCertificate", &self.client_certificate),
            ("clientKey", &self.client_key),
            ("caCertificate", &self.ca_certificate),
        ] {
            if let Some(file) = file {
                tls.insert(key.to_owned(), Value::String(pem_in(file)?));
            }
        }
        if tls.is_empty() {
            return Ok(());
        }
        if body.contains_key(TLS) {
            return Err(Failure::Usage(
                "tls is both set and cleared: omit one of the two".to_owned(),
            ));
        }
        body.insert(TLS.to_owned(), tls.into());
        Ok(())
    }
}

fn pem_in(file: &Path) -> Result<String, Failure> {
    let bytes = input::read_bounded(file, PEM_BYTES)?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::Usage(format!(
            "{} is not text: convert it to PEM, for example with `openssl x509` or `openssl pkey`",
            file.display()
        ))
    })
}

/// Returns what is set, with its labels.
pub(super) fn shown(endpoint: &Value) -> impl Iterator<Item = (&'static str, Cell)> {
    let tls = endpoint.get(TLS);
    let all = [
        ("client certificate", "clientCertificate"),
        ("also trusts", "caCertificate"),
    ];
    all.into_iter().filter_map(move |(label, key)| {
        let certificate = tls?.get(key).filter(|value| value.is_object())?;
        Some((label, Cell::text(&certificate_in_words(certificate))))
    })
}

fn certificate_in_words(certificate: &Value) -> String {
    let text = |key| certificate.get(key).and_then(Value::as_str).unwrap_or("-");
    let others = certificate.get("chain").and_then(Value::as_array);
    let others = match others.map_or(0, Vec::len) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    format!("{}, until {}{others}", text("subject"), text("notAfter"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_set_is_shown_and_nothing_else() {
        let endpoint = json!({"tls": {
            "clientCertificate": {"subject": "CN=a", "issuer": "CN=b", "notAfter": "t-1", "sha256": "00",
                "chain": [{"subject": "CN=b"}]},
            "caCertificate": null}});
        let rows: Vec<_> = shown(&endpoint).collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].0, "client certificate");
        let words = certificate_in_words(&endpoint["tls"]["clientCertificate"]);
        assert_eq!(words, "CN=a, until t-1, and 1 more");
        assert_eq!(shown(&json!({"tls": null})).count(), 0);
        assert_eq!(shown(&json!({})).count(), 0);
    }
}
