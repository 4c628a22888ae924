//! Adds what attributes can't express and all operations share: `x-request-id`, the token, optional bodies. Also adds
//! the responses that failures refer to, and the webhooks.

use super::operations::operations;
use super::webhooks::Webhooks;
use super::{conditions, failures};
use utoipa::OpenApi as _;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Components, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Header, OpenApi, Ref, RefOr, Required};

const REQUEST_ID: &str = "x-request-id";

/// Completes the description of all routes.
pub(super) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        with_request_id(operation);
        with_optional_body(operation);
    }
    for (name, mut response) in failures::components() {
        response
            .headers
            .insert(REQUEST_ID.to_owned(), RefOr::Ref(request_id_ref()));
        components.responses.insert(name, RefOr::T(response));
    }
    let header = RefOr::T(request_id());
    components.headers.insert("RequestId".to_owned(), header);
    with_token(components);
    let webhooks = Webhooks::openapi();
    let schemas = webhooks.components.map(|components| components.schemas);
    components.schemas.extend(schemas.unwrap_or_default());
    conditions::add(components);
    document.webhooks = Some(webhooks.paths);
}

fn request_id() -> Header {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some("^req_[0-9a-f]+$"));
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some("The id of the request. Every response has one."))
        .build()
}

fn request_id_ref() -> Ref {
    Ref::new("#/components/headers/RequestId")
}

fn with_request_id(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response
                .headers
                .insert(REQUEST_ID.to_owned(), RefOr::Ref(request_id_ref()));
        }
    }
}

/// Makes a body optional, without allowing null.
fn with_optional_body(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return;
    };
    body.required.get_or_insert(Required::False);
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(either))) = &content.schema
        {
            let body = either.items.iter().find(|one| matches!(one, RefOr::Ref(_)));
            content.schema = body.cloned();
        }
    }
}

fn with_token(components: &mut Components) {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some(
        "Over TCP: the token in `admin-token` in the data directory, created on the first start. Daemons on one database share the token of the first. The Unix socket needs no token; \
         file permissions protect it."
            .to_owned(),
    );
    let scheme = RefOr::T(SecurityScheme::Http(scheme));
    components
        .security_schemes
        .insert("bearer".to_owned(), scheme);
}
