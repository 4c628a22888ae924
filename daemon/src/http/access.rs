//! What stands before each route: whether its caller may use it at all, and for the object that its path names. Handlers
//! get the caller, and ask it for the organization that they may show.

use super::ids::object_in;
use super::openapi::failures::Route;
use super::openapi::operations::operations;
use super::principal::{Access, Concerned, Denied, Principal, concerns, may};
use super::problem::{Code, Problem};
use super::{Shared, ask};
use axum::extract::{FromRequestParts, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::{Attributed, Attribution, Scope};
use utoipa::openapi::security::SecurityRequirement;

/// The header with the id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header with the reason for a change, for the audit log.
pub(super) const REASON: HeaderName = HeaderName::from_static("x-stormhook-reason");
const REASON_BYTES: usize = 256;

/// How often a long answer looks whether its caller may still have it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) const INGEST: Access = Access::Scoped(Scope::Ingest);
pub(super) const READ: Access = Access::Scoped(Scope::Read);
pub(super) const READ_ALL: Access = Access::Unbound(Scope::Read);
pub(super) const WRITE: Access = Access::Scoped(Scope::Write);
pub(super) const ADMIN: Access = Access::Unbound(Scope::Admin);

/// The caller of a request.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(super) principal: Arc<Principal>,
    app: Shared,
    request_id: HeaderValue,
    reason: Option<String>,
}

impl Caller {
    /// Takes the caller's reason from the headers.
    pub(super) fn new(
        principal: Principal,
        app: &Shared,
        request_id: &HeaderValue,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let reason = headers.get(REASON).map(|value| {
            let text = value.to_str().ok().filter(|text| text.len() <= REASON_BYTES);
            text.map(str::to_owned).ok_or_else(|| {
                let detail = "The header x-stormhook-reason must be visible ASCII of at most 256 bytes. Shorten it.";
                Problem::field("reason", detail)
            })
        });
        Ok(Self {
            principal: Arc::new(principal),
            app: Arc::clone(app),
            request_id: request_id.clone(),
            reason: reason.transpose()?,
        })
    }

    /// Returns whom a change is attributed to.
    pub(super) fn attribution(&self) -> Attribution {
        let Principal { kind, id, name, .. } = &*self.principal;
        Attribution {
            kind: *kind,
            id: id.clone(),
            name: name.clone(),
            reason: self.reason.clone(),
            request_id: self.request_id.to_str().ok().map(str::to_owned),
        }
    }

    /// Attributes a command to the caller.
    pub(super) fn attributed<C>(&self, command: C) -> Attributed<C> {
        Attributed::to(self.attribution(), command)
    }

    /// Adds who calls to a call that is passed on to another daemon.
    #[cfg(feature = "postgres")]
    pub(super) fn pass(&self, headers: &mut HeaderMap) {
        let principal = serde_json::to_vec(&*self.principal).unwrap_or_default();
        // Names have no control characters.
        if let Ok(principal) = HeaderValue::from_bytes(&principal) {
            headers.insert(crate::peers::PRINCIPAL, principal);
        }
        headers.insert(REQUEST_ID, self.request_id.clone());
    }

    /// Returns the organization that a list or statistics are limited to: the one that is asked for, or the caller's.
    pub(super) fn within(&self, asked: Option<String>) -> Result<Option<String>, Problem> {
        match asked {
            Some(asked) => self.expect_organization(&asked).map(|()| Some(asked)),
            None => Ok(self.principal.organization.clone()),
        }
    }

    /// Checks that the caller may name an organization in a body or a query.
    pub(super) fn expect_organization(&self, named: &str) -> Result<(), Problem> {
        let named = Concerned::Organization(named);
        concerns(&self.principal, named).map_err(|why| denied(why, ""))
    }

    /// Whether the caller is bound to an organization.
    pub(super) fn is_bound(&self) -> bool {
        self.principal.organization.is_some()
    }

    /// Returns what the caller's cursors end with: nobody else can use them.
    pub(super) fn tag(&self) -> String {
        self.principal.tag()
    }

    /// Whether the caller's key is still accepted.
    pub(super) fn is_live(&self) -> bool {
        self.principal.api_key().is_none_or(|id| {
            let key = self.app.reader().api_key(id);
            key.is_some_and(|key| key.is_live(self.app.now()))
        })
    }

    /// Resolves when the caller's key is no longer accepted.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let caller = self.clone();
        async move {
            if caller.principal.api_key().is_none() {
                return std::future::pending().await;
            }
            while caller.is_live() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        // The listeners add it to every request.
        caller.ok_or_else(super::problem::unexpected)
    }
}

/// Adds the check to a route, and the scope to its description.
pub(super) fn guarded(access: Access, (schemas, mut paths, methods): Route) -> Route {
    for operation in paths.paths.values_mut().flat_map(operations) {
        let (scope, is_about_all) = match access {
            Access::Open => continue,
            Access::Scoped(scope) => (scope, false),
            Access::Unbound(scope) => (scope, true),
        };
        let needs = SecurityRequirement::new("bearer", [scope.as_str()]);
        operation.security = Some(vec![needs]);
        let description = operation.description.get_or_insert_default();
        description.push_str("\n\nScope: `");
        description.push_str(scope.as_str());
        description.push_str(if is_about_all {
            "`. Not with a key that is bound to an organization."
        } else {
            "`."
        });
    }
    let guard = from_fn(move |request: Request, next: Next| guard(access, request, next));
    (schemas, paths, methods.route_layer(guard))
}

async fn guard(access: Access, request: Request, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else {
        return super::problem::unexpected().into_response();
    };
    let allowed = may(&caller.principal, access, Concerned::Nothing);
    let checked = match allowed {
        Ok(()) if caller.is_bound() => {
            let (caller, path) = (caller.clone(), request.uri().path().to_owned());
            check_object(access, &caller, &path).await
        }
        allowed => allowed.map_err(|why| denied(why, "")),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Checks that a bound caller may see the object that a path names.
async fn check_object(access: Access, caller: &Caller, path: &str) -> Result<(), Problem> {
    let Some((what, object)) = object_in(path) else {
        return Ok(());
    };
    let organization = match object {
        Some(object) => ask(&caller.app, caller.app.reader().organization_of(object)).await?,
        None => None,
    };
    let concerned = Concerned::Object(organization.as_deref());
    may(&caller.principal, access, concerned).map_err(|why| denied(why, what))
}

fn denied(why: Denied, what: &str) -> Problem {
    match why {
        Denied::Scope(scope) => Problem::new(
            Code::ScopeMissing,
            format!(
                "This needs the scope {}. Use a key that has it, or the admin token.",
                scope.as_str()
            ),
        ),
        Denied::Bound => Problem::new(
            Code::ScopeMissing,
            "This is about all organizations, and the key is bound to one. Use a key without an organization, or the admin token.",
        ),
        Denied::WrongOrganization => Problem::new(
            Code::WrongOrganization,
            "The key is bound to another organization. Omit organizationId, name the key's own, or use another key.",
        ),
        Denied::NotFound => Problem::not_found(what),
    }
}
