//! The audit log: each attributed operation that changed something leaves an entry in the same commit.

use super::{Batch, Storage};
use crate::api_key::ApiKey;
use crate::audit::{Action, Attribution, AuditEntry, Audited};
use crate::command::{RecordAudit, Recover, Replay};
use crate::delivery::{Delivery, Status};
use crate::endpoint::{Certificate, Endpoint, EndpointTls, Settings};
use crate::error::StoreError;
use crate::hex::hex;
use crate::ids::AuditId;
use crate::op::{AttributedOp, Done, Op};
use crate::purge::{Purge, PurgeScope};
use crate::times::rfc3339;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What stands for a secret.
const MASKED: &str = "***";

type Object = Map<String, Value>;

/// What an operation may change, before it.
#[derive(Default)]
struct Before {
    endpoint: Option<Arc<Endpoint>>,
    status: Option<Status>,
    was_revoked: bool,
}

impl<S: Storage> Batch<'_, S> {
    /// Decides an operation, and records what it changed.
    pub(super) fn attributed(&mut self, attributed: &AttributedOp) -> Result<Done, StoreError> {
        let AttributedOp { op, by } = attributed;
        let before = self.before(op)?;
        let done = self.run(op)?;
        if let Some(what) = self.audited(op, &before, &done) {
            self.record(what, by.clone());
        }
        Ok(done)
    }

    /// Adds an entry.
    pub(super) fn record(&mut self, what: Audited, by: Attribution) {
        let random = self.next_random();
        let last = self.audit.last().map(|entry| entry.id);
        let last = last.unwrap_or_else(|| self.storage.last_audit());
        let id = AuditId::following(last, self.now, random);
        self.audit.push(AuditEntry { id, by, what });
    }

    /// Records that the daemon disabled an endpoint.
    pub(super) fn record_disabled(&mut self, before: &Endpoint, after: &Endpoint) {
        if let Some(what) = changed(Action::EndpointDisable, before, after, Object::new()) {
            self.record(what, Attribution::to_daemon());
        }
    }

    fn before(&mut self, op: &Op) -> Result<Before, StoreError> {
        let endpoint = match op {
            Op::UpdateEndpoint(update) => self.live_endpoint(update.id),
            Op::DeleteEndpoint(delete) => self.live_endpoint(delete.id),
            _ => None,
        };
        let delivery = match op {
            Op::Retry(retry) => Some(retry.0),
            Op::Cancel(cancel) => Some(cancel.0),
            _ => None,
        };
        let delivery = match delivery {
            Some(id) => self.delivery(id)?,
            None => None,
        };
        let was_revoked = match op {
            Op::RevokeApiKey(revoke) => self
                .api_key(revoke.0)?
                .is_some_and(|key| key.revoked_at.is_some()),
            _ => false,
        };
        Ok(Before {
            endpoint,
            status: delivery.map(|d| d.status),
            was_revoked,
        })
    }

    /// Returns what an operation changed.
    fn audited(&self, op: &Op, before: &Before, done: &Done) -> Option<Audited> {
        match (op, done) {
            (_, Done::CreateEndpoint(Ok(created))) if !created.replayed => {
                let endpoint = &created.endpoint;
                Some(of_endpoint(Action::EndpointCreate, endpoint).after(shown(endpoint)))
            }
            (Op::UpdateEndpoint(update), Done::UpdateEndpoint(Ok(endpoint))) => {
                let before = before.endpoint.as_deref()?;
                let mut more = Object::new();
                if update.change.discard_held && endpoint.active && !before.active {
                    more.insert("discardHeld".to_owned(), Value::Bool(true));
                }
                changed(Action::EndpointUpdate, before, endpoint, more)
            }
            (_, Done::DeleteEndpoint(Ok(_))) => {
                let endpoint = before.endpoint.as_deref()?;
                Some(of_endpoint(Action::EndpointDelete, endpoint).before(shown(endpoint)))
            }
            (Op::RotateSecret(rotate), Done::RotateSecret(Ok(endpoint))) => {
                let after =
                    json!({"secret": MASKED, "overlap": format!("{}ms", rotate.overlap_ms)});
                Some(of_endpoint(Action::EndpointRotateSecret, endpoint).after(object(after)))
            }
            (_, Done::Retry(Ok(d))) => Some(self.of_delivery(Action::DeliveryRetry, before, d)),
            (_, Done::Cancel(Ok(d))) => Some(self.of_delivery(Action::DeliveryCancel, before, d)),
            (Op::Replay(replay), Done::Replay(Ok(d))) => Some(self.replayed(replay, d)),
            (_, Done::Recover(Ok(recover))) => self.recovered(recover),
            (_, Done::BeginPurge(Ok(purge))) => Some(purged(purge)),
            (Op::DeleteOrganization(delete), Done::DeleteOrganization(Ok(deleted))) => {
                let organization = &delete.organization;
                let before = json!({"endpoints": deleted.endpoints, "apiKeys": deleted.api_keys});
                let what = Audited {
                    organization: Some(organization.clone()),
                    ..about(Action::OrganizationDelete, organization.clone())
                };
                Some(what.before(object(before)))
            }
            (_, Done::CreateApiKey(Ok(key))) => {
                Some(of_key(Action::KeyCreate, key).after(shown_key(key)))
            }
            (_, Done::RevokeApiKey(Ok(key))) if !before.was_revoked => {
                Some(of_key(Action::KeyRevoke, key).before(shown_key(key)))
            }
            (Op::RecordAudit(RecordAudit(what)), Done::RecordAudit(Ok(()))) => Some(what.clone()),
            _ => None,
        }
    }

    fn of_delivery(&self, action: Action, before: &Before, d: &Delivery) -> Audited {
        let status = before.status.map(Status::as_str);
        Audited {
            organization: self.endpoint(d.id.slot).map(|e| e.organization.clone()),
            ..about(action, d.id.to_string())
        }
        .before(object(json!({ "status": status })))
        .after(object(json!({ "status": d.status.as_str() })))
    }

    fn replayed(&self, replay: &Replay, d: &Delivery) -> Audited {
        let after = json!({
            "endpointId": replay.endpoint.to_string(),
            "deliveryId": d.id.to_string(),
        });
        Audited {
            organization: self.endpoint(d.id.slot).map(|e| e.organization.clone()),
            ..about(Action::EventReplay, replay.event.to_string())
        }
        .after(object(after))
    }

    fn recovered(&self, recover: &Recover) -> Option<Audited> {
        let endpoint = self.live_endpoint(recover.endpoint)?;
        let after = json!({
            "since": rfc3339(recover.since),
            "until": rfc3339(recover.until),
            "missed": recover.missed,
        });
        Some(of_endpoint(Action::EndpointRecover, &endpoint).after(object(after)))
    }
}

impl Audited {
    fn before(mut self, fields: Object) -> Self {
        self.before = Some(Value::Object(fields).to_string());
        self
    }

    fn after(mut self, fields: Object) -> Self {
        self.after = Some(Value::Object(fields).to_string());
        self
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(fields) => fields,
        _ => Object::new(),
    }
}

fn about(action: Action, target: String) -> Audited {
    Audited {
        target: Some(target),
        ..Audited::of(action)
    }
}

fn purged(purge: &Purge) -> Audited {
    let after = match &purge.scope {
        PurgeScope::Before(until) => json!({"before": rfc3339(until.accepted_at())}),
        PurgeScope::Events(events) => {
            let ids: Vec<String> = events.iter().map(ToString::to_string).collect();
            json!({"eventIds": ids})
        }
    };
    Audited {
        organization: Some(purge.organization.clone()),
        ..Audited::of(Action::EventPurge)
    }
    .after(object(after))
}

fn of_endpoint(action: Action, endpoint: &Endpoint) -> Audited {
    Audited {
        organization: Some(endpoint.organization.clone()),
        ..about(action, endpoint.id.to_string())
    }
}

fn of_key(action: Action, key: &ApiKey) -> Audited {
    Audited {
        organization: key.organization.clone(),
        ..about(action, key.id.to_string())
    }
}

fn shown_key(key: &ApiKey) -> Object {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    object(json!({
        "name": key.name,
        "scopes": scopes,
        "expiresAt": key.expires_at.map(rfc3339),
    }))
}

/// One setting: its name in the API, as it is shown, and as it is compared.
type Field = (&'static str, Value, Value);

/// Returns all settings of an endpoint.
fn fields(endpoint: &Endpoint) -> Vec<Field> {
    // All of them by name: a new setting does not compile until it is here.
    let Settings {
        url,
        event_types,
        active,
        disabled_reason,
        description,
        headers,
        rate_limit_per_second,
        ordering,
        tls,
    } = &endpoint.settings;
    let patterns: Vec<String> = event_types.iter().map(ToString::to_string).collect();
    let masked: Object = headers
        .0
        .keys()
        .map(|name| (name.clone(), Value::from(MASKED)))
        .collect();
    let plain = |name, value: Value| (name, value.clone(), value);
    vec![
        plain("url", json!(url)),
        plain("eventTypes", json!(patterns)),
        plain("active", json!(active)),
        plain("disabledReason", json!(disabled_reason)),
        plain("description", json!(description)),
        ("headers", Value::Object(masked), json!(headers.0)),
        plain("rateLimitPerSecond", json!(rate_limit_per_second)),
        plain("ordering", json!(ordering.as_str())),
        plain("tls", tls.as_deref().map_or(Value::Null, certificates)),
        plain("ed25519", json!(endpoint.signs_with_ed25519())),
    ]
}

/// Names certificates by their SHA-256 digests. The key is the only one that fits its certificate.
fn certificates(tls: &EndpointTls) -> Value {
    let digest = |certificate: &Certificate| hex(&Sha256::digest(certificate));
    let client = tls.client().and_then(|client| client.chain.first());
    let trusted: Vec<String> = tls.trusted().iter().map(digest).collect();
    json!({
        "clientCertificate": client.map(digest),
        "clientKey": client.map(|_| MASKED),
        "caCertificate": trusted,
    })
}

/// Returns the settings of an endpoint as they are shown.
fn shown(endpoint: &Endpoint) -> Object {
    let fields = fields(endpoint).into_iter();
    fields
        .map(|(name, shown, _)| (name.to_owned(), shown))
        .collect()
}

/// Returns the settings that differ, if any do or there is more to say.
fn changed(action: Action, before: &Endpoint, after: &Endpoint, more: Object) -> Option<Audited> {
    let (mut was, mut is) = (Object::new(), more);
    for ((name, shown_before, before), (_, shown_after, after)) in
        fields(before).into_iter().zip(fields(after))
    {
        if before != after {
            was.insert(name.to_owned(), shown_before);
            is.insert(name.to_owned(), shown_after);
        }
    }
    let differs = !was.is_empty() || !is.is_empty();
    differs.then(|| of_endpoint(action, after).before(was).after(is))
}
