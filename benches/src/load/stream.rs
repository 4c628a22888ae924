//! All events of a load as one NDJSON stream. The answers are read while it is written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Frame};

use super::Plan;
use super::tally::Tally;
use crate::error::{BenchError, Doing, Result};
use crate::wire::{self, Target};

/// Lines of a batch that are sent in one piece: about 64 KiB.
const CHUNK_LINES: usize = 64;

/// A request body that repeats prebuilt chunks as fast as the other side reads them.
struct Chunks {
    chunks: Arc<[Bytes]>,
    next: usize,
    left: usize,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let at = self.next % self.chunks.len().max(1);
        let chunk = self.chunks.get(at).cloned().unwrap_or_default();
        self.next += 1;
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

fn chunks(bodies: &[Bytes]) -> Arc<[Bytes]> {
    bodies
        .chunks(CHUNK_LINES)
        .map(|lines| {
            let mut chunk = Vec::new();
            for line in lines {
                chunk.extend_from_slice(line);
                chunk.push(b'\n');
            }
            Bytes::from(chunk)
        })
        .collect()
}

/// Sends one NDJSON stream, and reads its answers while it is written.
pub(super) async fn stream(plan: &Plan, target: &Target) -> Result<Tally> {
    let mut sender = wire::connect::<Chunks>(target).await?;
    let left = plan.events.div_ceil(CHUNK_LINES);
    let body = Chunks {
        chunks: chunks(&plan.bodies),
        next: 0,
        left,
    };
    let request = plan.request(body, "application/x-ndjson");
    let response = sender
        .send_request(request)
        .await
        .doing("opening the stream")?;
    let code = response.status();
    if code != StatusCode::OK {
        let answer = response
            .into_body()
            .collect()
            .await
            .doing("reading the answer")?
            .to_bytes();
        let text = String::from_utf8_lossy(&answer);
        return Err(BenchError::wrong(format!(
            "batch: expected 200, got {code}: {text}"
        )));
    }
    let mut tally = Tally::new()?;
    let mut body = response.into_body();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.doing("reading the stream's answers")?.into_data() else {
            continue;
        };
        rest.extend_from_slice(&data);
        let end = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let whole = rest.get(..end).unwrap_or_default();
        for line in whole
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            tally.accept(line)?;
        }
        rest.drain(..end);
    }
    if !rest.is_empty() {
        tally.accept(&rest)?;
    }
    let sent = left * CHUNK_LINES;
    if tally.accepted != sent as u64 {
        let accepted = tally.accepted;
        return Err(BenchError::wrong(format!(
            "batch: {sent} lines, {accepted} accepted"
        )));
    }
    Ok(tally)
}
