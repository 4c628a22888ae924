//! The HTTP front end: one router for both listeners. It turns requests into operations and questions, and what they come to
//! into answers; it decides nothing about deliveries.

mod bare;
mod batch;
mod callers;
mod code;
mod deliveries;
pub(crate) mod endpoints;
mod events;
mod finished;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod ingest;
mod listen;
mod object;
mod openapi;
mod problem;
mod request;
mod socket;
mod stats;
mod store;
mod stream;
pub(crate) mod views;

pub use listen::{Bound, Listeners, bind};
pub use socket::ListenError;

use crate::app::App;
use crate::writer::SubmitError;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, Method, Uri};
use problem::{Code, Problem};
use std::sync::Arc;
use stormhook_store::NewEvent;

/// Reads an event from its JSON as the routes do; `None` where they would refuse it. For the benchmarks, which measure the
/// reading alone.
pub fn read_event(body: &[u8]) -> Option<NewEvent> {
    ingest::parse(body, None).ok()
}

type Shared = Arc<App>;
type Answer = Result<Response, Problem>;

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
        .route("/v1/backup", post(store::backup))
        .route("/v1/check", post(store::check))
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
        format!("No such route: {path}. GET /v1/openapi.json lists them all."),
    )
}

async fn no_method(method: Method) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!("{method} is not allowed here; see the Allow header."),
    )
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

/// A body without fields, or none.
async fn no_fields(headers: &HeaderMap, body: Body) -> Result<(), Problem> {
    let body = request::optional_json(headers, body).await?;
    object::members(&body, &[]).map(|[]| ())
}
