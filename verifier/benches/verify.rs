//! What verifying costs beside the hash that it can't do without, and whether its time tells how much of a signature was right.
//!
//! ```sh
//! cargo bench -p stormhook-verifier --features ed25519
//! ```
//!
//! Without link-time optimization, as receivers are built unless they ask for it. `CARGO_PROFILE_BENCH_LTO=fat` before it tells what that
//! is worth: a tenth of the time at 256 bytes, nothing from 16 KiB on.
//!
//! Both sides of a ratio take turns in short rounds and the fastest round of each counts, so that what else the machine does falls out.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a bench prints, and stops where its own fixture is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use stormhook_verifier::{Secret, SigningKeys, StandardVerifier, StormcomVerifier};

const SECRET: &str = "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=";
const KEY: &[u8] = b"stormhook-example-secret-32bytes";
const NOW_S: u64 = 1_750_000_000;
const ROUND: Duration = Duration::from_millis(2);
const ROUNDS: usize = 300;

type Headers = [(&'static str, String); 5];

fn keys() -> SigningKeys {
    SigningKeys::new([&Secret::parse(SECRET).expect("a secret")])
}

fn headers(signature: String) -> Headers {
    [
        ("content-type", "application/json".to_owned()),
        ("user-agent", "stormhook/0.1.0".to_owned()),
        ("webhook-id", "evt_01JXS7V2F3Q8Z5N4M6K7P9R0TA".to_owned()),
        ("webhook-timestamp", NOW_S.to_string()),
        ("webhook-signature", signature),
    ]
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn now() -> Instant {
    Instant::now()
}

fn timed(count: u32, work: &dyn Fn()) -> Duration {
    let start = now();
    for _ in 0..count {
        work();
    }
    start.elapsed()
}

/// Nanoseconds of one call of each, by turns.
fn fastest<const N: usize>(works: [&dyn Fn(); N]) -> [f64; N] {
    let once = works.map(|work| timed(20, work) / 20);
    let counts = once.map(|it| (ROUND.as_nanos() / it.as_nanos().max(1)).clamp(1, 100_000) as u32);
    let mut best = [f64::MAX; N];
    for _ in 0..ROUNDS {
        for ((work, count), best) in works.iter().zip(counts).zip(&mut best) {
            let ns = timed(count, *work).as_secs_f64() * 1e9 / f64::from(count);
            *best = best.min(ns);
        }
    }
    best
}

/// The same HMAC and comparison with nothing around it: what no verifier can do without.
fn bare(key: &Hmac<Sha256>, head: &[u8], body: &[u8], tag: &[u8; 32]) -> bool {
    let mut mac = key.clone();
    mac.update(head);
    mac.update(body);
    mac.verify_slice(tag).is_ok()
}

fn ratios() {
    let verifier = StandardVerifier::new(SECRET).expect("a secret");
    let key = Hmac::<Sha256>::new_from_slice(KEY).expect("any length");
    let [_, _, (_, id), (_, timestamp), _] = &headers(String::new());
    let head = format!("{id}.{timestamp}.");
    println!("     body      verify        bare    ratio  a second");
    for bytes in [256, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let body = vec![b'x'; bytes];
        let signature = keys().standard_signature(id, NOW_S, &body);
        let headers = headers(signature.expect("signed"));
        let mut mac = key.clone();
        mac.update(head.as_bytes());
        mac.update(&body);
        let tag: [u8; 32] = mac.finalize().into_bytes().into();
        let verify = || {
            let outcome = verifier.verify_at(&headers, black_box(&body), NOW_S);
            assert!(outcome.is_ok());
        };
        let hash = || assert!(bare(&key, head.as_bytes(), black_box(&body), &tag));
        let [ours, least] = fastest([&verify, &hash]);
        let (ratio, rate) = (ours / least, 1e9 / ours);
        println!("{bytes:>9} {ours:>8.0} ns {least:>8.0} ns  {ratio:>6.3}  {rate:>8.0}");
    }
}

#[cfg(feature = "ed25519")]
fn ed25519() {
    use stormhook_verifier::PrivateKey;

    let key = PrivateKey::from_seed([7; 32]);
    let verifier = StandardVerifier::new(&key.public_key()).expect("a key");
    let [_, _, (_, id), _, _] = &headers(String::new());
    for bytes in [256, 64 << 10] {
        let body = vec![b'x'; bytes];
        let signature = SigningKeys::with_ed25519([], [&key]).standard_signature(id, NOW_S, &body);
        let headers = headers(signature.expect("signed"));
        let verify = || {
            let outcome = verifier.verify_at(&headers, black_box(&body), NOW_S);
            assert!(outcome.is_ok());
        };
        let [ns] = fastest([&verify]);
        println!("v1a, {bytes} bytes: {ns:.0} ns");
    }
}

/// Welch's t between two classes of times, each without its slowest tenth: those are the machine's.
fn welch(classes: [Vec<f64>; 2]) -> (f64, f64) {
    let [(mean_a, error_a), (mean_b, error_b)] = classes.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() / 10 * 9);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
        (mean, squares / (count - 1.0) / count)
    });
    let t = (mean_a - mean_b) / (error_a + error_b).sqrt();
    (t, (mean_a - mean_b) / mean_a)
}

/// Two signatures, wrong in the first and in the last character, in random order. Above 4.5 the times differ (dudect's bound).
fn timing(name: &str, check: impl Fn(&str), [first, last]: [String; 2]) {
    let mut classes = [Vec::new(), Vec::new()];
    let mut received = first.clone();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let is_last = state & 1 == 1;
        // Both from the same place, since two places differ in how fast they are read.
        received.clear();
        received.push_str(if is_last { &last } else { &first });
        let time = timed(4, &|| check(black_box(received.as_str())));
        let [of_first, of_last] = &mut classes;
        let class = if is_last { of_last } else { of_first };
        class.push(time.as_secs_f64() * 1e9);
    }
    let (t, share) = welch(classes);
    let percent = share * 100.0;
    println!("{name}, first against last character wrong: t = {t:.2}, {percent:.3} % apart");
}

/// The text with another character at this place, of the same alphabet.
fn bent(text: &str, at: usize) -> String {
    let (before, rest) = text.split_at(at);
    let (found, after) = rest.split_at(1);
    let other = if found == "A" || found == "a" {
        found.replace(['A', 'a'], "0")
    } else {
        "A".to_owned()
    };
    [before, &other, after].concat()
}

fn timings() {
    let body = [b'x'; 64];
    let verifier = StandardVerifier::new(SECRET).expect("a secret");
    let [_, _, (_, id), _, _] = &headers(String::new());
    let right = keys().standard_signature(id, NOW_S, &body).expect("signed");
    let check = |signature: &str| {
        let headers = [
            ("webhook-id", &**id),
            ("webhook-timestamp", "1750000000"),
            ("webhook-signature", signature),
        ];
        let outcome = verifier.verify_at(&headers, &body, NOW_S);
        assert_eq!(outcome.err().map(|error| error.code()), Some("no_match"));
    };
    // The last character but the padding stands for four bits only; the one before it is any.
    timing(
        "webhook-signature",
        check,
        [bent(&right, 3), bent(&right, 44)],
    );

    let verifier = StormcomVerifier::new(SECRET).expect("a secret");
    let right = keys().stormcom_signature(&body);
    let check = |signature: &str| {
        let headers = [("x-stormcom-signature", signature)];
        let outcome = verifier.verify(&headers, &body);
        assert_eq!(outcome.map_err(|error| error.code()), Err("no_match"));
    };
    let ends = [7, 70].map(|at| bent(&right, at).to_lowercase());
    timing("x-stormcom-signature", check, ends);
}

fn main() {
    // `cargo test --benches` runs this too: then it only has to build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    ratios();
    #[cfg(feature = "ed25519")]
    ed25519();
    timings();
}
