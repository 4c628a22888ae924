//! The description of all routes (OpenAPI 3.1), generated from the handlers' attributes, the types that requests are
//! read into, the views and the enums behind them. Tests check it against what the daemon accepts and returns.

pub(super) mod conditions;
pub(super) mod enums;
pub(super) mod examples;
pub(super) mod failures;
mod finish;
pub(super) mod operations;
pub(super) mod patterns;
pub(super) mod responses;
pub(super) mod stats;
#[cfg(test)]
mod tests;
mod webhooks;

use super::Answer;
use super::fields::query;
use axum::response::IntoResponse;
use bytes::Bytes;
use finish::complete;
use http::Uri;
use http::header::CONTENT_TYPE;
use std::sync::{LazyLock, OnceLock};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "stormhook",
        description = include_str!("openapi/description.md"),
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "http://127.0.0.1:8650", description = "TCP, `listen` in the configuration (https if `tls.certificate` is set): needs the \
        bearer token. The same routes are served over HTTP/1.1 on the Unix socket `stormhook.sock`, without a token: \
        `curl --unix-socket /run/stormhook/stormhook.sock http://localhost/v1/stats`.")),
    tags(
        (name = "events", description = "Send events, one by one or as a stream, and see where they went."),
        (name = "endpoints", description = "The URLs that receive deliveries, with their subscriptions and secrets."),
        (name = "deliveries", description = "One event to one endpoint, with its attempts: show, list, retry, cancel, follow live."),
        (name = "operations", description = "Operate the daemon: stats, metrics, health, backup and check of the store."),
    ),
    components(schemas(super::problem::Details<'static>)),
    security(("bearer" = [])),
)]
struct Whole;

/// Returns the part of the description that is about the whole API.
pub(super) fn whole() -> utoipa::openapi::OpenApi {
    Whole::openapi()
}

/// The description as the routes have it: the same for every router.
static OF_ROUTES: OnceLock<utoipa::openapi::OpenApi> = OnceLock::new();

/// Keeps the description that the routes come with.
pub(super) fn keep(of_routes: utoipa::openapi::OpenApi) {
    let _same = OF_ROUTES.set(of_routes);
}

/// Returns the description of all routes.
fn document(mut of_routes: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    complete(&mut of_routes);
    of_routes
}

/// Made once, since it is the same for every caller. It holds only names and numbers, which always serialize.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let of_routes = OF_ROUTES.get().cloned().unwrap_or_else(whole);
    let json = document(of_routes).to_json();
    json.unwrap_or_default().into()
});

/// Returns this description.
///
/// An OpenAPI 3.1 document, generated from the daemon's code.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operations", operation_id = "getOpenApi",
    responses((status = 200, description = "The document.", body = Object)))]
pub(super) async fn show(uri: Uri) -> Answer {
    query::<()>(&uri)?;
    let kind = [(CONTENT_TYPE, "application/json")];
    Ok((kind, DOCUMENT.clone()).into_response())
}
