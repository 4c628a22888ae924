//! Every route, once: its handler, whose attribute has the path and method, and the errors that it may return. The
//! router and the description are made from the same rows.

use super::code::Code::{
    DeliveryEnded, DeliveryInFlight, EndpointInactive, IdempotencyConflict, InvalidField,
    ShuttingDown, StorageFull, TargetRefused, UnsupportedMediaType,
};
use super::openapi::failures::{
    BODY, EMPTY_BODY, GUARDED, OF_FILE, OF_ONE, OPEN, PAGED, READS, WRITES, fails,
};
use super::{
    Shared, batch, cluster, deliveries, endpoints, events, openapi, secrets, stats, store, stream,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Routes = OpenApiRouter<Shared>;

/// Returns all routes with their descriptions, in order.
pub(super) fn routes() -> Routes {
    let none = OpenApiRouter::with_openapi(openapi::whole());
    of_operations(of_deliveries(of_endpoints(of_events(none))))
}

fn of_events(router: Routes) -> Routes {
    router
        .routes(fails(
            routes!(events::accept),
            &[GUARDED, BODY, WRITES, &[IdempotencyConflict]],
        ))
        .routes(fails(routes!(events::list), &[GUARDED, PAGED, READS]))
        .routes(fails(routes!(events::show), &[GUARDED, OF_ONE, READS]))
        .routes(fails(routes!(events::explain), &[GUARDED, OF_ONE, READS]))
        .routes(fails(
            routes!(events::replay),
            &[
                GUARDED,
                OF_ONE,
                BODY,
                WRITES,
                &[EndpointInactive, DeliveryInFlight],
            ],
        ))
        .routes(fails(
            routes!(batch::accept),
            &[GUARDED, &[InvalidField, UnsupportedMediaType]],
        ))
}

fn of_endpoints(router: Routes) -> Routes {
    router
        .routes(fails(
            routes!(endpoints::create),
            &[GUARDED, BODY, WRITES, &[TargetRefused, IdempotencyConflict]],
        ))
        .routes(fails(routes!(endpoints::list), &[GUARDED, PAGED]))
        .routes(fails(routes!(endpoints::show), &[GUARDED, OF_ONE]))
        .routes(fails(
            routes!(endpoints::update),
            &[GUARDED, OF_ONE, BODY, WRITES, &[TargetRefused]],
        ))
        .routes(fails(
            routes!(endpoints::delete),
            &[GUARDED, OF_ONE, WRITES],
        ))
        .routes(fails(
            routes!(endpoints::secrets::secret),
            &[GUARDED, OF_ONE],
        ))
        .routes(fails(
            routes!(endpoints::secrets::rotate),
            &[GUARDED, OF_ONE, BODY, WRITES],
        ))
        .routes(fails(
            routes!(endpoints::test),
            &[GUARDED, OF_ONE, EMPTY_BODY, &[ShuttingDown]],
        ))
        .routes(fails(
            routes!(endpoints::recovery::recover),
            &[GUARDED, OF_ONE, BODY, WRITES, &[EndpointInactive]],
        ))
}

fn of_deliveries(router: Routes) -> Routes {
    router
        .routes(fails(routes!(deliveries::list), &[GUARDED, PAGED, READS]))
        .routes(fails(routes!(deliveries::show), &[GUARDED, OF_ONE, READS]))
        .routes(fails(
            routes!(deliveries::retry),
            &[
                GUARDED,
                OF_ONE,
                EMPTY_BODY,
                WRITES,
                &[EndpointInactive, DeliveryInFlight],
            ],
        ))
        .routes(fails(
            routes!(deliveries::cancel),
            &[
                GUARDED,
                OF_ONE,
                EMPTY_BODY,
                WRITES,
                &[DeliveryEnded, DeliveryInFlight],
            ],
        ))
        .routes(fails(
            routes!(stream::attempts),
            &[GUARDED, &[InvalidField]],
        ))
}

fn of_operations(router: Routes) -> Routes {
    router
        .routes(fails(
            routes!(stats::stats),
            &[GUARDED, OF_ONE, READS, &[InvalidField]],
        ))
        .routes(fails(
            routes!(stats::prometheus::metrics),
            &[GUARDED, READS],
        ))
        .routes(fails(routes!(cluster::show), &[GUARDED]))
        .routes(fails(routes!(secrets::show), &[GUARDED]))
        .routes(fails(
            routes!(secrets::rekey),
            &[GUARDED, BODY, WRITES, OF_FILE],
        ))
        .routes(fails(routes!(stats::healthz), &[OPEN]))
        .routes(fails(routes!(stats::readyz), &[OPEN]))
        .routes(fails(
            routes!(store::backup),
            &[
                GUARDED,
                EMPTY_BODY,
                READS,
                OF_FILE,
                &[StorageFull, ShuttingDown],
            ],
        ))
        .routes(fails(routes!(store::check), &[GUARDED, EMPTY_BODY, READS]))
        .routes(fails(routes!(openapi::show), &[GUARDED]))
}
