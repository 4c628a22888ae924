//! Operations on the daemon's own access: replacing the admin token.

use super::access::Caller;
use super::fields::query;
use super::problem::{Code, Problem, not_done};
use super::{Answer, NoFields, Shared};
use crate::token::TokenError;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, Uri};
use serde::Serialize;
use stormhook_store::{Action, Audited, RecordAudit};
use utoipa::ToSchema;

/// A replaced token.
#[derive(Serialize, ToSchema)]
#[schema(as = RotatedToken, examples(json!({"path": "/var/lib/stormhook/admin-token"})))]
pub(super) struct RotatedTokenView {
    /// The file with the new token, on the machine of the daemon that answered.
    path: String,
}

/// Replaces the admin token.
///
/// From the response on, the old token is refused and the file in the data directory holds the new one, which no
/// response contains. Daemons on one database share a token: the others refuse the old one as soon as they look at the
/// database again, within a second or two, and the daemon that answered has the file. Needs the admin token or the
/// socket.
#[utoipa::path(post, path = "/v1/token/rotate", tag = "operations", operation_id = "rotateToken", request_body = Option<NoFields>,
    responses((status = 200, description = "Where the new token is.", body = RotatedTokenView)))]
pub(super) async fn rotate_token(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    NoFields::read(&headers, body).await?;
    let token = app.token().ok_or_else(|| {
        Problem::new(
            Code::NotSupported,
            "This daemon doesn't listen on TCP (listen), so it has no token to replace.",
        )
    })?;
    // Durable before the token is another.
    let rotated = RecordAudit(Audited::of(Action::TokenRotate));
    let rotated = caller.attributed(rotated);
    let recorded = app.engine.submit(rotated).await;
    recorded.map_err(|error| not_done(error, "token"))?;
    let path = token
        .replace()
        .await
        .map_err(|error| not_replaced(&error))?;
    tracing::info!(path = %path.display(), "the admin token was replaced");
    let path = path.display().to_string();
    Ok(Json(RotatedTokenView { path }).into_response())
}

fn not_replaced(error: &TokenError) -> Problem {
    tracing::error!(%error, "the admin token could not be replaced");
    let detail = match error {
        TokenError::File { .. } => {
            "The new token could not be written to the data directory, so the old one may still be in use. See the daemon's log, then rotate it again."
        }
        TokenError::Store(_) => {
            "The database did not confirm the new token, so it is not known which one is in use. Rotate it again, over the socket if the old one is refused."
        }
    };
    Problem::new(Code::StoreFailed, detail)
}
