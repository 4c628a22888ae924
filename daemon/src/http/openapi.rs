//! The description of all routes, generated from the handlers themselves.

use super::{Answer, batch, deliveries, endpoints, events, request, stats, stream};
use axum::Json;
use axum::response::IntoResponse;
use http::Uri;
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(title = "stormhook", description = "Webhook delivery: events in, signed requests out."),
    paths(
        events::accept, events::list, events::show, events::explain, events::replay, batch::accept,
        endpoints::create, endpoints::list, endpoints::show, endpoints::update, endpoints::delete, endpoints::secret,
        endpoints::rotate, endpoints::test, endpoints::recover,
        deliveries::list, deliveries::show, deliveries::retry, deliveries::cancel, stream::attempts,
        stats::stats, stats::prometheus::metrics, stats::healthz, stats::readyz, stats::check, show,
    ),
    components(schemas(super::problem::Details<'static>))
)]
struct Described;

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
pub(super) async fn show(uri: Uri) -> Answer {
    request::query(&uri, [])?;
    Ok(Json(Described::openapi()).into_response())
}

/// Every route as method and path: for the test that the router has the same ones.
#[cfg(test)]
pub(super) fn routes() -> std::collections::BTreeSet<(String, String)> {
    let json = serde_json::to_value(Described::openapi()).unwrap();
    let paths = json["paths"].as_object().unwrap().clone();
    paths
        .into_iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().clone();
            methods
                .into_iter()
                .map(move |(method, _)| (method.to_uppercase(), path.clone()))
        })
        .collect()
}
