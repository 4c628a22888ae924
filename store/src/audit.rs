//! The audit log: who changed what. An entry is durable with the change that it records, and holds nothing secret.

use crate::ids::{AuditId, Slot, UnixMs};
use crate::query::{Cursor, List};
use serde::{Deserialize, Serialize};

/// Whom a change is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// A caller on the Unix socket.
    Socket,
    /// The holder of the admin token.
    Admin,
    /// The holder of an API key.
    Key,
    /// The daemon itself.
    Daemon,
    /// A dashboard login.
    Session,
    /// The holder of a portal link.
    Portal,
}

impl PrincipalKind {
    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Admin => "admin",
            Self::Key => "key",
            Self::Daemon => "daemon",
            Self::Session => "session",
            Self::Portal => "portal",
        }
    }
}

/// Who asked for a change, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// What kind of caller.
    pub kind: PrincipalKind,
    /// The caller's id, if it has one.
    pub id: Option<String>,
    /// The caller's name, if it has one.
    pub name: Option<String>,
    /// The caller's reason.
    pub reason: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
}

impl Attribution {
    /// Returns the attribution of what the daemon does by itself.
    pub fn to_daemon() -> Self {
        Self {
            kind: PrincipalKind::Daemon,
            id: None,
            name: None,
            reason: None,
            request_id: None,
        }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident: $name:literal,)*) => {
        /// What was done. The order is that of the records in the store: new actions come last.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Action {
            $($(#[$doc])* $variant,)*
        }

        impl Action {
            /// All actions.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the name in the API.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

actions! {
    /// An endpoint was created.
    EndpointCreate: "endpoint.create",
    /// An endpoint was changed.
    EndpointUpdate: "endpoint.update",
    /// An endpoint was deleted.
    EndpointDelete: "endpoint.delete",
    /// An endpoint got another secret.
    EndpointRotateSecret: "endpoint.rotate_secret",
    /// The secrets of an endpoint were shown.
    EndpointRevealSecret: "endpoint.reveal_secret",
    /// A recovery began.
    EndpointRecover: "endpoint.recover",
    /// The daemon disabled an endpoint.
    EndpointDisable: "endpoint.disable",
    /// A delivery was retried.
    DeliveryRetry: "delivery.retry",
    /// A delivery was cancelled.
    DeliveryCancel: "delivery.cancel",
    /// An event was sent again.
    EventReplay: "event.replay",
    /// The data of events was removed.
    EventPurge: "event.purge",
    /// A recovery was cancelled.
    RecoveryCancel: "recovery.cancel",
    /// An organization was deleted.
    OrganizationDelete: "organization.delete",
    /// An API key was created.
    KeyCreate: "key.create",
    /// An API key was revoked.
    KeyRevoke: "key.revoke",
    /// The admin token was replaced.
    TokenRotate: "token.rotate",
    /// A login link was made.
    LoginLinkCreate: "login_link.create",
    /// A portal link was made.
    PortalLinkCreate: "portal_link.create",
    /// Secrets were encrypted with another key.
    SecretsRekey: "secrets.rekey",
    /// The configuration was read again.
    ConfigurationReload: "configuration.reload",
}

/// What was changed, as an entry records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// What was done.
    pub action: Action,
    /// The organization concerned.
    pub organization: Option<String>,
    /// The id of the changed object.
    pub target: Option<String>,
    /// The changed fields before the change: a JSON object, without secrets.
    pub before: Option<String>,
    /// The same after the change.
    pub after: Option<String>,
}

impl Audited {
    /// Returns that something was done to nothing in particular.
    pub fn of(action: Action) -> Self {
        Self {
            action,
            organization: None,
            target: None,
            before: None,
            after: None,
        }
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its id, which says when.
    pub id: AuditId,
    /// Who did it.
    pub by: Attribution,
    /// What was done.
    pub what: Audited,
}

/// Which entries. `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Entries that concern this organization.
    pub organization: Option<String>,
    /// Entries about this object.
    pub target: Option<String>,
    /// Entries at or after this time.
    pub since: Option<UnixMs>,
    /// Entries before this time.
    pub until: Option<UnixMs>,
}

impl AuditFilter {
    /// Returns the ids within the asked span, as a range with an exclusive end.
    pub fn ids(&self) -> (AuditId, AuditId) {
        (
            self.since.map_or(AuditId(0), AuditId::first_of),
            self.until.map_or(AuditId(u128::MAX), AuditId::first_of),
        )
    }

    /// Returns where the list continues after an entry.
    pub fn cursor_at(id: AuditId) -> Cursor {
        Cursor {
            list: List::Audit,
            at: id.0,
            slot: Slot(0),
        }
    }

    /// Whether an entry of the asked span is among those that are asked for.
    pub fn matches(&self, what: &Audited) -> bool {
        let is = |asked: &Option<String>, has: &Option<String>| asked.is_none() || asked == has;
        is(&self.organization, &what.organization) && is(&self.target, &what.target)
    }
}
