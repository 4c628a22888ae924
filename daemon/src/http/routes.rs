//! Every route, once: its handler, whose attribute has the path and method, and the errors that it may return. The
//! router and the description are made from the same rows.

use super::access::{ADMIN, INGEST, READ, READ_ALL, WRITE, guarded};
use super::code::Code;
use super::code::Code::{
    DeliveryEnded, DeliveryInFlight, EndpointInactive, IdempotencyConflict, InvalidField,
    NotSupported, ShuttingDown, StorageFull, TargetRefused, UnsupportedMediaType,
};
use super::openapi::failures::{
    BODY, EMPTY_BODY, GUARDED, OF_FILE, OF_ONE, OPEN, PAGED, READS, Route, WRITES, fails,
};
use super::principal::Access;
use super::{
    Shared, admin, audit, batch, cluster, deliveries, endpoints, events, keys, openapi, purge,
    secrets, stats, store, stream,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

type Routes = OpenApiRouter<Shared>;

/// Returns a route with the access that it needs, and the errors of its operations.
fn with(access: Access, route: Route, groups: &[&[Code]]) -> Route {
    guarded(access, fails(route, groups))
}

/// Returns all routes with their descriptions, in order.
pub(super) fn routes() -> Routes {
    let none = OpenApiRouter::with_openapi(openapi::whole());
    of_operations(of_keys(of_deliveries(of_endpoints(of_events(none)))))
}

fn of_events(router: Routes) -> Routes {
    router
        .routes(with(
            INGEST,
            routes!(events::accept),
            &[GUARDED, BODY, WRITES, &[IdempotencyConflict]],
        ))
        .routes(with(READ, routes!(events::list), &[GUARDED, PAGED, READS]))
        .routes(with(READ, routes!(events::show), &[GUARDED, OF_ONE, READS]))
        .routes(with(
            READ,
            routes!(events::explain),
            &[GUARDED, OF_ONE, READS],
        ))
        .routes(with(
            WRITE,
            routes!(events::replay),
            &[
                GUARDED,
                OF_ONE,
                BODY,
                WRITES,
                &[EndpointInactive, DeliveryInFlight],
            ],
        ))
        .routes(with(
            INGEST,
            routes!(batch::accept),
            &[GUARDED, &[InvalidField, UnsupportedMediaType]],
        ))
}

fn of_endpoints(router: Routes) -> Routes {
    router
        .routes(with(
            WRITE,
            routes!(endpoints::create),
            &[GUARDED, BODY, WRITES, &[TargetRefused, IdempotencyConflict]],
        ))
        .routes(with(READ, routes!(endpoints::list), &[GUARDED, PAGED]))
        .routes(with(READ, routes!(endpoints::show), &[GUARDED, OF_ONE]))
        .routes(with(
            WRITE,
            routes!(endpoints::update),
            &[GUARDED, OF_ONE, BODY, WRITES, &[TargetRefused]],
        ))
        .routes(with(
            WRITE,
            routes!(endpoints::delete),
            &[GUARDED, OF_ONE, WRITES],
        ))
        .routes(with(
            WRITE,
            routes!(endpoints::secrets::secret),
            &[GUARDED, OF_ONE],
        ))
        .routes(with(
            WRITE,
            routes!(endpoints::secrets::rotate),
            &[GUARDED, OF_ONE, BODY, WRITES],
        ))
        .routes(with(
            WRITE,
            routes!(endpoints::test),
            &[GUARDED, OF_ONE, EMPTY_BODY, &[ShuttingDown]],
        ))
        .routes(with(
            WRITE,
            routes!(endpoints::recovery::recover),
            &[GUARDED, OF_ONE, BODY, WRITES, &[EndpointInactive]],
        ))
}

fn of_deliveries(router: Routes) -> Routes {
    router
        .routes(with(
            READ,
            routes!(deliveries::list),
            &[GUARDED, PAGED, READS],
        ))
        .routes(with(
            READ,
            routes!(deliveries::show),
            &[GUARDED, OF_ONE, READS],
        ))
        .routes(with(
            WRITE,
            routes!(deliveries::retry),
            &[
                GUARDED,
                OF_ONE,
                EMPTY_BODY,
                WRITES,
                &[EndpointInactive, DeliveryInFlight],
            ],
        ))
        .routes(with(
            WRITE,
            routes!(deliveries::cancel),
            &[
                GUARDED,
                OF_ONE,
                EMPTY_BODY,
                WRITES,
                &[DeliveryEnded, DeliveryInFlight],
            ],
        ))
        .routes(with(READ, routes!(stream::attempts), &[GUARDED, OF_ONE]))
}

fn of_keys(router: Routes) -> Routes {
    router
        .routes(with(ADMIN, routes!(keys::create), &[GUARDED, BODY, WRITES]))
        .routes(with(ADMIN, routes!(keys::list), &[GUARDED, PAGED, READS]))
        .routes(with(
            ADMIN,
            routes!(keys::revoke),
            &[GUARDED, OF_ONE, WRITES],
        ))
        .routes(with(ADMIN, routes!(audit::list), &[GUARDED, PAGED, READS]))
        .routes(with(ADMIN, routes!(purge::purge), &[GUARDED, BODY, WRITES]))
        .routes(with(
            ADMIN,
            routes!(purge::delete_organization),
            &[GUARDED, OF_ONE, WRITES],
        ))
}

fn of_operations(router: Routes) -> Routes {
    router
        .routes(with(
            READ,
            routes!(stats::stats),
            &[GUARDED, OF_ONE, READS, &[InvalidField]],
        ))
        .routes(with(
            READ_ALL,
            routes!(stats::prometheus::metrics),
            &[GUARDED, READS],
        ))
        .routes(with(READ_ALL, routes!(cluster::show), &[GUARDED]))
        .routes(with(READ_ALL, routes!(secrets::show), &[GUARDED]))
        .routes(with(
            ADMIN,
            routes!(secrets::rekey),
            &[GUARDED, BODY, WRITES, OF_FILE],
        ))
        .routes(with(Access::Open, routes!(stats::healthz), &[OPEN]))
        .routes(with(Access::Open, routes!(stats::readyz), &[OPEN]))
        .routes(with(
            ADMIN,
            routes!(store::backup),
            &[
                GUARDED,
                EMPTY_BODY,
                READS,
                OF_FILE,
                &[StorageFull, ShuttingDown],
            ],
        ))
        .routes(with(
            ADMIN,
            routes!(store::check),
            &[GUARDED, EMPTY_BODY, READS],
        ))
        .routes(with(
            ADMIN,
            routes!(admin::rotate_token),
            &[GUARDED, EMPTY_BODY, READS, WRITES, &[NotSupported]],
        ))
        .routes(with(READ, routes!(openapi::show), &[GUARDED]))
}
