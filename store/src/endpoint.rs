//! Endpoints: their URL, subscriptions and settings, and their running state.
//!
//! Settings rarely change and have their own row; the running state changes with every attempt and is kept apart.

mod tls;

pub use tls::{Certificate, ClientCertificate, ClientKey, EndpointTls};

use crate::ids::{EndpointId, EventId, KeyId, Slot, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use stormhook_verifier::Secret;
use zeroize::Zeroizing;

/// How many secrets of one endpoint may be live at the same time.
pub const LIVE_SECRETS: usize = 4;

/// The prefix of event types that only the daemon emits.
pub const OWN_TYPE_PREFIX: &str = "stormhook.";

/// One entry of an endpoint's `eventTypes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TypePattern {
    /// `*`: every type except the daemon's own.
    All,
    /// `a.*`: stored as `a.`, matches every type with this prefix.
    Prefix(String),
    /// `a.b`: matches itself.
    Exact(String),
}

impl TypePattern {
    /// Parses `*`, `a.*` or `a.b`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) => is_event_type(prefix).then(|| Self::Prefix(format!("{prefix}."))),
            None => is_event_type(text).then(|| Self::Exact(text.to_owned())),
        }
    }

    /// Whether an event of this type matches this pattern.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::All => !event_type.starts_with(OWN_TYPE_PREFIX),
            Self::Prefix(prefix) => {
                event_type.len() > prefix.len() && event_type.starts_with(prefix.as_str())
            }
            Self::Exact(exact) => exact == event_type,
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Exact(exact) => f.write_str(exact),
        }
    }
}

/// Whether `text` is an event type: dot-separated `[A-Za-z0-9_-]+`, at most 128 bytes.
pub fn is_event_type(text: &str) -> bool {
    text.len() <= 128
        && text.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        })
}

/// The order in which an endpoint receives deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordering {
    /// In parallel, each on its own schedule.
    #[default]
    Parallel,
    /// One at a time, lowest sequence first.
    Fifo,
}

impl Ordering {
    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::Fifo => "fifo",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "parallel" => Some(Self::Parallel),
            "fifo" => Some(Self::Fifo),
            _ => None,
        }
    }
}

/// The seed of an ed25519 key pair: 32 random bytes (RFC 8032, section 5.1.5). Wiped when dropped, and never printed.
///
/// On the heap, so that moving it leaves no copy behind.
#[derive(Clone)]
pub struct Seed(Box<Zeroizing<[u8; 32]>>);

impl Seed {
    /// Takes 32 bytes from the operating system's generator. Never derived from a secret: a caller may supply a weak
    /// one, and the public key is public.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let mut seed = Box::new(Zeroizing::new([0; 32]));
        seed.copy_from_slice(bytes);
        Self(seed)
    }

    /// Returns the bytes, to sign with.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

/// A secret that signs, and until when.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// The secret.
    pub secret: Secret,
    /// The seed of the ed25519 key that signs with it, if the endpoint uses ed25519.
    pub seed: Option<Seed>,
    /// The paced time at which it stops signing; `None` for the current one.
    pub until: Option<UnixMs>,
}

/// Custom headers of an endpoint. They may hold credentials: their values are never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomHeaders(pub BTreeMap<String, String>);

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The settings of an endpoint without the secrets that sign, and whether the daemon disabled it.
///
/// The order of the fields is that of an endpoint's row of version 2 in the file (`rows`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The URL that it receives at, in the normal form of the URL standard.
    pub url: String,
    /// The event types it subscribes to.
    pub event_types: Vec<TypePattern>,
    /// Whether it receives deliveries.
    pub active: bool,
    /// Why the daemon disabled it, if it did.
    pub disabled_reason: Option<String>,
    /// A note for people.
    pub description: Option<String>,
    /// Headers to add to each attempt.
    pub headers: CustomHeaders,
    /// Maximum attempts per second; `None` for no limit.
    pub rate_limit_per_second: Option<f64>,
    /// The order in which it receives deliveries.
    pub ordering: Ordering,
    /// What its TLS connections use. A part of the row of its own.
    #[serde(skip)]
    pub tls: Option<Arc<EndpointTls>>,
}

/// What is known of private parts that could not be decrypted, because their key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The key.
    pub key: KeyId,
    /// Whether the endpoint signs with ed25519.
    pub ed25519: bool,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its number in keys.
    pub slot: Slot,
    /// The organization that it belongs to.
    pub organization: String,
    /// The settings.
    pub settings: Settings,
    /// The secrets, newest first; at most [`LIVE_SECRETS`].
    pub secrets: Vec<LiveSecret>,
    /// Set if the secrets and the values of headers are missing here: only where a store is read without its key.
    pub sealed: Option<Sealed>,
    /// When it was created.
    pub created_at: UnixMs,
    /// When its settings last changed.
    pub updated_at: UnixMs,
    /// When it was deleted. The rest is kept for readers of its deliveries.
    pub deleted_at: Option<UnixMs>,
}

/// An endpoint's settings can be read directly: `endpoint.url`. They are written only through `settings`.
impl Deref for Endpoint {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Endpoint {
    /// Whether it gets an event of this type while it is active.
    pub fn subscribes_to(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|p| p.matches(event_type))
    }

    /// Returns the secrets that sign at the paced time `now`, newest first.
    pub fn live_secrets(&self, now: UnixMs) -> impl Iterator<Item = &LiveSecret> {
        self.secrets
            .iter()
            .filter(move |live| live.until.is_none_or(|until| now < until))
    }

    /// Whether it also signs with ed25519. The current secret decides: an earlier one may be from before ed25519 was
    /// enabled.
    pub fn signs_with_ed25519(&self) -> bool {
        match &self.sealed {
            Some(sealed) => sealed.ed25519,
            None => self.secrets.first().is_some_and(|live| live.seed.is_some()),
        }
    }

    /// Whether all settings are the same, without secrets.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.settings == other.settings && self.signs_with_ed25519() == other.signs_with_ed25519()
    }

    /// Whether it gets new deliveries and attempts.
    pub fn receives(&self) -> bool {
        self.active && self.deleted_at.is_none()
    }
}

/// A new endpoint, checked but not yet stored.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Its id.
    pub id: EndpointId,
    /// The organization that it belongs to.
    pub organization: String,
    /// Its initial settings.
    pub settings: Settings,
    /// Its first secret.
    pub secret: Secret,
    /// The seed of its first ed25519 key, if it uses ed25519.
    pub seed: Option<Seed>,
}

/// A change of settings; `None` leaves a setting unchanged.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// The URL that it receives at.
    pub url: Option<String>,
    /// The event types it subscribes to.
    pub event_types: Option<Vec<TypePattern>>,
    /// Whether it receives deliveries.
    pub active: Option<bool>,
    /// On activation: whether to discard held deliveries instead of resuming them.
    pub discard_held: bool,
    /// A note for people; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// All headers; replaces the previous ones.
    pub headers: Option<CustomHeaders>,
    /// Maximum attempts per second; `Some(None)` removes the limit.
    pub rate_limit_per_second: Option<Option<f64>>,
    /// The order in which it receives deliveries.
    pub ordering: Option<Ordering>,
    /// What its TLS connections use, as a whole; `Some(None)` removes it.
    pub tls: Option<Option<Arc<EndpointTls>>>,
    /// Ed25519 signatures: `Some(Some(…))` enables them, with this seed unless there is one already; `Some(None)`
    /// disables them and drops all seeds.
    pub seed: Option<Option<Seed>>,
}

impl EndpointChange {
    /// Applies the change. The seed and held deliveries are not settings.
    pub(crate) fn apply_to(self, settings: &mut Settings) {
        fn set<T>(setting: &mut T, to: Option<T>) {
            if let Some(to) = to {
                *setting = to;
            }
        }
        set(&mut settings.url, self.url);
        set(&mut settings.event_types, self.event_types);
        set(&mut settings.active, self.active);
        set(&mut settings.description, self.description);
        set(&mut settings.headers, self.headers);
        set(
            &mut settings.rate_limit_per_second,
            self.rate_limit_per_second,
        );
        set(&mut settings.ordering, self.ordering);
        set(&mut settings.tls, self.tls);
    }
}

/// The running state of an endpoint, which changes with every attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// The last assigned sequence number.
    pub last_sequence: u64,
    /// Consecutive failed attempts.
    pub failure_count: u32,
    /// When the current run of failures began, in paced time.
    pub failing_since: Option<UnixMs>,
    /// When an attempt last succeeded.
    pub last_success_at: Option<UnixMs>,
}

/// The subscription of an endpoint from one event on, until the next revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Whether it was active.
    pub active: bool,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The event types it subscribed to.
    pub event_types: Vec<TypePattern>,
}

/// Why an endpoint was or wasn't sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was sent: there is a delivery.
    Subscribed,
    /// It was not subscribed to the type.
    TypeNotSubscribed,
    /// It was subscribed, but inactive.
    InactiveAtAcceptance,
    /// It did not exist yet.
    CreatedLater,
    /// It was already deleted.
    Deleted,
}

impl Why {
    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribed => "subscribed",
            Self::TypeNotSubscribed => "type_not_subscribed",
            Self::InactiveAtAcceptance => "inactive_at_acceptance",
            Self::CreatedLater => "created_later",
            Self::Deleted => "deleted",
        }
    }

    /// Decides from the revision at the time of the event, and from whether there is a delivery.
    pub fn decide(revision: Option<&Revision>, event_type: &str, delivered: bool) -> Self {
        match revision {
            _ if delivered => Self::Subscribed,
            None => Self::CreatedLater,
            Some(r) if r.deleted => Self::Deleted,
            Some(r) if !r.event_types.iter().any(|p| p.matches(event_type)) => {
                Self::TypeNotSubscribed
            }
            Some(r) if !r.active => Self::InactiveAtAcceptance,
            Some(_) => Self::Subscribed,
        }
    }
}

/// Returns the first event id that a change made after `last` applies to.
pub fn holds_from(last: EventId) -> EventId {
    EventId(last.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_kept_as_it_is_and_not_printed() {
        let seed = Seed::from_random(&[0xA7; 32]);
        assert_eq!(seed.clone().expose(), &[0xA7; 32]);
        let shown = format!("{seed:?}");
        assert!(!shown.contains("167") && !shown.contains("a7"), "{shown}");
    }

    #[test]
    fn patterns_match_as_the_contract_says() {
        let matches = |p: &str, t: &str| TypePattern::parse(p).unwrap().matches(t);
        assert!(matches("a.*", "a.b") && matches("a.*", "a.b.c"));
        assert!(!matches("a.*", "a") && !matches("a.*", "ab.c"));
        assert!(matches("*", "order.created") && !matches("*", "stormhook.endpoint.disabled"));
        assert!(matches(
            "stormhook.endpoint.disabled",
            "stormhook.endpoint.disabled"
        ));
        for bad in ["", "a..b", "**", "*.a", "a*", ".a", "a b"] {
            assert_eq!(TypePattern::parse(bad), None, "{bad}");
        }
    }
}
