//! The other daemons on the same database: who they are, and connections to them.

pub(crate) mod certificate;
mod connections;

pub(crate) use connections::PeerError;

use connections::{Connections, bearer};
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use stormhook_postgres::cluster::{Member, Seat};
use stormhook_postgres::{Cluster, Holder};

/// Marks a call that a daemon passes on. It is never passed on again.
pub(crate) const PASSED: HeaderName = HeaderName::from_static("x-stormhook-passed");

/// The caller of a call that a daemon passes on, as JSON.
pub(crate) const PRINCIPAL: HeaderName = HeaderName::from_static("x-stormhook-principal");

/// How long a call waits for a look at the database.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) cluster: Cluster,
    pub(crate) connections: Connections,
}

impl Peers {
    pub(crate) fn new(cluster: Cluster) -> Arc<Self> {
        let connections = Connections::new(cluster.token());
        Arc::new(Self {
            cluster,
            connections,
        })
    }

    /// Returns what daemons show each other, as a header.
    pub(crate) fn token(&self) -> HeaderValue {
        bearer(self.cluster.token())
    }

    /// Returns the daemons that are alive, but this one.
    pub(crate) fn others(&self) -> Vec<(Seat, Member)> {
        let view = self.cluster.view();
        let others = view
            .members
            .iter()
            .filter(|(seat, member)| **seat != self.cluster.seat() && !member.is_expired());
        others
            .map(|(seat, member)| (*seat, member.clone()))
            .collect()
    }

    /// Whether this daemon decides about the organization.
    pub(crate) fn holds(&self, organization: &str) -> bool {
        self.cluster.holder(organization) == Holder::Here
    }

    /// Looks again who holds what. If the database can't be read, or not soon, what was known stays.
    pub(crate) async fn look(&self) {
        match tokio::time::timeout(LOOK, self.cluster.look()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the daemons of the database could not be read");
            }
            Err(_) => tracing::debug!("the daemons of the database are not read yet"),
        }
    }
}
