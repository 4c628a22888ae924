//! Endpoints prepared for sending, kept for the next attempt. One that was prepared from earlier settings or an earlier
//! configuration is never returned.

use crate::payload::Partner;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormhook_store::{Endpoint, Slot, UnixMs};

/// Prepared endpoints that are kept.
const KEPT: usize = 1_024;

#[derive(Default)]
pub(super) struct Partners(Mutex<HashMap<Slot, Arc<Partner>>>);

impl Partners {
    fn lock(&self) -> MutexGuard<'_, HashMap<Slot, Arc<Partner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `endpoint` prepared for sending at `now`; calls `prepare` if it isn't kept or is no longer valid. A
    /// change of anything that `prepare` reads must be followed by `clear`.
    pub(super) fn of(
        &self,
        endpoint: &Arc<Endpoint>,
        now: UnixMs,
        prepare: impl FnOnce() -> Partner,
    ) -> Arc<Partner> {
        let mut kept = self.lock();
        // An attempt that began before a change may have inserted the earlier one after it.
        if let Some(partner) = kept.get(&endpoint.slot)
            && partner.is_of(endpoint)
            && partner.until().is_none_or(|until| now < until)
        {
            return Arc::clone(partner);
        }
        let partner = Arc::new(prepare());
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(endpoint.slot, Arc::clone(&partner));
        partner
    }

    /// Its settings changed: its secrets are kept no longer than needed.
    pub(super) fn forget(&self, slot: Slot) {
        self.lock().remove(&slot);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::tests::endpoint;
    use crate::transport::tests::Nowhere;
    use http::HeaderName;
    use stormhook_store::endpoint::LiveSecret;
    use stormhook_verifier::Secret;

    fn settings(secret: &str, until: Option<UnixMs>) -> Arc<Endpoint> {
        let secret = Secret::parse(secret).unwrap();
        Arc::new(endpoint(vec![LiveSecret {
            secret,
            seed: None,
            until,
        }]))
    }

    fn of(partners: &Partners, endpoint: &Arc<Endpoint>, now: UnixMs) -> Arc<Partner> {
        let name = HeaderName::from_static("x-stormcom-signature");
        partners.of(endpoint, now, || {
            Partner::new(endpoint, &Nowhere, name, now)
        })
    }

    #[test]
    fn an_attempt_that_began_before_a_change_leaves_nothing_of_the_old_settings_behind() {
        let partners = Partners::default();
        let old = settings("the-secret-they-had-before", None);
        let new = settings("the-secret-they-have-since", None);
        of(&partners, &old, UnixMs(0));
        partners.forget(old.slot);
        // The change is announced while an attempt holds the old settings but hasn't asked yet.
        of(&partners, &old, UnixMs(1));
        assert!(of(&partners, &new, UnixMs(2)).is_of(&new));
    }

    #[test]
    fn an_endpoint_is_prepared_once_and_again_when_a_secret_expires() {
        let partners = Partners::default();
        let endpoint = settings("a-secret-until-some-time", Some(UnixMs(5)));
        let first = of(&partners, &endpoint, UnixMs(0));
        assert!(Arc::ptr_eq(&first, &of(&partners, &endpoint, UnixMs(4))));
        assert!(!Arc::ptr_eq(&first, &of(&partners, &endpoint, UnixMs(5))));
    }
}
