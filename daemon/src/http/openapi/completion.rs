//! What the attributes can't say and all operations have in common: error responses, `x-request-id`, the token, closed bodies; and the
//! webhooks.

use super::failures;
use super::partner::Webhooks;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{
    AdditionalProperties, Components, ObjectBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Header, OpenApi, Ref, RefOr, Required};
use utoipa::{Modify, OpenApi as _};

const REQUEST_ID: &str = "x-request-id";

/// See the module.
pub(super) struct Completion;

impl Modify for Completion {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let mut bodies = Vec::new();
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            with_failures(operation);
            with_request_id(operation);
            bodies.extend(json_body(operation));
        }
        for name in bodies {
            if let Some(RefOr::T(Schema::Object(body))) = components.schemas.get_mut(&name) {
                body.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
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
        document.webhooks = Some(webhooks.paths);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}

fn with_failures(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    for (status, failure) in failures::of(id).unwrap_or_default() {
        let responses = &mut operation.responses.responses;
        responses.entry(status).or_insert(RefOr::Ref(failure));
    }
}

fn request_id() -> Header {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some("^req_[0-9a-f]+$"));
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(
            "The request's number, to look it up by. Every answer has one.",
        ))
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

/// The names of the schemas of an operation's JSON body, with a body that may be left out made just that: it may not be null.
fn json_body(operation: &mut Operation) -> Vec<String> {
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return Vec::new();
    };
    body.required.get_or_insert(Required::False);
    let contents = body
        .content
        .values_mut()
        .filter_map(|content| match content {
            RefOr::T(content) => Some(content),
            RefOr::Ref(_) => None,
        });
    contents.filter_map(body_schema).collect()
}

fn body_schema(content: &mut Content) -> Option<String> {
    if let Some(RefOr::T(Schema::OneOf(either))) = &content.schema {
        let body = either.items.iter().find(|one| matches!(one, RefOr::Ref(_)));
        content.schema = body.cloned();
    }
    match &content.schema {
        Some(RefOr::Ref(schema)) => {
            let name = schema.ref_location.rsplit('/').next()?;
            Some(name.to_owned())
        }
        _ => None,
    }
}

fn with_token(components: &mut Components) {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some(
        "Over TCP: the token in `admin-token` in the data folder, made on the first start. Over the Unix socket none is needed; there \
         file permissions decide."
            .to_owned(),
    );
    let scheme = RefOr::T(SecurityScheme::Http(scheme));
    components
        .security_schemes
        .insert("bearer".to_owned(), scheme);
}
