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
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use callers::Callers;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use problem::{Code, Problem};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// The router of one listener. With `callers`, what comes is checked by their rules first.
fn router(app: &Shared, callers: Option<Arc<Callers>>) -> Router {
    let seed = u64::try_from(crate::writer::random_u128() >> 64).unwrap_or(0);
    let ids = Arc::new(RequestIds(AtomicU64::new(seed)));
    let outer = Arc::clone(app);
    routes()
        .layer(axum::middleware::from_fn(
            move |request: Request, next: Next| {
                let (app, callers, ids) = (Arc::clone(&outer), callers.clone(), Arc::clone(&ids));
                async move {
                    let mut response = match admitted(&app, callers.as_deref(), &request) {
                        Ok(()) => run(request, next).await,
                        Err(problem) => problem.into_response(),
                    };
                    response.headers_mut().insert(REQUEST_ID, ids.next());
                    response
                }
            },
        ))
        .with_state(Arc::clone(app))
}

fn admitted(app: &App, callers: Option<&Callers>, request: &Request) -> Result<(), Problem> {
    let Some(callers) = callers else {
        return Ok(());
    };
    let open = matches!(request.uri().path(), "/healthz" | "/readyz");
    callers.check(
        request.uri(),
        request.headers(),
        &app.config().host_names,
        open,
    )
}

/// A defect in a handler is one failed request, not a dropped connection.
async fn run(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => problem::unexpected().into_response(),
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
