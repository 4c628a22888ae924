//! How TLS connections begin: in one way to all endpoints without TLS settings, and in one for each different settings,
//! which is prepared once. Different settings share nothing, neither connections nor sessions that could be resumed.

use super::trust::{Trust, TrustError};
use rustls::ClientConfig;
use rustls::client::Resumption;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormhook_store::endpoint::EndpointTls;
use tokio_rustls::TlsConnector;

/// How many different settings are kept prepared.
const MAX_PREPARED: usize = 1_024;
/// How many sessions are kept to resume with the same settings: few endpoints share them.
const SESSIONS: usize = 16;

/// One way to begin. Clones share the sessions.
#[derive(Clone)]
pub(super) struct Handshake {
    http2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    /// Whether it presents a client certificate if the server asks for one.
    pub(super) presents: bool,
}

impl Handshake {
    fn new(mut config: ClientConfig, presents: bool) -> Self {
        let mut http1_only = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        http1_only.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            http2: Arc::new(config),
            http1: Arc::new(http1_only),
            presents,
        }
    }

    /// Returns what begins a connection. It offers HTTP/2 unless `http1_only`.
    pub(super) fn connector(&self, http1_only: bool) -> TlsConnector {
        let config = if http1_only { &self.http1 } else { &self.http2 };
        TlsConnector::from(config.clone())
    }
}

/// See the module.
pub(super) struct Handshakes {
    trust: Trust,
    plain: Handshake,
    prepared: Mutex<Prepared>,
}

#[derive(Default)]
struct Prepared {
    by_fingerprint: HashMap<[u8; 32], Kept>,
    /// Counts uses.
    uses: u64,
}

struct Kept {
    handshake: Handshake,
    last_use: u64,
}

impl Handshakes {
    /// Reads the certificates to trust.
    pub(super) fn new(extra_roots: &[PathBuf]) -> Result<Self, TrustError> {
        let trust = Trust::new(extra_roots)?;
        let config = trust.config(None).map_err(TrustError::Tls)?;
        Ok(Self {
            trust,
            plain: Handshake::new(config, false),
            prepared: Mutex::default(),
        })
    }

    /// Returns how connections to an endpoint with these settings begin.
    ///
    /// # Errors
    /// Why the settings can't be used, in plain words.
    pub(super) fn of(&self, tls: Option<&EndpointTls>) -> Result<Handshake, String> {
        let Some(tls) = tls else {
            return Ok(self.plain.clone());
        };
        if let Some(handshake) = self.lock().find(tls.fingerprint()) {
            return Ok(handshake);
        }
        let mut config = self.trust.config(Some(tls))?;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let handshake = Handshake::new(config, tls.client().is_some());
        Ok(self.lock().keep(*tls.fingerprint(), handshake))
    }

    /// A panic leaves what is prepared consistent: each change is a single step.
    fn lock(&self) -> MutexGuard<'_, Prepared> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Prepared {
    fn find(&mut self, fingerprint: &[u8; 32]) -> Option<Handshake> {
        self.uses += 1;
        let kept = self.by_fingerprint.get_mut(fingerprint)?;
        kept.last_use = self.uses;
        Some(kept.handshake.clone())
    }

    /// Keeps the handshake, or returns the one that somebody else has kept in the meantime.
    fn keep(&mut self, fingerprint: [u8; 32], handshake: Handshake) -> Handshake {
        if let Some(known) = self.find(&fingerprint) {
            return known;
        }
        if self.by_fingerprint.len() >= MAX_PREPARED {
            let oldest = self
                .by_fingerprint
                .iter()
                .min_by_key(|(_, kept)| kept.last_use);
            if let Some(oldest) = oldest.map(|(fingerprint, _)| *fingerprint) {
                self.by_fingerprint.remove(&oldest);
            }
        }
        let kept = Kept {
            handshake: handshake.clone(),
            last_use: self.uses,
        };
        self.by_fingerprint.insert(fingerprint, kept);
        handshake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusting(n: u8) -> EndpointTls {
        let made = rcgen::generate_simple_self_signed(vec![format!("{n}.test")]).unwrap();
        EndpointTls::new(None, vec![made.cert.der().to_vec()]).unwrap()
    }

    /// Whether both come from the same preparation.
    fn same(one: &Handshake, other: &Handshake) -> bool {
        Arc::ptr_eq(&one.http2, &other.http2)
    }

    #[test]
    fn settings_are_prepared_once_and_share_nothing_with_others() {
        let all = Handshakes::new(&[]).unwrap();
        let (one, other) = (trusting(1), trusting(2));
        let first = all.of(Some(&one)).unwrap();
        assert!(same(&first, &all.of(Some(&one.clone())).unwrap()));
        assert!(!same(&first, &all.of(Some(&other)).unwrap()));
        assert!(!same(&first, &all.of(None).unwrap()));
        assert!(same(&all.of(None).unwrap(), &all.of(None).unwrap()));
    }

    #[test]
    fn no_more_settings_are_kept_than_the_bound_and_the_least_used_go_first() {
        let all = Handshakes::new(&[]).unwrap();
        let handshake = all.of(None).unwrap();
        let mut prepared = Prepared::default();
        let name = |n: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&n.to_be_bytes());
            name
        };
        for n in 0..MAX_PREPARED + 10 {
            prepared.keep(name(n), handshake.clone());
            assert!(prepared.find(&name(0)).is_some(), "it is in use");
            assert!(prepared.by_fingerprint.len() <= MAX_PREPARED);
        }
        assert!(prepared.find(&name(1)).is_none());
        assert!(prepared.find(&name(MAX_PREPARED + 9)).is_some());
    }
}
