//! The HTTP front end: one router for both listeners. It turns requests into operations and questions, and what they come to
//! into answers; it decides nothing about deliveries.

mod batch;
mod callers;
mod deliveries;
mod endpoints;
mod events;
mod ingest;
mod listen;
mod object;
mod openapi;
mod patience;
mod problem;
mod request;
mod stats;
mod stream;
mod views;

pub use listen::{Bound, ListenError, Listeners, bind};

use crate::app::App;
use crate::writer::SubmitError;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use callers::Callers;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use hyper::body::Incoming;
use problem::{Code, Problem};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tower_service::Service;

type Shared = Arc<App>;
type Answer = Result<Response, Problem>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The body of anything but an event: fifty headers of 4 KiB and the rest of an endpoint fit.
const SMALL_BODY_BYTES: usize = 512 << 10;

fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/events", post(events::accept).get(events::list))
        .route("/v1/events/batch", post(batch::accept))
        .route("/v1/events/{id}", get(events::show))
        .route("/v1/events/{id}/explain", get(events::explain))
        .route("/v1/events/{id}/replay", post(events::replay))
        .route(
            "/v1/endpoints",
            post(endpoints::create).get(endpoints::list),
        )
        .route(
            "/v1/endpoints/{id}",
            get(endpoints::show)
                .patch(endpoints::update)
                .delete(endpoints::delete),
        )
        .route("/v1/endpoints/{id}/secret", get(endpoints::secret))
        .route("/v1/endpoints/{id}/rotate-secret", post(endpoints::rotate))
        .route("/v1/endpoints/{id}/test", post(endpoints::test))
        .route("/v1/endpoints/{id}/recover", post(endpoints::recover))
        .route("/v1/deliveries", get(deliveries::list))
        .route("/v1/deliveries/{id}", get(deliveries::show))
        .route("/v1/deliveries/{id}/retry", post(deliveries::retry))
        .route("/v1/deliveries/{id}/cancel", post(deliveries::cancel))
        .route("/v1/attempts/stream", get(stream::attempts))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/check", post(stats::check))
        .route("/v1/openapi.json", get(openapi::show))
        .route("/metrics", get(stats::metrics))
        .route("/healthz", get(stats::healthz))
        .route("/readyz", get(stats::readyz))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
}

async fn no_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        Code::NotFound,
        format!("there is no route {path}: GET /v1/openapi.json lists them all"),
    )
}

async fn no_method(method: Method) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!("{method} is not for this route: the header Allow says what is"),
    )
}

/// Numbers requests. Starts at a random place, so that ids of two runs differ.
struct RequestIds(AtomicU64);

impl RequestIds {
    fn next(&self) -> HeaderValue {
        let id = format!("req_{:016x}", self.0.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("req_0"))
    }
}

/// What answers the requests of one listener. With `callers`, what comes is checked by their rules first.
#[derive(Clone)]
struct Front {
    app: Shared,
    callers: Option<Arc<Callers>>,
    ids: Arc<RequestIds>,
    router: Router,
}

impl Front {
    fn new(app: &Shared, callers: Option<Callers>) -> Self {
        let seed = u64::try_from(crate::writer::random_u128() >> 64).unwrap_or(0);
        Self {
            app: Arc::clone(app),
            callers: callers.map(Arc::new),
            ids: Arc::new(RequestIds(AtomicU64::new(seed))),
            router: routes().with_state(Arc::clone(app)),
        }
    }

    fn admits(&self, request: &http::Request<Incoming>) -> Result<(), Problem> {
        let Some(callers) = &self.callers else {
            return Ok(());
        };
        let open = matches!(request.uri().path(), "/healthz" | "/readyz");
        callers.check(
            request.uri(),
            request.headers(),
            &self.app.config().host_names,
            open,
        )
    }

    async fn answer(mut self, request: http::Request<Incoming>) -> Response {
        let mut response = match self.admits(&request) {
            Ok(()) => {
                // A defect in a handler is one failed request, not a dropped connection.
                let answer = AssertUnwindSafe(self.router.call(request.map(Body::new)));
                match answer.catch_unwind().await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => problem::unexpected().into_response(),
                }
            }
            Err(problem) => problem.into_response(),
        };
        response.headers_mut().insert(REQUEST_ID, self.ids.next());
        response
    }
}

impl hyper::service::Service<http::Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Asks a question that may read much, beside the threads that serve.
async fn blocking<T: Send + 'static>(
    app: &Shared,
    question: impl FnOnce(&App) -> Result<T, SubmitError> + Send + 'static,
) -> Result<T, Problem> {
    let app = Arc::clone(app);
    match tokio::task::spawn_blocking(move || question(&app)).await {
        Ok(answer) => answer.map_err(Problem::unreadable),
        Err(_) => Err(problem::unexpected()),
    }
}

async fn small_json(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    request::json(headers, body, SMALL_BODY_BYTES, app.config().limits.idle).await
}

async fn small_json_or_none(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    request::optional_json(headers, body, SMALL_BODY_BYTES, app.config().limits.idle).await
}

/// A body without fields, or none.
async fn no_fields(app: &App, headers: &HeaderMap, body: Body) -> Result<(), Problem> {
    let body = small_json_or_none(app, headers, body).await?;
    object::members(&body, &[]).map(|[]| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_route_of_the_router() {
        let source = include_str!("http.rs");
        let routed = source.matches(".route(").count() - 1;
        let described: std::collections::BTreeSet<_> = openapi::routes()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        assert_eq!(described.len(), routed, "{described:?}");
        for path in described {
            assert!(source.contains(&format!("\"{path}\"")), "{path}");
        }
    }
}
