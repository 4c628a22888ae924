//! Remembers for how long the certificates of servers are valid, from the last handshake with each, so that an expiry is
//! known before deliveries fail. In memory only and bounded: what is forgotten is seen again at the next connection.

use crate::certificates::Validity;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many servers are remembered.
const MAX_SERVERS: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct ServerCertificates(Mutex<HashMap<String, Validity>>);

impl ServerCertificates {
    /// A panic leaves the entries consistent: each change is a single step.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Validity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the certificate that the server at this origin has.
    pub(super) fn note(&self, origin: &str, validity: Validity) {
        let mut known = self.lock();
        if let Some(known) = known.get_mut(origin) {
            *known = validity;
            return;
        }
        if known.len() >= MAX_SERVERS {
            // Of the one that expires last, nothing needs to be said for the longest time.
            let last = known.iter().max_by_key(|(_, validity)| validity.not_after);
            if let Some(last) = last.map(|(origin, _)| origin.clone()) {
                known.remove(&last);
            }
        }
        known.insert(origin.to_owned(), validity);
    }

    /// Returns for how long the certificate of the server at this origin is valid, if a connection has shown it.
    pub(crate) fn of(&self, origin: &str) -> Option<Validity> {
        self.lock().get(origin).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormhook_store::UnixMs;

    fn until(end: u64) -> Validity {
        Validity {
            not_before: UnixMs(0),
            not_after: UnixMs(end),
        }
    }

    #[test]
    fn the_last_certificate_counts() {
        let known = ServerCertificates::default();
        assert_eq!(known.of("https://a.test:443"), None);
        known.note("https://a.test:443", until(7));
        known.note("https://a.test:443", until(5));
        assert_eq!(known.of("https://a.test:443"), Some(until(5)));
        assert_eq!(known.of("https://a.test:8443"), None);
    }

    #[test]
    fn no_more_servers_are_remembered_than_the_bound_and_the_next_to_expire_stay() {
        let known = ServerCertificates::default();
        for n in 0..MAX_SERVERS as u64 + 10 {
            known.note(&n.to_string(), until(n));
        }
        assert_eq!(known.lock().len(), MAX_SERVERS);
        assert_eq!(known.of("0"), Some(until(0)));
        assert_eq!(known.of(&(MAX_SERVERS - 1).to_string()), None);
        assert!(known.of(&(MAX_SERVERS + 9).to_string()).is_some());
    }
}
