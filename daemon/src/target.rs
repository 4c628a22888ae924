//! Decides whether a delivery may go to a target: a pure function of a URL, the addresses that its name resolved to and
//! the operator's policy. A refusal names its rule. It never resolves or connects; callers that do must first call
//! [`TargetPolicy::judge_all`] and then connect only to the addresses it checked.
//!
//! When an endpoint is created or changed, [`TargetUrl::parse`] checks the URL's form and, if its host is an address,
//! that address. At every attempt the stored URL is parsed again, since the policy may have changed, and the resolved
//! addresses are checked.

mod address;
mod pattern;
mod proxy;
mod rule;
mod tables;
mod url;

use std::net::{IpAddr, SocketAddr};

pub use self::pattern::{Pattern, PatternError};
pub use self::proxy::{NotAProxy, ProxyUrl};
pub use self::rule::{Refusal, Rule};
pub use self::url::{MAX_URL_BYTES, TargetError, TargetUrl};
use tables::{Inside, LOCAL_NAMES};

/// What the operator allows and denies in addition to the built-in rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Networks override `private_v4` and `private_v6`; host patterns override `local_name`.
    pub allow: Vec<Pattern>,
    /// Takes precedence over `allow`.
    pub deny: Vec<Pattern>,
    /// Whether `http` URLs are allowed.
    pub allow_http: bool,
    /// The daemon's own TCP listener as bound; no delivery may go to it.
    pub own_listener: Option<SocketAddr>,
}

/// The policy's decision about all addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Judgement {
    /// Every address may be connected to.
    Allowed,
    /// The name has no address: nothing to refuse and nothing to connect to.
    NoAddress,
    /// At least one address is refused, and so the name.
    Refused(Refusal),
}

impl TargetPolicy {
    /// Checks one address of `url`. For a mapped, compatible, NAT64 or 6to4 address, the IPv4 address inside it counts.
    ///
    /// # Errors
    /// The [`Refusal`], by `own_listener`, `deny`, `private_v4` or `private_v6`.
    pub fn judge_address(&self, url: &TargetUrl, address: IpAddr) -> Result<(), Refusal> {
        let (plain, carried) = match tables::inside(address) {
            Inside::Itself => (address, None),
            Inside::Spelling(v4) => (v4.into(), None),
            Inside::Carries(v4) => (address, Some(IpAddr::V4(v4))),
        };
        let ways = || std::iter::once(plain).chain(carried);
        if ways().any(|way| self.is_own_listener(SocketAddr::new(way, url.port()))) {
            let detail = format!(
                "{address}, port {}, is this daemon itself; use another target",
                url.port()
            );
            return Err(Refusal::new(Rule::OwnListener, detail));
        }
        if let Some(pattern) = self
            .deny
            .iter()
            .find(|pattern| ways().any(|way| pattern.matches_address(way)))
        {
            let detail =
                format!("{address} is in {pattern}, which target.deny forbids; use another target");
            return Err(Refusal::new(Rule::Deny, detail));
        }
        if self
            .allow
            .iter()
            .any(|pattern| ways().any(|way| pattern.matches_address(way)))
        {
            return Ok(());
        }
        address::private(address).map_or(Ok(()), Err)
    }

    /// Checks all addresses that `url`'s name resolved to. One refused address refuses the name, so that a private
    /// address can't be mixed in with public ones.
    pub fn judge_all(&self, url: &TargetUrl, addresses: &[IpAddr]) -> Judgement {
        if addresses.is_empty() {
            return Judgement::NoAddress;
        }
        match addresses
            .iter()
            .try_for_each(|address| self.judge_address(url, *address))
        {
            Ok(()) => Judgement::Allowed,
            Err(refusal) => Judgement::Refused(refusal),
        }
    }

    /// Checks a name by its form alone. `name` is in lower case and without a trailing dot.
    fn judge_name(&self, name: &str) -> Result<(), Refusal> {
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.matches_name(name)) {
            let detail =
                format!("{name} is forbidden by {pattern} in target.deny; use another target");
            return Err(Refusal::new(Rule::Deny, detail));
        }
        let below = |parent: &&str| {
            name.strip_suffix(*parent)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let local = !name.contains('.') || LOCAL_NAMES.iter().any(below);
        if local && !self.allow.iter().any(|pattern| pattern.matches_name(name)) {
            let detail = format!(
                "{name} is only meaningful on one machine or network; use a public host name, or have the operator add it to target.allow"
            );
            return Err(Refusal::new(Rule::LocalName, detail));
        }
        Ok(())
    }

    /// Refuses a connection that reached the own listener at an address that only the system knew as this machine's:
    /// both ends of a connection within a machine have the same one.
    ///
    /// # Errors
    /// The [`Refusal`], by `own_listener`.
    pub fn judge_connection(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Refusal> {
        let is_everywhere = self
            .own_listener
            .is_some_and(|own| own.ip().is_unspecified() && own.port() == peer.port());
        if is_everywhere && local.ip().to_canonical() == peer.ip().to_canonical() {
            let detail = format!("{peer} is the daemon's own listener; use another target");
            return Err(Refusal::new(Rule::OwnListener, detail));
        }
        Ok(())
    }

    /// Whether connecting to `target` would reach the own listener. As a target, an unspecified address connects to
    /// this machine (Linux, ip(7)); an unspecified listener is reached through every loopback address.
    fn is_own_listener(&self, target: SocketAddr) -> bool {
        let Some(own) = self.own_listener else {
            return false;
        };
        let (own_ip, target_ip) = (own.ip().to_canonical(), target.ip());
        own.port() == target.port()
            && (own_ip == target_ip
                || target_ip.is_unspecified() && own_ip.is_loopback()
                || own_ip.is_unspecified()
                    && (target_ip.is_unspecified() || target_ip.is_loopback()))
    }
}

#[cfg(test)]
mod tests;
