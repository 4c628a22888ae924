//! Whose organization a request is about, by its path, its query and its body. Pure.

use crate::http::ids::object_in;
use http::Method;
use serde::Deserialize;
use std::borrow::Cow;
use stormhook_store::{EndpointId, EventId, Named};

/// What decides which daemon answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Any daemon can answer it, or it is invalid and any can say so.
    Any,
    /// That which holds this organization.
    Organization(String),
    /// That which holds the organization of this object.
    Named(Named),
}

/// The part of a body that names the organization.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfOrganization<'a> {
    #[serde(borrow)]
    organization_id: Cow<'a, str>,
}

/// Returns the subject of a request. Requests with invalid parts have none: the daemon that has them says what is wrong.
pub(super) fn of(method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Subject {
    let Some(route) = path.strip_prefix("/v1/") else {
        return Subject::Any;
    };
    let mut parts = route.split('/');
    let (collection, id) = (parts.next().unwrap_or_default(), parts.next());
    let creates = *method == Method::POST && id.is_none();
    match (collection, id) {
        ("events" | "endpoints", None) if creates => in_body(body),
        ("events" | "endpoints" | "deliveries" | "stats", None) => in_query(query),
        ("events", Some("purge")) => in_body(body),
        ("organizations", Some(id)) => Subject::Organization(id.to_owned()),
        ("attempts", Some("stream")) => in_query(query),
        _ => named(object_in(path).and_then(|(_, object)| object)),
    }
}

fn in_body(body: &[u8]) -> Subject {
    let of: Result<OfOrganization<'_>, _> = serde_json::from_slice(body);
    of.map_or(Subject::Any, |of| {
        Subject::Organization(of.organization_id.into_owned())
    })
}

fn in_query(query: Option<&str>) -> Subject {
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let subject = match &*name {
            "organizationId" => Subject::Organization(value.into_owned()),
            "endpointId" => named(EndpointId::parse(&value).map(Named::Endpoint)),
            "eventId" => named(EventId::parse(&value).map(Named::Event)),
            _ => continue,
        };
        return subject;
    }
    Subject::Any
}

fn named(found: Option<Named>) -> Subject {
    found.map_or(Subject::Any, Subject::Named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormhook_store::{DeliveryId, Slot};

    const ENDPOINT: &str = "ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";

    fn get(path: &str, query: Option<&str>) -> Subject {
        of(&Method::GET, path, query, b"")
    }

    #[test]
    fn an_event_and_an_endpoint_are_their_organization_s_whatever_else_is_in_them() {
        for path in ["/v1/events", "/v1/endpoints", "/v1/events/purge"] {
            let body =
                br#"{"type":"x","organizationId":"org_\u0034","data":{"organizationId":"no"}}"#;
            let subject = of(&Method::POST, path, None, body);
            assert_eq!(subject, Subject::Organization("org_4".to_owned()), "{path}");
            for invalid in [&b"{"[..], b"[]", b"{}", br#"{"organizationId":4}"#] {
                assert_eq!(of(&Method::POST, path, None, invalid), Subject::Any);
            }
        }
    }

    #[test]
    fn an_organization_is_named_by_the_path() {
        let subject = of(&Method::DELETE, "/v1/organizations/org_4", None, b"");
        assert_eq!(subject, Subject::Organization("org_4".to_owned()));
    }

    #[test]
    fn an_object_is_named_by_the_path() {
        let endpoint = EndpointId::parse(ENDPOINT).unwrap();
        let path = format!("/v1/endpoints/{ENDPOINT}/recover");
        assert_eq!(get(&path, None), Subject::Named(Named::Endpoint(endpoint)));
        let event = EventId(7);
        let path = format!("/v1/events/{event}/explain");
        assert_eq!(get(&path, None), Subject::Named(Named::Event(event)));
        let slot = Slot(9);
        let path = format!("/v1/deliveries/{}", DeliveryId { event, slot });
        assert_eq!(get(&path, None), Subject::Named(Named::Slot(slot)));
        assert_eq!(get("/v1/endpoints/nonsense", None), Subject::Any);
    }

    #[test]
    fn a_filter_names_an_organization_or_an_object() {
        let of_org = Subject::Organization("org_1".to_owned());
        assert_eq!(
            get("/v1/events", Some("limit=3&organizationId=org_1")),
            of_org
        );
        assert_eq!(get("/v1/stats", Some("organizationId=org%5F1")), of_org);
        let endpoint = EndpointId::parse(ENDPOINT).unwrap();
        let query = format!("endpointId={ENDPOINT}");
        let of_endpoint = Subject::Named(Named::Endpoint(endpoint));
        for path in ["/v1/deliveries", "/v1/attempts/stream", "/v1/stats"] {
            assert_eq!(get(path, Some(&query)), of_endpoint, "{path}");
            assert_eq!(get(path, None), Subject::Any, "{path}");
        }
        assert_eq!(get("/v1/cluster", None), Subject::Any);
        assert_eq!(get("/healthz", None), Subject::Any);
    }
}
