//! The TLS settings in an endpoint's row: the certificates are in its public part, the private key is in the private one.

use crate::endpoint::{ClientCertificate, ClientKey, EndpointTls};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The certificates, in DER.
#[derive(Serialize, Deserialize)]
pub(super) struct TlsRow {
    /// The client certificate's chain.
    client: Option<Vec<Vec<u8>>>,
    trusted: Vec<Vec<u8>>,
}

/// Returns the private key of the client certificate.
pub(super) fn client_key(tls: &EndpointTls) -> Option<Vec<u8>> {
    let client = tls.client();
    client.map(|client| client.key.expose().to_vec())
}

impl TlsRow {
    pub(super) fn of(tls: &EndpointTls) -> Self {
        Self {
            client: tls.client().map(|client| client.chain.clone()),
            trusted: tls.trusted().to_vec(),
        }
    }

    /// Returns the settings. Without its key a client certificate can't be used, and is left out.
    pub(super) fn into_tls(self, key: Option<Vec<u8>>) -> Option<Arc<EndpointTls>> {
        let client = self.client.zip(key).map(|(chain, key)| ClientCertificate {
            chain,
            key: ClientKey::new(key),
        });
        EndpointTls::new(client, self.trusted).map(Arc::new)
    }
}
