//! The names of the guard's rules, and the text of a refusal. The names are public: callers see them in `detail`.

use std::fmt;

/// A rule that a target can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A scheme other than `https`, or `http` if that isn't allowed.
    Scheme,
    /// Credentials in the URL.
    Userinfo,
    /// A `#…` part.
    Fragment,
    /// Port 0 or one that browsers block.
    Port,
    /// A host that is not a plain name or address.
    HostForm,
    /// A name that is only meaningful on one machine or network.
    LocalName,
    /// An IPv4 address that is not globally reachable.
    PrivateV4,
    /// An IPv6 address that is not globally reachable, or contains such an IPv4 address.
    PrivateV6,
    /// The daemon's own TCP listener.
    OwnListener,
    /// Forbidden by `target.deny`.
    Deny,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 10] = [
        Self::Scheme,
        Self::Userinfo,
        Self::Fragment,
        Self::Port,
        Self::HostForm,
        Self::LocalName,
        Self::PrivateV4,
        Self::PrivateV6,
        Self::OwnListener,
        Self::Deny,
    ];

    /// Returns the public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::Userinfo => "userinfo",
            Self::Fragment => "fragment",
            Self::Port => "port",
            Self::HostForm => "host_form",
            Self::LocalName => "local_name",
            Self::PrivateV4 => "private_v4",
            Self::PrivateV6 => "private_v6",
            Self::OwnListener => "own_listener",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a target is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Refusal {
    /// The rule that is broken.
    pub rule: Rule,
    /// What came and what to do.
    pub detail: String,
}

impl Refusal {
    pub(super) fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self {
            rule,
            detail: detail.into(),
        }
    }
}
