//! What must hold for any bytes. Each failure names the seed that replays it.

#![allow(
    clippy::expect_used,
    reason = "a fixture that can't be made must stop the test"
)]

use stormhook_verifier::{
    Secret, SigningKeys, StandardVerifier, StormcomVerifier, Tolerance, explain,
};

const NOW_S: u64 = 1_750_000_000;

/// Marsaglia's xorshift: enough to vary inputs, and replayed by its seed alone.
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).expect("small")).expect("small")
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let length = self.below(max + 1);
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }

    fn secret(&mut self) -> Secret {
        let mut bytes = [0; 32];
        bytes.fill_with(|| self.next().to_le_bytes()[3]);
        Secret::from_random(&bytes)
    }

    /// Text made of the pieces that parsers stumble over.
    fn header(&mut self) -> Vec<u8> {
        let pieces: [&[u8]; 12] = [
            b"v1,",
            b"v1a,",
            b"sha256=",
            b" ",
            b",",
            b"=",
            b".",
            b"0",
            b"\"",
            b"\xff",
            b"AAAA",
            b"IfsZZyV4nFPUw56N+fhY+c2ym/KCEsK/AHe7kq3zPhg=",
        ];
        let count = self.below(12);
        (0..count)
            .flat_map(|_| pieces[self.below(pieces.len())].to_vec())
            .collect()
    }
}

#[test]
fn what_is_signed_verifies_under_each_of_the_live_secrets() {
    for seed in 0..500 {
        let mut draw = Draw::new(seed);
        let secrets: Vec<Secret> = (0..=draw.below(4)).map(|_| draw.secret()).collect();
        let keys = SigningKeys::new(&secrets);
        let body = draw.bytes(300);
        let id = format!("evt_{}", draw.next());
        let timestamp_s = draw.next() % 1_000_000_000_000;
        let standard = keys
            .standard_signature(&id, timestamp_s, &body)
            .expect("whsec_");
        let headers = [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", timestamp_s.to_string()),
            ("webhook-signature", standard),
            ("x-stormcom-signature", keys.stormcom_signature(&body)),
        ];
        for secret in &secrets {
            let verifier = StandardVerifier::new(secret.expose()).expect("a secret");
            let verified = verifier
                .tolerance(Tolerance::Unchecked)
                .verify_at(&headers, &body, 0)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(
                (verified.id, verified.timestamp_s),
                (&*id, timestamp_s),
                "seed {seed}"
            );
            let verifier = StormcomVerifier::new(secret.expose()).expect("a secret");
            assert_eq!(verifier.verify(&headers, &body), Ok(()), "seed {seed}");
        }
        let other = StormcomVerifier::new(draw.secret().expose()).expect("a secret");
        assert!(other.verify(&headers, &body).is_err(), "seed {seed}");
    }
}

#[cfg(feature = "std")]
#[test]
fn verify_asks_the_systems_clock() {
    #[expect(clippy::disallowed_methods, reason = "it is what is tested")]
    let now = std::time::SystemTime::now();
    let now = now
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let secret = Draw::new(1).secret();
    let keys = SigningKeys::new([&secret]);
    let verifier = StandardVerifier::new(secret.expose()).expect("a secret");
    let code = |timestamp_s: u64| {
        let signature = keys.standard_signature("evt_1", timestamp_s, b"{}");
        let headers = [
            ("webhook-id", "evt_1".to_owned()),
            ("webhook-timestamp", timestamp_s.to_string()),
            ("webhook-signature", signature.expect("whsec_")),
        ];
        let outcome = verifier.verify(&headers, b"{}").map(drop);
        outcome.map_or_else(|error| error.code(), |()| "ok")
    };
    assert_eq!(code(now.as_secs()), "ok");
    assert_eq!(code(now.as_secs() - 1_000), "timestamp_too_old");
    assert_eq!(code(now.as_secs() + 1_000), "timestamp_too_new");
}

#[test]
fn any_single_bit_of_body_id_time_or_signature_counts() {
    for seed in 0..20 {
        let mut draw = Draw::new(seed);
        let secret = draw.secret();
        let keys = SigningKeys::new([&secret]);
        let standard = StandardVerifier::new(secret.expose())
            .expect("a secret")
            .tolerance(Tolerance::Unchecked);
        let stormcom = StormcomVerifier::new(secret.expose()).expect("a secret");
        let mut body = draw.bytes(40);
        body.push(b'x');
        let signature = keys
            .standard_signature("evt_1", NOW_S, &body)
            .expect("whsec_");
        let fields: [Vec<u8>; 5] = [
            body.clone(),
            b"evt_1".to_vec(),
            NOW_S.to_string().into_bytes(),
            signature.into_bytes(),
            keys.stormcom_signature(&body).into_bytes(),
        ];
        for (at, field) in fields.iter().enumerate() {
            for bit in 0..field.len() * 8 {
                let mut changed = fields.clone();
                changed[at][bit / 8] ^= 1 << (bit % 8);
                let [body, id, timestamp, signature, hex] = &changed;
                let headers = [
                    ("webhook-id", id),
                    ("webhook-timestamp", timestamp),
                    ("webhook-signature", signature),
                    ("x-stormcom-signature", hex),
                ];
                let is_standard = standard.verify_at(&headers, body, NOW_S).is_ok();
                assert_eq!(is_standard, at == 4, "seed {seed}, field {at}, bit {bit}");
                let is_stormcom = stormcom.verify(&headers, body).is_ok();
                assert_eq!(
                    is_stormcom,
                    (1..=3).contains(&at),
                    "seed {seed}, field {at}, bit {bit}"
                );
            }
        }
    }
}

#[test]
fn no_header_and_no_body_makes_a_verifier_panic_or_agree() {
    let mut draw = Draw::new(7);
    let secret = draw.secret();
    let standard = StandardVerifier::new(secret.expose()).expect("a secret");
    let stormcom = StormcomVerifier::new(secret.expose()).expect("a secret");
    for _ in 0..5_000 {
        let names = [
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "x-stormcom-signature",
        ];
        let count = draw.below(8);
        let mut headers: Vec<(&str, Vec<u8>)> = vec![("content-digest", draw.header())];
        for _ in 0..count {
            let value = match draw.below(3) {
                0 => draw.bytes(60),
                1 => NOW_S.to_string().into_bytes(),
                _ => draw.header(),
            };
            headers.push((names[draw.below(names.len())], value));
        }
        let body = draw.bytes(30);
        assert!(standard.verify_at(&headers, &body, NOW_S).is_err());
        assert!(stormcom.verify(&headers, &body).is_err());
        let text = String::from_utf8_lossy(&body).into_owned();
        let explanation = explain(&headers, &body, &text, NOW_S);
        assert!(explanation.standard.result.is_err());
    }
}
