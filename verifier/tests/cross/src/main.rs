//! Our half of the comparison: signs random bodies, verifies what others signed, and does both against the crate `standardwebhooks`,
//! which takes text alone, as its siblings do. What it exchanges with other languages is JSON on stdin and stdout.
//!
//! `make` prints signed cases. `check` reads cases that a peer signed.

use std::error::Error;
use std::io::Read as _;

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};
use stormhook_verifier::{Secret, SigningKeys, StandardVerifier, Tolerance};

const CASES: u64 = 400;

#[derive(Serialize, Deserialize)]
struct Case {
    id: String,
    timestamp: u64,
    /// With or without `whsec_`.
    secret: String,
    body_base64: String,
    is_utf8: bool,
    signature: String,
}

/// Marsaglia's xorshift, so that a failure is replayed by its seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    /// Empty, NUL, JSON, any text, any bytes; a few of them large.
    fn body(&mut self) -> Vec<u8> {
        let count = match self.next() % 10 {
            0 => 100_000,
            _ => self.next() % 300,
        };
        match self.next() % 6 {
            0 => Vec::new(),
            1 => vec![0; 1 + usize::from(self.bytes(1)[0])],
            2 => format!(r#"{{"type":"order.paid","data":{{"id":{count}}}}}"#).into_bytes(),
            3 => format!("\u{feff}caf\u{e9} \u{1f600}\r\n{count}\0\u{2028}").into_bytes(),
            4 => String::from_utf8_lossy(&self.bytes(count))
                .into_owned()
                .into_bytes(),
            _ => self.bytes(count),
        }
    }
}

fn make(seed: u64) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut draw = Draw(seed);
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let mut cases = Vec::new();
    for number in 0..CASES {
        let key_bytes = 24 + draw.next() % 41;
        let text = format!("whsec_{}", Base64::encode_string(&draw.bytes(key_bytes)));
        let body = draw.body();
        let id = format!("evt_{}", draw.next());
        let timestamp = now_s - draw.next() % 60;
        let keys = SigningKeys::new([&Secret::parse(&text)?]);
        let signature = keys
            .standard_signature(&id, timestamp, &body)
            .ok_or("unsigned")?;
        let bare = text.trim_start_matches("whsec_").to_owned();
        cases.push(Case {
            id,
            timestamp,
            secret: if number % 2 == 0 { text } else { bare },
            is_utf8: core::str::from_utf8(&body).is_ok(),
            body_base64: Base64::encode_string(&body),
            signature,
        });
    }
    Ok(cases)
}

/// Whether we take a case, and what differs from it by one bit we don't.
fn check(case: &Case) -> Result<(), Box<dyn Error>> {
    let body = Base64::decode_vec(&case.body_base64).map_err(|error| error.to_string())?;
    let verifier = StandardVerifier::new(&case.secret)?.tolerance(Tolerance::Unchecked);
    let timestamp = case.timestamp.to_string();
    let headers = [
        ("webhook-id", &*case.id),
        ("webhook-timestamp", &*timestamp),
        ("webhook-signature", &*case.signature),
    ];
    let verified = verifier.verify_at(&headers, &body, 0)?;
    assert_eq!(verified.id, case.id);
    let changed = [&body[..], b" "].concat();
    match verifier.verify_at(&headers, &changed, 0) {
        Ok(_) => Err("another body was accepted".into()),
        Err(_) => Ok(()),
    }
}

/// The crate `standardwebhooks`, both ways.
fn check_crate(case: &Case) -> Result<(), Box<dyn Error>> {
    let body = Base64::decode_vec(&case.body_base64).map_err(|error| error.to_string())?;
    let peer = standardwebhooks::Webhook::new(&case.secret)?;
    let mut headers = http::HeaderMap::new();
    headers.insert("webhook-id", case.id.parse()?);
    headers.insert("webhook-timestamp", case.timestamp.into());
    headers.insert("webhook-signature", case.signature.parse()?);
    peer.verify(&body, &headers)?;
    let changed = [&body[..], b" "].concat();
    if peer.verify(&changed, &headers).is_ok() {
        return Err("the peer accepted another body".into());
    }
    let signature = peer.sign(&case.id, i64::try_from(case.timestamp)?, &body)?;
    check(&Case {
        id: case.id.clone(),
        secret: case.secret.clone(),
        body_base64: case.body_base64.clone(),
        signature,
        ..*case
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", seed] => {
            let cases = make(seed.parse()?)?;
            let texts = cases.iter().filter(|case| case.is_utf8);
            for case in texts.clone() {
                check_crate(case)
                    .map_err(|error| format!("crate standardwebhooks, {}: {error}", case.id))?;
            }
            eprintln!("crate standardwebhooks: {} bodies both ways", texts.count());
            println!("{}", serde_json::to_string(&cases)?);
        }
        ["check", name] => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            let cases: Vec<Case> = serde_json::from_str(&text)?;
            for case in &cases {
                check(case).map_err(|error| format!("signed by {name}, {}: {error}", case.id))?;
            }
            eprintln!("{name}: {} bodies that it signed verify here", cases.len());
        }
        _ => return Err("usage: cross make <seed> | cross check <peer> <cases.json".into()),
    }
    Ok(())
}
