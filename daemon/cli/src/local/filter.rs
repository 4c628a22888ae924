//! Which records an export has.

use stormhook_engine::times::parse_rfc3339;
use stormhook_store::{AuditFilter, EventFilter};

/// Which records. `None` matches all.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filter {
    /// Records of this organization.
    pub(crate) organization: Option<String>,
    /// Events of this type.
    pub(crate) event_type: Option<String>,
    /// Accepted at or after this time, in RFC 3339.
    pub(crate) since: Option<String>,
    /// Accepted before this time, in RFC 3339.
    pub(crate) until: Option<String>,
}

impl Filter {
    pub(super) fn has_organization(&self, asked: &str) -> bool {
        let theirs = self.organization.as_ref();
        theirs.is_none_or(|organization| organization == asked)
    }

    /// Whether what may belong to no organization is asked for.
    pub(super) fn has(&self, theirs: Option<&str>) -> bool {
        self.organization.is_none() || theirs.is_some_and(|theirs| self.has_organization(theirs))
    }

    pub(super) fn of_audit(&self) -> AuditFilter {
        let events = self.of_events();
        AuditFilter {
            organization: events.organization,
            since: events.since,
            until: events.until,
            ..AuditFilter::default()
        }
    }

    pub(super) fn of_events(&self) -> EventFilter {
        let instant = |text: &Option<String>| text.as_deref().and_then(parse_rfc3339);
        EventFilter {
            organization: self.organization.clone(),
            event_type: self.event_type.clone(),
            since: instant(&self.since),
            until: instant(&self.until),
            ..EventFilter::default()
        }
    }
}
