//! API keys: what the holder of one may do, and for which organization. The key itself is never stored: its digest is.

use crate::ids::{ApiKeyId, Slot, UnixMs};
use crate::query::{Cursor, Filling, List, Page};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many keys there may be, revoked and expired ones that are still listed included.
pub const MAX_API_KEYS: usize = 10_000;

/// The SHA-256 digest of a key.
pub type KeyDigest = [u8; 32];

/// One scope of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Sending events.
    Ingest,
    /// Reading, without secrets.
    Read,
    /// Changing endpoints, deliveries and recoveries.
    Write,
    /// Everything.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Write, Self::Admin];

    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Ingest => 1,
            Self::Read => 2,
            Self::Write => 4,
            Self::Admin => 8,
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    pub const ALL: Self =
        Self(Scope::Ingest.bit() | Scope::Read.bit() | Scope::Write.bit() | Scope::Admin.bit());

    /// Returns the set of these.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope.bit()))
    }

    /// Whether the set has a scope by name. `admin` does not count as the others here.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether the set allows what needs this scope: `admin` allows everything.
    pub fn allow(self, scope: Scope) -> bool {
        self.has(scope) || self.has(Scope::Admin)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// A name for people.
    pub name: String,
    /// The organization that it is bound to.
    pub organization: Option<String>,
    /// What it allows.
    pub scopes: Scopes,
    /// The SHA-256 digest of the key.
    pub digest: KeyDigest,
    /// When it was created.
    pub created_at: UnixMs,
    /// From when on it is refused.
    pub expires_at: Option<UnixMs>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMs>,
    /// When it was last used, within about a minute.
    pub last_used_at: Option<UnixMs>,
}

impl ApiKey {
    /// Whether it is accepted at the time `now`.
    pub fn is_live(&self, now: UnixMs) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|until| now < until)
    }

    /// Returns since when it is refused, if it is at the time `now`.
    pub fn ended_at(&self, now: UnixMs) -> Option<UnixMs> {
        let expired = self.expires_at.filter(|until| *until <= now);
        [self.revoked_at, expired].into_iter().flatten().min()
    }

    /// Takes over what another state of the same key knows: a key that was revoked stays so.
    pub fn merge(&mut self, other: &Self) {
        self.revoked_at = self.revoked_at.or(other.revoked_at);
        self.last_used_at = self.last_used_at.max(other.last_used_at);
    }
}

/// All keys, as they are kept in memory.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    by_id: BTreeMap<ApiKeyId, Arc<ApiKey>>,
    by_digest: HashMap<KeyDigest, ApiKeyId>,
}

impl ApiKeys {
    /// Adds or replaces a key.
    pub fn set(&mut self, key: ApiKey) {
        self.by_digest.insert(key.digest, key.id);
        self.by_id.insert(key.id, Arc::new(key));
    }

    /// Removes a key.
    pub fn remove(&mut self, id: ApiKeyId) {
        if let Some(key) = self.by_id.remove(&id) {
            self.by_digest.remove(&key.digest);
        }
    }

    /// Returns a key by its id.
    pub fn get(&self, id: ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.by_id.get(&id)
    }

    /// Returns the key with this digest.
    pub fn find(&self, digest: &KeyDigest) -> Option<&Arc<ApiKey>> {
        self.get(*self.by_digest.get(digest)?)
    }

    /// Returns all keys, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.by_id.values().rev()
    }

    /// Returns the keys of an organization.
    pub fn of(&self, organization: &str) -> Vec<ApiKey> {
        let is_of = |key: &&Arc<ApiKey>| key.organization.as_deref() == Some(organization);
        let of = self.iter().filter(is_of);
        of.map(|key| (**key).clone()).collect()
    }

    /// Returns a page of keys, newest first.
    pub fn page(&self, after: Option<Cursor>, limit: usize) -> Page<Arc<ApiKey>> {
        let mut filling = Filling::new(limit);
        let before = after.map_or(ApiKeyId(u128::MAX), |c| ApiKeyId(c.at));
        let mut last = None;
        for key in self.by_id.range(..before).rev().map(|(_, key)| key) {
            if filling.go_on(last).is_break() {
                break;
            }
            last = Some(Cursor {
                list: List::ApiKeys,
                at: key.id.0,
                slot: Slot(0),
            });
            filling.page.items.push(Arc::clone(key));
        }
        filling.page
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns some keys that ended before a time.
    pub fn ended_before(&self, before: UnixMs, most: usize) -> Vec<ApiKeyId> {
        let ended = |key: &&Arc<ApiKey>| key.ended_at(before).is_some_and(|at| at < before);
        let ended = self.by_id.values().filter(ended);
        ended.map(|key| key.id).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKey {
        ApiKey {
            id: ApiKeyId(1),
            name: "orders".to_owned(),
            organization: None,
            scopes: Scopes::of([Scope::Ingest]),
            digest: [7; 32],
            created_at: UnixMs(10),
            expires_at: Some(UnixMs(100)),
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn admin_allows_everything_and_the_others_only_themselves() {
        for has in Scope::ALL {
            for wanted in Scope::ALL {
                let allows = Scopes::of([has]).allow(wanted);
                assert_eq!(
                    allows,
                    has == wanted || has == Scope::Admin,
                    "{has:?} {wanted:?}"
                );
            }
            assert!(Scopes::ALL.has(has));
            assert!(!Scopes::default().allow(has));
            assert_eq!(Scope::parse(has.as_str()), Some(has));
        }
        assert_eq!(Scope::parse("Read"), None);
    }

    #[test]
    fn a_key_ends_when_it_expires_or_is_revoked_whichever_is_first() {
        let mut key = key();
        assert!(key.is_live(UnixMs(99)) && !key.is_live(UnixMs(100)));
        assert_eq!(key.ended_at(UnixMs(99)), None);
        assert_eq!(key.ended_at(UnixMs(100)), Some(UnixMs(100)));
        key.revoked_at = Some(UnixMs(50));
        assert!(!key.is_live(UnixMs(50)));
        assert_eq!(key.ended_at(UnixMs(60)), Some(UnixMs(50)));
    }

    #[test]
    fn a_revoked_key_stays_revoked_whichever_state_is_merged() {
        let revoked = ApiKey {
            revoked_at: Some(UnixMs(20)),
            ..key()
        };
        let used = ApiKey {
            last_used_at: Some(UnixMs(30)),
            ..key()
        };
        for (mut into, from) in [(revoked.clone(), &used), (used.clone(), &revoked)] {
            into.merge(from);
            assert_eq!(into.revoked_at, Some(UnixMs(20)));
            assert_eq!(into.last_used_at, Some(UnixMs(30)));
        }
    }

    #[test]
    fn keys_are_found_by_digest_until_they_are_removed() {
        let mut keys = ApiKeys::default();
        keys.set(key());
        assert_eq!(keys.find(&[7; 32]).map(|k| k.id), Some(ApiKeyId(1)));
        assert_eq!(keys.find(&[8; 32]), None);
        assert_eq!(keys.ended_before(UnixMs(100), 9), []);
        assert_eq!(keys.ended_before(UnixMs(101), 9), [ApiKeyId(1)]);
        keys.remove(ApiKeyId(1));
        assert!(keys.is_empty() && keys.find(&[7; 32]).is_none());
    }
}
