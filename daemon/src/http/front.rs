//! The checks before the routes of a listener: who may call, what a request must be like. Reads the body whole, so that
//! the connection can continue after any response.

use super::access::{Caller, REQUEST_ID};
use super::callers::Callers;
#[cfg(feature = "postgres")]
use super::passing::Passed;
use super::principal::Principal;
use super::problem::{Code, Problem};
use super::request;
use super::{Shared, problem};
use crate::config::LiveConfig;
#[cfg(feature = "postgres")]
use crate::peers::{PASSED, PRINCIPAL, Peers};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
#[cfg(feature = "postgres")]
use http::header::AUTHORIZATION;
use http::header::{CONNECTION, CONTENT_ENCODING, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use hyper::body::{Body as _, Incoming};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use stormhook_engine::environment::{Environment, System};
use stormhook_engine::lifecycle::{Lifecycle, Phase};
#[cfg(feature = "postgres")]
use subtle::ConstantTimeEq;
use tower_service::Service;

/// The bounds of a request's header block (RFC 9112, section 3): bytes and fields.
const HEADER_BYTES: usize = 16 << 10;
const HEADERS: usize = 100;
/// The bound of every body except events: fits fifty headers of 4 KiB and the rest of an endpoint.
const SMALL_BODY_BYTES: usize = 512 << 10;
/// The only route whose body is streamed.
pub(super) const STREAMED: &str = "/v1/events/batch";
const EVENTS: &str = "/v1/events";

/// Numbers requests. Starts at a random number, so that ids of two runs differ.
struct RequestIds(AtomicU64);

impl RequestIds {
    fn next(&self) -> HeaderValue {
        let id = format!("req_{:016x}", self.0.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("req_0"))
    }
}

/// The daemon late_router the listeners, once it has started.
#[derive(Clone, Default)]
pub(super) struct LateRouter(Arc<OnceLock<(Shared, Router)>>);

impl LateRouter {
    /// From now on requests reach their routes.
    pub(super) fn open(&self, app: &Shared) {
        let _once = self.0.set((Arc::clone(app), super::router(app)));
    }
}

/// See the module. With `callers`, requests are checked by their rules first.
#[derive(Clone)]
pub(super) struct Front {
    late_router: LateRouter,
    config: LiveConfig,
    life: Arc<Lifecycle>,
    callers: Arc<Callers>,
    /// Where the connection comes from, over TCP.
    from: IpAddr,
    /// What other daemons must show, on their listener.
    peers: Option<HeaderValue>,
    ids: Arc<RequestIds>,
}

impl Front {
    pub(super) fn new(
        late_router: &LateRouter,
        config: &LiveConfig,
        life: &Arc<Lifecycle>,
        callers: Callers,
    ) -> Self {
        let seed = u64::try_from(System.random_u128() >> 64).unwrap_or(0);
        Self {
            late_router: late_router.clone(),
            config: config.clone(),
            life: Arc::clone(life),
            callers: Arc::new(callers),
            from: Ipv4Addr::UNSPECIFIED.into(),
            peers: None,
            ids: Arc::new(RequestIds(AtomicU64::new(seed))),
        }
    }

    /// The same for other daemons, which show this token.
    #[cfg(feature = "postgres")]
    pub(super) fn for_peers(mut self, token: HeaderValue) -> Self {
        self.peers = Some(token);
        self
    }

    /// The same for a connection from this address.
    pub(super) fn called_from(mut self, from: IpAddr) -> Self {
        self.from = from;
        self
    }

    /// Resolves when connections should finish.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.life.reached(Phase::Closing)
    }

    /// Returns the service for connections above the limit: it answers that there is no room, and passes health checks.
    pub(super) fn over_capacity(self) -> OverCapacity {
        OverCapacity(self)
    }

    /// Returns the caller of a request, or why it is refused before it is read.
    async fn admit(&self, head: &Parts, app: Option<&Shared>) -> Result<Principal, Problem> {
        #[cfg(feature = "postgres")]
        if let Some(token) = &self.peers {
            let shown = head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
            let is_ours = |shown: &[u8]| bool::from(token.as_bytes().ct_eq(shown));
            if !shown.is_some_and(is_ours) {
                let detail = "This listener is for the daemons of the same database. Use the address that `listen` names.";
                return Err(Problem::new(Code::TokenInvalid, detail));
            }
            check_codings(head)?;
            return passed_principal(head);
        }
        let open = matches!(head.uri.path(), "/healthz" | "/readyz");
        let config = self.config.now();
        let principal = self.callers.of(head, self.from, &config, app, open).await?;
        check_codings(head)?;
        Ok(principal)
    }

    fn pass_over(&self, head: &Parts, body: Incoming) {
        request::pass_over(&head.headers, body, self.config.now().limits.idle);
    }

    /// Returns the id of the next request.
    pub(super) fn request_id(&self) -> HeaderValue {
        self.ids.next()
    }

    async fn answer(&self, request: http::Request<Incoming>, id: &HeaderValue) -> Response {
        let (head, body) = request.into_parts();
        #[cfg(feature = "postgres")]
        let head = self.as_shown(head);
        if has_too_large_headers(&head) {
            return and_close(too_large_headers());
        }
        let started = self.late_router.0.get();
        let admitted = self.admit(&head, started.map(|(app, _)| app)).await;
        let Some((app, router)) = started else {
            self.pass_over(&head, body);
            return match admitted {
                Err(problem) => problem.into_response(),
                Ok(_) => starting(&head),
            };
        };
        let caller = admitted.and_then(|by| Caller::new(by, app, id, &head.headers));
        let mut head = head;
        match caller {
            Ok(caller) => head.extensions.insert(caller),
            Err(problem) => {
                self.pass_over(&head, body);
                return problem.into_response();
            }
        };
        let body = if head.uri.path() == STREAMED {
            return self.route(router, head, Body::new(body)).await;
        } else if body.is_end_stream() {
            Bytes::new()
        } else {
            let limits = &app.config().limits;
            let most = if head.uri.path() == EVENTS {
                limits.event_bytes
            } else {
                SMALL_BODY_BYTES
            };
            match request::gather(&head.headers, body, most, limits.idle).await {
                Ok(bytes) => bytes,
                Err(problem) => return problem.into_response(),
            }
        };
        #[cfg(feature = "postgres")]
        if let Some(peers) = app.peers() {
            return self.routed(app, peers, router, head, body).await;
        }
        self.route(router, head, Body::from(body)).await
    }

    /// Returns the id of a request: one that another daemon passes on has an id.
    fn id_of(&self, request: &http::Request<Incoming>) -> HeaderValue {
        let passed = request.headers().get(REQUEST_ID);
        let passed = passed.filter(|_| self.peers.is_some());
        passed.cloned().unwrap_or_else(|| self.ids.next())
    }

    /// Returns the head without what only other daemons say.
    #[cfg(feature = "postgres")]
    fn as_shown(&self, mut head: Parts) -> Parts {
        if self.peers.is_none() {
            head.headers.remove(PASSED);
            head.headers.remove(PRINCIPAL);
        }
        head
    }

    /// Answers here, or passes the call on to the daemon that it is for.
    #[cfg(feature = "postgres")]
    async fn routed(
        &self,
        app: &Shared,
        peers: &Peers,
        router: &Router,
        head: Parts,
        body: Bytes,
    ) -> Response {
        let organization = match peers.answer(app, &head, &body).await {
            Ok(Passed::On(answer)) => return answer,
            Ok(Passed::Not(organization)) => organization,
            Err(problem) => return problem.into_response(),
        };
        let answer = self.route(router, head, Body::from(body)).await;
        // What was not found may have moved to another daemon meanwhile.
        let moved = organization.is_some_and(|organization| !peers.holds(&organization));
        if moved && answer.status() == StatusCode::NOT_FOUND {
            return Problem::unheld().into_response();
        }
        answer
    }

    async fn route(&self, router: &Router, head: Parts, body: Body) -> Response {
        let request = http::Request::from_parts(head, body);
        // A panic in a handler fails one request and doesn't drop the connection.
        let answer = AssertUnwindSafe(router.clone().call(request));
        match answer.catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => problem::unexpected().into_response(),
        }
    }
}

impl hyper::service::Service<http::Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move {
            let id = front.id_of(&request);
            let mut response = front.answer(request, &id).await;
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        })
    }
}

/// See [`Front::over_capacity`].
pub(super) struct OverCapacity(Front);

impl hyper::service::Service<http::Request<Incoming>> for OverCapacity {
    type Response = Response;
    type Error = Infallible;
    type Future = <Front as hyper::service::Service<http::Request<Incoming>>>::Future;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        // The health check must pass: a supervisor must not restart a daemon because it has many callers.
        if matches!(request.uri().path(), "/healthz" | "/readyz") {
            return self.0.call(request);
        }
        let front = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            front.pass_over(&head, body);
            let mut response = Problem::new(
                Code::Busy,
                "The daemon has no room for another connection (limits.connections, or the limit of open files); nothing was done. Close idle connections, then retry.",
            )
            .into_response();
            response.headers_mut().insert(REQUEST_ID, front.ids.next());
            Ok(response)
        })
    }
}

/// Returns the caller of a call that another daemon passes on. Its own calls have none.
#[cfg(feature = "postgres")]
fn passed_principal(head: &Parts) -> Result<Principal, Problem> {
    let Some(shown) = head.headers.get(PRINCIPAL) else {
        return Ok(Principal::daemon());
    };
    serde_json::from_slice(shown.as_bytes()).map_err(|_| {
        let detail = "Another daemon passed this on in a form that is not known here. Run one version of stormhook.";
        Problem::new(Code::InvalidRequest, detail)
    })
}

fn has_too_large_headers(head: &Parts) -> bool {
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let path = head.uri.path_and_query().map_or(0, |p| p.as_str().len());
    head.headers.len() > HEADERS
        || path + head.headers.iter().map(line).sum::<usize>() > HEADER_BYTES
}

pub(super) fn too_large_headers() -> Problem {
    Problem::new(
        Code::HeadersTooLarge,
        "The request exceeds 100 headers, or 16 KiB of headers and path. Send fewer or shorter ones.",
    )
}

/// Checks that the body is not compressed: it is never decompressed, and compressed bytes are not JSON.
fn check_codings(head: &Parts) -> Result<(), Problem> {
    let plain = |name: HeaderName, known: &str| {
        let mut values = head.headers.get_all(name).iter();
        values.all(|value| {
            value
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(known.as_bytes())
        })
    };
    if plain(TRANSFER_ENCODING, "chunked") && plain(CONTENT_ENCODING, "identity") {
        return Ok(());
    }
    Err(Problem::new(
        Code::UnsupportedMediaType,
        "The body must not be compressed. Omit content-encoding; transfer-encoding may only be chunked.",
    ))
}

/// Returns the response while the daemon is starting.
fn starting(head: &Parts) -> Response {
    let is_get = head.method == Method::GET || head.method == Method::HEAD;
    match head.uri.path() {
        "/healthz" if is_get => super::stats::health(),
        "/readyz" if is_get => super::stats::readiness(Err("starting")),
        _ => Problem::starting().into_response(),
    }
}

/// Closes the connection: the rest of the request may be anything.
fn and_close(problem: Problem) -> Response {
    let mut response = problem.into_response();
    debug_assert_eq!(
        response.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
