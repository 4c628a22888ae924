//! Fuzz targets for callers' input: bodies, lines of a batch, queries.

use super::fields::{self, Members, Verbatim};
use super::ingest;
use super::lines::LineReader;
use super::lists::{Accepted, Paging};
use super::nesting::nested_deeper_than;
use http::Uri;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use stormhook_engine::payload;
use stormhook_store::{Event, EventId, List, Timestamp};

/// A body of `POST /v1/events`. An accepted event reaches a receiver as JSON with the same bytes.
pub(crate) fn event(bytes: &[u8]) {
    let Ok(new) = ingest::parse(bytes, None) else {
        return;
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let data = String::from_utf8(new.data.clone()).unwrap_or_default();
    assert!(text.contains(&data), "data was rewritten");
    let stored = Event {
        id: EventId(7),
        organization: new.organization,
        event_type: new.event_type,
        timestamp: new.timestamp.map_or(Timestamp(0), |given| given.at),
        timestamp_text: None,
        idempotency_key: new.idempotency_key,
        deliveries: 1,
        data: Some(new.data),
    };
    let body = payload::render(&stored, 42).unwrap_or_default();
    let members: BTreeMap<&str, &RawValue> = match serde_json::from_slice(&body) {
        Ok(members) => members,
        Err(e) => return assert!(e.to_string().is_empty(), "the body is not JSON: {e}"),
    };
    assert_eq!(members.len(), 6);
    assert_eq!(
        members.get("data").map(|data| data.get()),
        Some(data.as_str())
    );
}

/// An object with some members, read in every way that a field can be.
pub(crate) fn object(bytes: &[u8]) {
    #[derive(Deserialize)]
    struct Asked<'a> {
        #[serde(borrow)]
        a: Cow<'a, str>,
        b: Option<Option<f64>>,
        #[serde(borrow)]
        data: Option<Verbatim<'a>>,
    }
    let Ok(members) = Members::of::<Asked<'_>>(bytes) else {
        return;
    };
    let written: Vec<_> = members.values().collect();
    if let Ok(asked) = members.read::<Asked<'_>>() {
        let a = written.first().copied().flatten().unwrap_or_default();
        assert_eq!(
            serde_json::from_str::<String>(a).ok().as_deref(),
            Some(&*asked.a)
        );
        let b = written.get(1).copied().flatten();
        let number = b.map(|json| serde_json::from_str::<Option<f64>>(json).ok().flatten());
        assert_eq!(asked.b, number);
        let data = asked.data.map(|Verbatim(bytes)| bytes);
        assert_eq!(data, written.get(2).copied().flatten().map(str::as_bytes));
    }
    for json in written.into_iter().flatten() {
        let depth = deepest(json);
        let is_deeper = |most| nested_deeper_than(json.as_bytes(), most);
        assert!(
            depth == 0 || is_deeper(depth - 1),
            "{depth} levels are not seen"
        );
        assert!(!is_deeper(depth), "there are only {depth} levels");
    }
}

/// Counts levels in another way than `nested_deeper_than`: text in quotation marks is removed first.
fn deepest(json: &str) -> usize {
    let plain = json.replace("\\\\", "").replace("\\\"", "");
    let outside: String = plain.split('"').step_by(2).collect();
    let mut depth = 0_usize;
    let levels = outside.chars().map(|c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth
    });
    levels.max().unwrap_or(0)
}

/// An NDJSON stream. The first byte bounds a line; the second sets the size of the pieces, which must not matter.
pub(crate) fn lines(bytes: &[u8]) {
    let [most, piece, stream @ ..] = bytes else {
        return;
    };
    let most = usize::from(*most);
    let mut lines = LineReader::default();
    let mut found = Vec::new();
    for piece in stream.chunks(usize::from(*piece).max(1)) {
        lines.buffer.extend_from_slice(piece);
        while let Some((number, line)) = lines.next(most, false) {
            found.push((number, line.ok()));
        }
        assert!(
            lines.buffer.len() <= most + 1 + piece.len(),
            "a line is kept without bound"
        );
    }
    while let Some((number, line)) = lines.next(most, true) {
        found.push((number, line.ok()));
    }
    let whole = stream.strip_suffix(b"\n").unwrap_or(stream);
    let mut expected = Vec::new();
    for (line, number) in whole.split(|byte| *byte == b'\n').zip(1_u64..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > most {
            expected.push((number, None));
        } else if !line.iter().all(u8::is_ascii_whitespace) {
            expected.push((number, Some(line)));
        }
    }
    let found: Vec<_> = found
        .iter()
        .map(|(n, line)| (*n, line.as_deref()))
        .collect();
    assert_eq!(found, expected);
}

/// The query of a list.
pub(crate) fn query(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from([b"/?", bytes].concat()) else {
        return;
    };
    let Ok((accepted, paging)) = fields::query::<(Accepted, Paging)>(&uri) else {
        return;
    };
    assert!((1..=250).contains(&paging.limit()));
    for list in [
        List::Events,
        List::Deliveries,
        List::OfEndpoint,
        List::Endpoints,
    ] {
        if let Ok(Some(cursor)) = paging.cursor(list, "") {
            assert_eq!(cursor.list, list);
        }
    }
    if let Ok((Some(since), Some(until))) = accepted.span() {
        assert!(since <= until);
    }
}
