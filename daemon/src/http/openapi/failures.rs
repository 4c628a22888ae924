//! The errors that an operation may return, in groups of codes, from which its error responses are made. All have the
//! same form, a problem; the description of each response lists its codes.

use super::enums::ProblemCode;
use super::operations::operations;
use crate::http::Shared;
use crate::http::problem::{Code, Details};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Content, Header, Ref, RefOr, Response, ResponseBuilder};
use utoipa_axum::router::UtoipaMethodRouter;

use Code::{
    Busy, EventTooLarge, HeadersTooLarge, HostRefused, Internal, InvalidCursor, InvalidField,
    InvalidJson, InvalidRequest, MethodNotAllowed, NotFound, NotSupported, OriginRefused,
    RequestTimeout, ScopeMissing, ShuttingDown, StorageFull, StoreFailed, TokenInvalid,
    TokenMissing, TooManyAttempts, UnknownField, UnsupportedMediaType, WrongOrganization,
};

/// A route with its description.
pub(in crate::http) type Route = UtoipaMethodRouter<Shared>;

/// The errors of the health routes.
pub(in crate::http) const OPEN: &[Code] = &[
    InvalidRequest,
    HostRefused,
    OriginRefused,
    UnknownField,
    HeadersTooLarge,
    Internal,
];
/// The errors of every other route: it needs the token and a daemon that has started.
pub(in crate::http) const GUARDED: &[Code] = &[
    InvalidRequest,
    HostRefused,
    OriginRefused,
    UnknownField,
    HeadersTooLarge,
    Internal,
    TokenMissing,
    TokenInvalid,
    TooManyAttempts,
    ScopeMissing,
    WrongOrganization,
    InvalidField,
    Busy,
];
/// The errors of a route that names an object.
pub(in crate::http) const OF_ONE: &[Code] = &[NotFound];
/// The errors of a list.
pub(in crate::http) const PAGED: &[Code] = &[InvalidField, InvalidCursor];
/// The errors of a route with a JSON body without fields.
pub(in crate::http) const EMPTY_BODY: &[Code] = &[
    InvalidJson,
    RequestTimeout,
    EventTooLarge,
    UnsupportedMediaType,
];
/// The errors of a route with a JSON body with fields.
pub(in crate::http) const BODY: &[Code] = &[
    InvalidJson,
    InvalidField,
    RequestTimeout,
    EventTooLarge,
    UnsupportedMediaType,
];
/// The errors of what only a store in a file can do.
pub(in crate::http) const OF_FILE: &[Code] = &[NotSupported];
/// The errors of reading the store.
pub(in crate::http) const READS: &[Code] = &[StoreFailed];
/// The errors of committing.
pub(in crate::http) const WRITES: &[Code] = &[Busy, StorageFull, ShuttingDown, StoreFailed];

/// The name of the response for requests that match no operation: an unknown route or method.
const NO_OPERATION: &str = "NoSuchRoute";

/// Returns a route whose operations may fail with these codes.
pub(in crate::http) fn fails(route: Route, groups: &[&[Code]]) -> Route {
    let (schemas, mut paths, methods) = route;
    let failures = responses(&groups.concat());
    for operation in paths.paths.values_mut().flat_map(operations) {
        for (status, failure) in &failures {
            let responses = &mut operation.responses.responses;
            let failure = || RefOr::Ref(failure.clone());
            responses.entry(status.clone()).or_insert_with(failure);
        }
    }
    (schemas, paths, methods)
}

/// Returns the error responses for these codes, by status.
fn responses(codes: &[Code]) -> BTreeMap<String, Ref> {
    let mut responses = BTreeMap::new();
    for code in codes {
        let status = code.status().as_u16().to_string();
        responses.entry(status).or_insert_with(|| {
            let mut response = Ref::from_response_name(name_of(*code));
            response.description = described(codes, *code);
            response
        });
    }
    responses.insert("default".to_owned(), Ref::from_response_name(NO_OPERATION));
    responses
}

/// Returns one response for each status that a code has, to be referred to.
pub(super) fn components() -> BTreeMap<String, Response> {
    let codes: Vec<Code> = ProblemCode::all()
        .into_iter()
        .map(|(code, _)| code)
        .collect();
    let mut components: BTreeMap<String, Response> = codes
        .iter()
        .filter(|code| **code != MethodNotAllowed)
        .map(|code| {
            (
                name_of(*code).to_owned(),
                problem(&described(&codes, *code), *code),
            )
        })
        .collect();
    let neither = format!(
        "The route does not exist (404), or does not support this method (405).\n\n{}\n{}",
        line(NotFound),
        line(MethodNotAllowed)
    );
    components.insert(NO_OPERATION.to_owned(), problem(&neither, MethodNotAllowed));
    components
}

/// Describes the codes of one status: those among `codes` that have the status of `like`.
fn described(codes: &[Code], like: Code) -> String {
    let alike: Vec<String> = ProblemCode::all()
        .into_iter()
        .map(|(code, _)| code)
        .filter(|code| code.status() == like.status() && codes.contains(code))
        .map(line)
        .collect();
    let phrase = like.status().canonical_reason().unwrap_or("Error");
    format!("{phrase}.\n\n{}", alike.join("\n"))
}

fn line(code: Code) -> String {
    let means = ProblemCode::all()
        .into_iter()
        .find(|(known, _)| *known == code);
    format!(
        "- `{}`: {}",
        code.as_str(),
        means.map_or("", |(_, means)| means)
    )
}

fn problem(description: &str, code: Code) -> Response {
    let body = Content::new(Some(Ref::from_schema_name(Details::name())));
    let mut response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", body);
    for (name, header) in headers(code) {
        response = response.header(name, header);
    }
    response.build()
}

/// Returns the headers that a response with this code's status may have.
fn headers(code: Code) -> Vec<(&'static str, Header)> {
    let text = |what: &str| header(Type::String, what);
    match code.status().as_u16() {
        401 => vec![("WWW-Authenticate", text("`Bearer`."))],
        405 => vec![(
            "Allow",
            text("With 405: the methods that the route supports."),
        )],
        429 | 503 => {
            let seconds = header(
                Type::Integer,
                "The number of seconds to wait before retrying.",
            );
            vec![("Retry-After", seconds)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn header(kind: Type, what: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(kind));
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(what))
        .build()
}

/// Returns the name of a response: its status in one word.
fn name_of(code: Code) -> &'static str {
    match code.status().as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => NO_OPERATION,
        408 => "RequestTimeout",
        409 => "Conflict",
        413 => "TooLarge",
        415 => "UnsupportedMediaType",
        422 => "TargetRefused",
        429 => "TooManyAttempts",
        431 => "HeadersTooLarge",
        503 => "Unavailable",
        _ => "InternalError",
    }
}
