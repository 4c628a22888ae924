//! Endpoints: where a partner receives, what it subscribed to, and what is known of how it is doing.
//!
//! Settings change seldom and are a row of their own; the running state changes with every attempt and is kept apart.

use crate::ids::{EndpointId, EventId, Slot, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use stormhook_verifier::Secret;
use zeroize::Zeroizing;

/// How many secrets of one endpoint may be live at once.
pub const LIVE_SECRETS: usize = 4;

/// The prefix of event types that only the daemon itself emits.
pub const OWN_TYPE_PREFIX: &str = "stormhook.";

/// One entry of an endpoint's `eventTypes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TypePattern {
    /// `*`: every type but the daemon's own.
    All,
    /// `a.*`: kept as `a.`, matches everything that begins so.
    Prefix(String),
    /// `a.b`, itself.
    Exact(String),
}

impl TypePattern {
    /// Reads `*`, `a.*` or `a.b`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) => is_event_type(prefix).then(|| Self::Prefix(format!("{prefix}."))),
            None => is_event_type(text).then(|| Self::Exact(text.to_owned())),
        }
    }

    /// Whether an event of this type goes to who asked for this pattern.
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

/// In which order an endpoint receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ordering {
    /// Several at once, each on its own schedule.
    #[default]
    Parallel,
    /// Lowest sequence first, the next only when it ended.
    Fifo,
}

impl Ordering {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parallel => "parallel",
            Self::Fifo => "fifo",
        }
    }

    /// Reads the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "parallel" => Some(Self::Parallel),
            "fifo" => Some(Self::Fifo),
            _ => None,
        }
    }
}

/// What an ed25519 key pair is made of: 32 random bytes (RFC 8032, section 5.1.5). Wiped when dropped, and never printed.
///
/// On the heap, so that moving it leaves no copy behind.
#[derive(Clone)]
pub struct Seed(Box<Zeroizing<[u8; 32]>>);

impl Seed {
    /// Takes 32 bytes from the operating system's generator. Never derived from a secret: a caller may bring a weak one, and the
    /// public key is public.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        let mut seed = Box::new(Zeroizing::new([0; 32]));
        seed.copy_from_slice(bytes);
        Self(seed)
    }

    /// The bytes, to sign with.
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
    /// The seed of the ed25519 key that signs beside it, where the endpoint asked for one.
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

/// What an operator sets of an endpoint, secrets apart; with it goes whether the daemon switched it off.
///
/// The order of the fields is that of the endpoint's row in the file (`rows`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where it receives, in the normal form of the URL standard.
    pub url: String,
    /// What it subscribed to.
    pub event_types: Vec<TypePattern>,
    /// Whether it receives.
    pub active: bool,
    /// Why the daemon switched it off, where it did.
    pub disabled_reason: Option<String>,
    /// A note for people.
    pub description: Option<String>,
    /// Headers to send along.
    pub headers: CustomHeaders,
    /// Attempts a second, at most; `None` for no limit.
    pub rate_limit_per_second: Option<f64>,
    /// In which order it receives.
    pub ordering: Ordering,
}

/// An endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its number in keys.
    pub slot: Slot,
    /// Whose it is.
    pub organization: String,
    /// What an operator set.
    pub settings: Settings,
    /// The secrets, newest first; at most [`LIVE_SECRETS`].
    pub secrets: Vec<LiveSecret>,
    /// When it was created.
    pub created_at: UnixMs,
    /// When its settings last changed.
    pub updated_at: UnixMs,
    /// When it was deleted: what is left is a mark for readers of its deliveries.
    pub deleted_at: Option<UnixMs>,
}

/// Who has an endpoint reads its settings as its own: `endpoint.url`. They are written through `settings` alone.
impl Deref for Endpoint {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Endpoint {
    /// Whether an event of this type goes to it while it is active.
    pub fn subscribes_to(&self, event_type: &str) -> bool {
        self.event_types.iter().any(|p| p.matches(event_type))
    }

    /// The secrets that sign at the paced time `now`, newest first.
    pub fn live_secrets(&self, now: UnixMs) -> impl Iterator<Item = &LiveSecret> {
        self.secrets
            .iter()
            .filter(move |live| live.until.is_none_or(|until| now < until))
    }

    /// Whether it signs with ed25519 too. The current secret says so: an earlier one may be from before that was switched on.
    pub fn signs_with_ed25519(&self) -> bool {
        self.secrets.first().is_some_and(|live| live.seed.is_some())
    }

    /// Whether everything that an operator sets is the same, secrets apart.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.settings == other.settings && self.signs_with_ed25519() == other.signs_with_ed25519()
    }

    /// Whether it takes new deliveries and attempts.
    pub fn receives(&self) -> bool {
        self.active && self.deleted_at.is_none()
    }
}

/// An endpoint as an operator asks for it, checked but not yet stored.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub organization: String,
    /// What it is set to from the start.
    pub settings: Settings,
    /// Its first secret.
    pub secret: Secret,
    /// With ed25519 signatures: the seed of its first key.
    pub seed: Option<Seed>,
}

/// A change of settings: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// Where it receives.
    pub url: Option<String>,
    /// What it subscribes to.
    pub event_types: Option<Vec<TypePattern>>,
    /// Whether it receives.
    pub active: Option<bool>,
    /// On activation: end what was held instead of resuming it.
    pub discard_held: bool,
    /// A note for people; `Some(None)` clears it.
    pub description: Option<Option<String>>,
    /// The whole map of headers.
    pub headers: Option<CustomHeaders>,
    /// Attempts a second; `Some(None)` lifts the limit.
    pub rate_limit_per_second: Option<Option<f64>>,
    /// In which order it receives.
    pub ordering: Option<Ordering>,
    /// Ed25519 signatures: `Some(Some(…))` switches them on, with this seed unless there is one already; `Some(None)` switches them
    /// off and drops all seeds.
    pub seed: Option<Option<Seed>>,
}

impl EndpointChange {
    /// Sets what it names; the seed and what was held are not settings.
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
    }
}

/// How an endpoint is doing: changes with every attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// The last sequence number given.
    pub last_sequence: u64,
    /// Consecutive failed attempts.
    pub failure_count: u32,
    /// When the present run of failures began, in paced time.
    pub failing_since: Option<UnixMs>,
    /// When an attempt last succeeded.
    pub last_success_at: Option<UnixMs>,
}

/// What an endpoint was from one event on, until the next revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Whether it received.
    pub active: bool,
    /// Whether it was deleted.
    pub deleted: bool,
    /// What it was subscribed to.
    pub event_types: Vec<TypePattern>,
}

/// Why an endpoint was or wasn't sent an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was: there is a delivery.
    Subscribed,
    /// It did not ask for the type.
    TypeNotSubscribed,
    /// It asked, but was switched off.
    InactiveAtAcceptance,
    /// It did not exist yet.
    CreatedLater,
    /// It was deleted before.
    Deleted,
}

impl Why {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribed => "subscribed",
            Self::TypeNotSubscribed => "type_not_subscribed",
            Self::InactiveAtAcceptance => "inactive_at_acceptance",
            Self::CreatedLater => "created_later",
            Self::Deleted => "deleted",
        }
    }

    /// Decides from the revision that held for the event, and whether there is a delivery.
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

/// The first event id that a change made after `last` holds for.
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
