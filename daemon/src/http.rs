//! The HTTP front end: one router for both listeners. Turns requests into operations and reads, and their results into
//! responses. It decides nothing about deliveries.

mod access;
mod admin;
mod audit;
mod bare;
mod batch;
mod caller_views;
mod callers;
mod certificate;
mod client_address;
mod cluster;
mod code;
mod connection;
mod deliveries;
mod endpoints;
mod events;
mod failures;
mod fields;
mod finished;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod http2;
mod ids;
mod ingest;
mod key_text;
mod keys;
mod lines;
mod listen;
mod lists;
mod nesting;
mod openapi;
#[cfg(feature = "postgres")]
mod passing;
#[cfg(feature = "postgres")]
pub(crate) mod peer_listener;
mod principal;
mod problem;
mod purge;
mod request;
mod routes;
mod secrets;
mod secured;
mod socket;
mod stats;
mod store;
mod stream;
mod tcp;
mod views;

pub use caller_views::{ApiKeyView, AuditEntryView};
pub use certificate::CertificateFileError;
pub(crate) use certificate::ListenerCertificate;
pub use endpoints::{EndpointView, is_quoted};
#[cfg(feature = "postgres")]
pub(crate) use ingest::check_event;
pub use listen::{Bound, Listeners, bind};
pub use socket::ListenError;
pub use views::{DamagedView, DeliveryView, EventView};

use crate::app::App;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Uri};
use problem::{Code, Problem};
use serde::Deserialize;
use std::sync::Arc;
use stormhook_engine::Reader;
use stormhook_store::{NewEvent, StoreError};
use utoipa::ToSchema;

/// Reads an event from its JSON as the routes do; `None` if they would refuse it. For the benchmarks, which measure
/// only the reading.
pub fn read_event(body: &[u8]) -> Option<NewEvent> {
    ingest::parse(body, None).ok()
}

type Shared = Arc<App>;
type Answer = Result<Response, Problem>;

/// Returns the router that accepted requests reach.
fn router(app: &Shared) -> Router {
    let (router, description) = routes::routes().split_for_parts();
    openapi::keep(description);
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(Arc::clone(app))
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

/// Asks a short question.
async fn ask<T>(
    app: &App,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Problem> {
    app.answered(question.await).map_err(Problem::unreadable)
}

/// Asks a question that may read much. Those to a file block, so they run apart from the serving threads.
async fn ask_long<T, Q>(
    app: &Shared,
    question: impl FnOnce(Reader) -> Q + Send + 'static,
) -> Result<T, Problem>
where
    T: Send + 'static,
    Q: Future<Output = Result<T, StoreError>> + Send,
{
    let reader = app.reader().clone();
    if reader.file().is_none() {
        return ask(app, question(reader)).await;
    }
    let runtime = tokio::runtime::Handle::current();
    let asked = tokio::task::spawn_blocking(move || runtime.block_on(question(reader)));
    match asked.await {
        Ok(answer) => app.answered(answer).map_err(Problem::unreadable),
        Err(_) => Err(problem::unexpected()),
    }
}

/// An empty body, which may be omitted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(max_properties = 0, examples(json!({})))]
struct NoFields {}

impl NoFields {
    /// Checks that the body, if there is one, has no fields.
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let body = request::optional_json(headers, body).await?;
        fields::read(&body)
    }
}
