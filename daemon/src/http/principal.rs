//! Who calls, and the one decision about what a caller may do.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stormhook_store::{ApiKey, ApiKeyId, PrincipalKind, Scope, Scopes, hex};

/// A caller, as its connection or its token proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Principal {
    pub(crate) kind: PrincipalKind,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    /// The organization that it is bound to.
    pub(crate) organization: Option<String>,
    pub(crate) scopes: Scopes,
}

impl Principal {
    /// A caller on the Unix socket.
    pub(crate) fn on_socket(scopes: &[Scope]) -> Self {
        Self::unnamed(PrincipalKind::Socket, Scopes::of(scopes.iter().copied()))
    }

    /// The holder of the admin token.
    pub(crate) fn admin() -> Self {
        Self::unnamed(PrincipalKind::Admin, Scopes::ALL)
    }

    /// Another daemon on the same database.
    #[cfg(feature = "postgres")]
    pub(crate) fn daemon() -> Self {
        Self::unnamed(PrincipalKind::Daemon, Scopes::ALL)
    }

    /// A caller of a route that is open to everyone.
    pub(crate) fn anyone() -> Self {
        Self::unnamed(PrincipalKind::Socket, Scopes::default())
    }

    /// The holder of an API key.
    pub(crate) fn of_key(key: &ApiKey) -> Self {
        Self {
            kind: PrincipalKind::Key,
            id: Some(key.id.to_string()),
            name: Some(key.name.clone()),
            organization: key.organization.clone(),
            scopes: key.scopes,
        }
    }

    fn unnamed(kind: PrincipalKind, scopes: Scopes) -> Self {
        Self {
            kind,
            id: None,
            name: None,
            organization: None,
            scopes,
        }
    }

    /// Returns the API key that it showed.
    pub(crate) fn api_key(&self) -> Option<ApiKeyId> {
        let is_key = self.kind == PrincipalKind::Key;
        self.id
            .as_deref()
            .filter(|_| is_key)
            .and_then(ApiKeyId::parse)
    }

    /// Returns a short text that differs from principal to principal.
    pub(crate) fn tag(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.kind.as_str());
        hash.update([0]);
        hash.update(self.id.as_deref().unwrap_or_default());
        hex(hash.finalize().first_chunk::<4>().unwrap_or(&[0; 4]))
    }
}

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: it is open to everyone.
    Open,
    /// A scope.
    Scoped(Scope),
    /// A scope of a caller that is not bound to an organization.
    Unbound(Scope),
}

/// What a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concerned<'a> {
    /// No organization and no object.
    Nothing,
    /// An organization, in its body or its query.
    Organization(&'a str),
    /// An object of this organization; `None` if there is no such object.
    Object(Option<&'a str>),
}

/// Why a caller may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It lacks a scope.
    Scope(Scope),
    /// It is bound to an organization, and the route is about all.
    Bound,
    /// It is bound to another organization.
    WrongOrganization,
    /// It must not learn whether the object exists.
    NotFound,
}

/// Decides whether a caller may use a route for what its request names.
pub(crate) fn may(
    principal: &Principal,
    access: Access,
    concerned: Concerned<'_>,
) -> Result<(), Denied> {
    let (scope, is_about_all) = match access {
        Access::Open => return Ok(()),
        Access::Scoped(scope) => (scope, false),
        Access::Unbound(scope) => (scope, true),
    };
    if !principal.scopes.allow(scope) {
        return Err(Denied::Scope(scope));
    }
    if is_about_all && principal.organization.is_some() {
        return Err(Denied::Bound);
    }
    concerns(principal, concerned)
}

/// Decides whether what a request names is the caller's.
pub(crate) fn concerns(principal: &Principal, concerned: Concerned<'_>) -> Result<(), Denied> {
    let Some(bound) = principal.organization.as_deref() else {
        return Ok(());
    };
    match concerned {
        Concerned::Organization(other) if other != bound => Err(Denied::WrongOrganization),
        Concerned::Object(of) if of != Some(bound) => Err(Denied::NotFound),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scopes: &[Scope], organization: Option<&str>) -> Principal {
        Principal {
            organization: organization.map(str::to_owned),
            scopes: Scopes::of(scopes.iter().copied()),
            ..Principal::admin()
        }
    }

    #[test]
    fn a_route_needs_its_scope_and_admin_has_all() {
        for wanted in Scope::ALL {
            for access in [Access::Scoped(wanted), Access::Unbound(wanted)] {
                for has in Scope::ALL {
                    let decided = may(&of(&[has], None), access, Concerned::Nothing);
                    let allowed = has == wanted || has == Scope::Admin;
                    let expected = if allowed {
                        Ok(())
                    } else {
                        Err(Denied::Scope(wanted))
                    };
                    assert_eq!(decided, expected, "{has:?} on {access:?}");
                }
            }
        }
        assert_eq!(
            may(&Principal::anyone(), Access::Open, Concerned::Nothing),
            Ok(())
        );
        let decided = may(
            &Principal::anyone(),
            Access::Scoped(Scope::Read),
            Concerned::Nothing,
        );
        assert_eq!(decided, Err(Denied::Scope(Scope::Read)));
    }

    #[test]
    fn a_bound_caller_sees_its_organization_alone() {
        let bound = of(&[Scope::Read], Some("org_a"));
        let read = Access::Scoped(Scope::Read);
        for (concerned, expected) in [
            (Concerned::Nothing, Ok(())),
            (Concerned::Organization("org_a"), Ok(())),
            (
                Concerned::Organization("org_b"),
                Err(Denied::WrongOrganization),
            ),
            (
                Concerned::Organization("org_A"),
                Err(Denied::WrongOrganization),
            ),
            (Concerned::Object(Some("org_a")), Ok(())),
            (Concerned::Object(Some("org_b")), Err(Denied::NotFound)),
            (Concerned::Object(None), Err(Denied::NotFound)),
        ] {
            assert_eq!(may(&bound, read, concerned), expected, "{concerned:?}");
            assert_eq!(may(&of(&[Scope::Read], None), read, concerned), Ok(()));
        }
        let decided = may(&bound, Access::Unbound(Scope::Read), Concerned::Nothing);
        assert_eq!(decided, Err(Denied::Bound));
        // Without the scope it does not learn that either.
        let decided = may(
            &bound,
            Access::Scoped(Scope::Write),
            Concerned::Object(None),
        );
        assert_eq!(decided, Err(Denied::Scope(Scope::Write)));
    }

    #[test]
    fn each_principal_has_a_tag_of_its_own() {
        let key = |id: &str| Principal {
            kind: PrincipalKind::Key,
            id: Some(id.to_owned()),
            ..Principal::admin()
        };
        let all = [
            Principal::admin(),
            Principal::on_socket(&[]),
            key("key_1"),
            key("key_2"),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in all.iter().skip(at + 1) {
                assert_ne!(one.tag(), other.tag());
            }
            assert_eq!(one.tag().len(), 8);
        }
    }
}
