//! The part of an endpoint's row that holds its TLS settings, since version 3.

use crate::endpoint::{ClientCertificate, ClientKey, EndpointTls};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroize;

#[derive(Serialize, Deserialize)]
pub(super) struct TlsRow {
    client: Option<ClientRow>,
    trusted: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct ClientRow {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

/// A row being written or read leaves no key in memory.
impl Drop for ClientRow {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl TlsRow {
    pub(super) fn of(tls: &EndpointTls) -> Self {
        let client = tls.client().map(|client| ClientRow {
            chain: client.chain.clone(),
            key: client.key.expose().to_vec(),
        });
        Self {
            client,
            trusted: tls.trusted().to_vec(),
        }
    }

    pub(super) fn into_tls(self) -> Option<Arc<EndpointTls>> {
        let client = self.client.map(|mut client| ClientCertificate {
            chain: std::mem::take(&mut client.chain),
            key: ClientKey::new(std::mem::take(&mut client.key)),
        });
        EndpointTls::new(client, self.trusted).map(Arc::new)
    }
}
