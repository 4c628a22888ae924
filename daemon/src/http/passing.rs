//! Other daemons on the same database: every daemon takes every call, and passes it on to the one that decides about its
//! organization. A passed call is never passed again.

pub(super) mod lines;
mod subject;

use super::access::Caller;
use super::ask;
use super::problem::Problem;
use crate::app::App;
use crate::peers::{PASSED, PeerError, Peers};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use std::time::Duration;
use stormhook_engine::schedule::Gauges;
use stormhook_postgres::Holder;
use stormhook_postgres::cluster::{Member, Seat};
use subject::Subject;

/// How long another daemon may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(35);
/// How long a call waits before it looks again for the daemon that decides about its organization, and how often.
const UNHELD: Duration = Duration::from_millis(250);
const TRIES: usize = 8;

/// The headers of a call that are passed on.
const KEPT: [HeaderName; 5] = [
    http::header::CONTENT_TYPE,
    http::header::ACCEPT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
    super::access::REASON,
];

/// How long other daemons may take to tell their gauges, and how much they may say.
const GAUGES: Duration = Duration::from_millis(500);
const GAUGES_BYTES: usize = 64 << 10;

/// The gauges in another daemon's stats.
#[derive(Deserialize)]
struct GaugesOf {
    #[serde(rename = "queue.pending")]
    pending: usize,
    #[serde(rename = "queue.retrying")]
    retrying: usize,
    #[serde(rename = "queue.held")]
    held: usize,
    #[serde(rename = "queue.in_flight")]
    in_flight: usize,
    #[serde(rename = "queue.overdue.ms")]
    overdue_ms: u64,
}

/// Whether a call was passed on.
pub(super) enum Passed {
    /// The answer of another daemon.
    On(Response),
    /// It is to be answered here; with the organization that it is about.
    Not(Option<String>),
}

impl Peers {
    /// Whether this daemon decides about the organization. Waits if it is being read.
    pub(super) async fn comes_to_hold(&self, organization: &str) -> bool {
        for _ in 0..TRIES {
            if self.holds(organization) {
                return true;
            }
            self.look().await;
            if !self.cluster.is_coming(organization) {
                break;
            }
            tokio::time::sleep(UNHELD).await;
        }
        self.holds(organization)
    }

    /// Returns who decides about the organization of a line. Waits for one look, not longer: other lines wait behind it.
    pub(super) async fn holder(&self, organization: &str) -> Holder {
        match self.cluster.holder(organization) {
            Holder::Nobody if !self.cluster.is_cut_off() => {}
            known => return known,
        }
        tokio::time::sleep(UNHELD).await;
        self.look().await;
        self.cluster.holder(organization)
    }

    /// Returns these gauges with those of all other daemons; `None` if one of them doesn't say.
    pub(super) async fn gauges(&self, own: Gauges) -> Option<Gauges> {
        let asked = self.others().into_iter().map(|(seat, member)| async move {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = uri("/v1/stats?window=5m");
            let answer = self.connections.pass(seat, &member, request).await.ok()?;
            let body = Limited::new(answer.into_body(), GAUGES_BYTES);
            let body = body.collect().await.ok()?.to_bytes();
            serde_json::from_slice::<GaugesOf>(&body).ok()
        });
        let asked = futures_util::future::join_all(asked);
        let told = tokio::time::timeout(GAUGES, asked).await.ok()?;
        let sum = |mut sum: Gauges, told: Option<GaugesOf>| {
            let told = told?;
            sum.pending += told.pending;
            sum.retrying += told.retrying;
            sum.held += told.held;
            sum.in_flight += told.in_flight;
            sum.overdue_ms = sum.overdue_ms.max(told.overdue_ms);
            Some(sum)
        };
        told.into_iter().try_fold(own, sum)
    }

    /// Passes a call on that another daemon decides about.
    pub(super) async fn answer(
        &self,
        app: &App,
        head: &Parts,
        body: &Bytes,
    ) -> Result<Passed, Problem> {
        let subject = subject::of(&head.method, head.uri.path(), head.uri.query(), body);
        let bound = || {
            head.extensions
                .get::<Caller>()?
                .principal
                .organization
                .clone()
        };
        let subject = match subject {
            // What is about nothing in particular is about the caller's organization.
            Subject::Any => bound().map_or(Subject::Any, Subject::Organization),
            named => named,
        };
        let Some(organization) = self.organization(app, subject).await? else {
            return Ok(Passed::Not(None));
        };
        if head.headers.contains_key(PASSED) {
            return Ok(if self.comes_to_hold(&organization).await {
                Passed::Not(Some(organization))
            } else {
                Passed::On(misdirected())
            });
        }
        for _ in 0..TRIES {
            match self.cluster.holder(&organization) {
                Holder::Here => return Ok(Passed::Not(Some(organization))),
                Holder::Peer(seat, member) => {
                    let answer = self.pass(seat, &member, head, body.clone()).await?;
                    if answer.status() != StatusCode::MISDIRECTED_REQUEST {
                        return Ok(Passed::On(answer));
                    }
                }
                Holder::Nobody if self.cluster.is_cut_off() => break,
                Holder::Nobody => {}
            }
            tokio::time::sleep(UNHELD).await;
            self.look().await;
        }
        Err(Problem::unheld())
    }

    /// Returns the organization of a call; `None` if any daemon can answer it.
    async fn organization(&self, app: &App, subject: Subject) -> Result<Option<String>, Problem> {
        match subject {
            Subject::Any => Ok(None),
            Subject::Organization(organization) => Ok(Some(organization)),
            Subject::Named(named) => ask(app, app.reader().organization_of(named)).await,
        }
    }

    /// Passes a call on.
    async fn pass(
        &self,
        seat: Seat,
        member: &Member,
        head: &Parts,
        body: Bytes,
    ) -> Result<Response, Problem> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(head.method.clone())
            .uri(uri(path))
            .body(Body::from(body))
            .map_err(|_| Problem::unheld())?;
        for name in KEPT {
            for value in head.headers.get_all(&name) {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        if let Some(caller) = head.extensions.get::<Caller>() {
            caller.pass(request.headers_mut());
        }
        let passing = tokio::time::timeout(ANSWER, self.connections.pass(seat, member, request));
        match passing.await {
            Ok(Ok(answer)) => Ok(answer.map(Body::new)),
            Ok(Err(error @ PeerError::Unreachable(_))) => {
                tracing::debug!(seat, %error, "a call could not be passed on");
                Err(Problem::unheld())
            }
            Ok(Err(error)) => {
                tracing::warn!(seat, %error, "another daemon gave no answer to a call");
                Err(Problem::unanswered())
            }
            Err(_) => Err(Problem::unanswered()),
        }
    }
}

/// Returns the target of a call to another daemon.
pub(super) fn uri(path: &str) -> Uri {
    let whole = format!("https://stormhook{path}");
    Uri::try_from(whole).unwrap_or(Uri::from_static("https://stormhook/"))
}

/// The answer to a daemon that took this one for the owner.
fn misdirected() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    response
}
