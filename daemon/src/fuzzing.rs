//! Fuzz targets of the daemon: bytes in, and a panic if they are handled wrongly. Only part of the builds of tests and
//! of `fuzz/`.

use crate::config::{Config, Retry};
use crate::deliver::{Client, Settings, Target};
use crate::headers::CustomHeaders;
use crate::http::fuzzing as http;
use crate::target::{TargetPolicy, TargetUrl};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;
use stormhook_engine::outcome::{self, Effect, Reply};
use stormhook_engine::retry::{self, FailedAttempt, Next};
use stormhook_engine::times;
use stormhook_engine::transport::{AttemptRequest, Attempted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The name of a target and of its seeds, and its function.
pub type Named = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Named; 9] = [
    ("event", http::event),
    ("object", http::object),
    ("lines", http::lines),
    ("query", http::query),
    ("config", config),
    ("retry_after", retry_after),
    ("target", target),
    ("custom_headers", custom_headers),
    ("answer", answer),
];

/// A configuration file and, after a NUL, variables, one `NAME=value` per line. The effective configuration can be
/// written and read again.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    // The system ends a variable with NUL, so none contains it.
    if variables.contains('\0') {
        return;
    }
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let home = ("HOME".into(), "/home".into());
    let path = Path::new("stormhook.toml");
    let read = Config::from_sources(Some((path, file)), variables.chain([home]), &[]);
    let config = match read {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let shown: Vec<_> = config
        .describe()
        .into_iter()
        .map(|(key, value, _)| (key, value))
        .collect();
    let written: String = shown
        .iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect();
    let again = match Config::from_sources(Some((path, &written)), [], &[]) {
        Ok(again) => again,
        Err(error) => return assert!(error.to_string().is_empty(), "{written}: {error}"),
    };
    let shown_again = again
        .describe()
        .into_iter()
        .map(|(key, value, _)| (key, value));
    assert_eq!(shown_again.collect::<Vec<_>>(), shown);
}

/// A `Retry-After` header, and the other times in text form.
pub fn retry_after(bytes: &[u8]) {
    const NOW_MS: u64 = 1_767_323_045_000;
    let policy = Retry {
        schedule: vec![Duration::from_secs(60)],
        jitter: 0.1,
    };
    let failed = FailedAttempt {
        attempt: 1,
        ended_ms: NOW_MS,
        retry_after: Some(bytes),
    };
    let next = retry::next(&policy, failed, 0.5);
    let in_time = |at_ms: u64| (60_000..=86_400_000).contains(&(at_ms - NOW_MS));
    assert!(
        matches!(next, Next::At(at_ms) if in_time(at_ms)),
        "{next:?}"
    );
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = times::parse_duration(text);
        if let Some(at) = times::parse_timestamp(text) {
            let said = times::rfc3339(at);
            assert_eq!(
                times::parse_timestamp(&said),
                Some(at),
                "{text:?} formats as {said}"
            );
        }
    }
}

/// The URL of an endpoint, and an address that its name may resolve to.
pub fn target(bytes: &[u8]) {
    let policies = [
        TargetPolicy::default(),
        TargetPolicy {
            allow_http: true,
            ..TargetPolicy::default()
        },
    ];
    for policy in &policies {
        if let Some(octets) = bytes.first_chunk::<16>() {
            judge(policy, Ipv6Addr::from(*octets).into());
        }
        let Some(url) = std::str::from_utf8(bytes)
            .ok()
            .and_then(|raw| TargetUrl::parse(raw, policy).ok())
        else {
            continue;
        };
        assert_eq!(
            TargetUrl::parse(url.as_str(), policy).as_ref(),
            Ok(&url),
            "its normal form is another URL"
        );
        assert!(url.is_https() || policy.allow_http);
        assert!(url.port() != 0 && !url.as_str().contains(['\r', '\n', ' ']));
        if let Some(address) = url.address() {
            assert!(is_public(address), "{address} passed");
        }
        let _ = Target::new(url.as_str(), policy);
    }
}

fn judge(policy: &TargetPolicy, address: IpAddr) {
    let url = TargetUrl::parse("https://partner.example/", policy);
    if url.is_ok_and(|url| policy.judge_address(&url, address).is_ok()) {
        assert!(is_public(address), "{address} passed");
    }
}

/// Whether the standard library considers an address public. It knows fewer networks than the guard.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local())
        }
    }
}

/// An endpoint's own headers, one `name: value` per line: accepted ones can be sent as they are, and override none of
/// the daemon's.
pub fn custom_headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text
        .split('\n')
        .map(|line| line.split_once(':').unwrap_or((line, "")));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let Ok(headers) = CustomHeaders::parse(pairs, "x-stormcom-signature") else {
        return;
    };
    for (name, value) in headers.iter() {
        assert!(HeaderName::from_bytes(name.as_bytes()).is_ok(), "{name:?}");
        assert!(HeaderValue::from_str(value).is_ok(), "{value:?}");
        let ours = [
            "host",
            "content-length",
            "webhook-id",
            "x-stormcom-signature",
            "transfer-encoding",
        ];
        assert!(
            !ours.contains(&name.to_ascii_lowercase().as_str()),
            "{name}"
        );
    }
}

const RESPONSE_BYTES: usize = 4_096;
const EXCERPT_BYTES: usize = 64;

/// A receiver's response, through the real client and a real connection on this machine.
pub fn answer(bytes: &[u8]) {
    std::thread_local! {
        static BED: Option<(Runtime, Client, TcpListener, Target)> = bed();
    }
    BED.with(|bed| {
        let (runtime, client, listener, target) = bed.as_ref()?;
        let request = AttemptRequest {
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"{}"),
            excerpt_bytes: EXCERPT_BYTES,
            still_wanted: &|| true,
        };
        let attempt =
            async { tokio::join!(client.attempt(target, request), partner(listener, bytes)).0 };
        match runtime.block_on(attempt) {
            Attempted::Reply { reply, .. } => judge_reply(reply),
            Attempted::NotSent => assert!(bytes.is_empty(), "it was wanted"),
        }
        Some(())
    });
}

fn bed() -> Option<(Runtime, Client, TcpListener, Target)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).ok()?;
    let config = "data_dir = '/none'\n[target]\nallow_http = true\n";
    let config = Config::from_sources(Some((Path::new("fuzz"), config)), [], &[]).ok()?;
    let mut settings = Settings::from_config(&config, None);
    settings.pool_idle = Duration::ZERO;
    settings.response_bytes = RESPONSE_BYTES;
    let url = format!("http://{}/hooks", listener.local_addr().ok()?);
    let target = Target::new(&url, &settings.policy).ok()?;
    let client = Client::new(&settings).ok()?;
    Some((runtime, client, listener, target))
}

/// Accepts one request, answers with these bytes, and sends nothing more.
async fn partner(listener: &TcpListener, bytes: &[u8]) -> Option<()> {
    let (mut stream, _) = listener.accept().await.ok()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    stream.write_all(bytes).await.ok()?;
    stream.shutdown().await.ok()?;
    // The client may not read all of it: wait until it closes, so that a reset cuts off nothing it reads.
    while stream.read(&mut [0; 512]).await.ok()? > 0 {}
    Some(())
}

fn judge_reply(reply: Reply) {
    match &reply {
        Reply::Status { code, excerpt, .. } => {
            // 101 ends HTTP on the connection (RFC 9110, section 15.2.2): nobody asked for it, so it is a failure.
            let last = *code == 101 || (200..1_000).contains(code);
            assert!(last, "{code} is not a final status");
            assert!(excerpt.len() <= EXCERPT_BYTES);
        }
        Reply::Failed(_, why) | Reply::OurTrouble(why) => {
            assert!(
                !why.is_empty() && why.len() < 1_024,
                "{} bytes of reason",
                why.len()
            );
        }
    }
    let success = matches!(
        reply,
        Reply::Status {
            code: 200..=299,
            ..
        }
    );
    let lacked = matches!(reply, Reply::OurTrouble(_));
    let Ok(verdict) = outcome::judge(reply) else {
        assert!(lacked, "what came back was not judged");
        return;
    };
    assert_eq!(verdict.effect == Effect::Delivered, success);
    assert!(!success || verdict.excerpt.is_empty());
    if let Some(value) = &verdict.retry_after {
        retry_after(value);
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    // A response needs a connection: fewer of those.
    stormhook_testkit::smoke! {
        TARGETS; event: 10_000, object: 10_000, lines: 10_000, query: 10_000, config: 2_000, retry_after: 10_000, target: 10_000,
        custom_headers: 10_000, answer: 1_000
    }
}
