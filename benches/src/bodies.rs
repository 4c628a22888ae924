//! Event bodies, made before anything is timed: order JSON with the entropy of real orders (ids, names,
//! article numbers, amounts), because data that compresses too well makes a store look small.

use bytes::Bytes;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// How many different bodies a generator cycles through: a multiple of a stream's chunk and of 100
/// organizations, and far more than any pack of events has.
pub const POOL_EVENTS: usize = 3_200;

/// Size of a request in the throughput scenarios, in bytes.
pub const KIB_BYTES: usize = 1_024;

/// Size of the `data` of a short order, in bytes.
pub const SHORT_BYTES: usize = 480;

/// Where the producer writes its start time: twenty digits, so that a body keeps its length.
const AT_FIELD: &str = "\"at\":\"";
const AT_DIGITS: usize = 20;

/// The kind of an event's `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Makes the whole request 1,024 bytes long.
    Kib,
    /// The `data` of a typical order, 735 bytes on average.
    Order,
    /// The `data` of an order of one item, 480 bytes.
    Short,
}

/// A small seeded generator, so that every run has the same bodies.
struct Draw(SplitMix64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let at = usize::try_from(self.below(list.len() as u64)).unwrap_or(0);
        list.get(at).copied().unwrap_or("")
    }

    fn hex(&mut self, digits: usize) -> String {
        let text = format!("{:016x}{:016x}", self.next(), self.next());
        text.chars().take(digits).collect()
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'a' + u8::try_from(self.below(26)).unwrap_or(0)))
            .collect()
    }
}

const FIRST: &[&str] = &[
    "Anna",
    "Mateo",
    "Yuki",
    "Fatima",
    "Liam",
    "Chioma",
    "Søren",
    "Priya",
    "Elif",
    "Jonas",
    "Marta",
    "Kwame",
    "Ines",
    "Oleksandr",
    "Noor",
    "Hugo",
    "Mei",
    "Tomás",
    "Greta",
    "Samuel",
];
const LAST: &[&str] = &[
    "Okafor",
    "Lindqvist",
    "García",
    "Nakamura",
    "Müller",
    "Haddad",
    "Kowalska",
    "Silva",
    "Nguyen",
    "Petrov",
    "Jensen",
    "Rossi",
    "Demir",
    "Kaur",
    "Moreau",
    "O'Brien",
    "Novák",
    "Adeyemi",
];
const STREETS: &[&str] = &[
    "Market Street",
    "Rue de la Paix",
    "Bahnhofstrasse",
    "Via Roma",
    "Harbour Road",
    "Elm Avenue",
    "Calle Mayor",
    "Station Lane",
    "Kungsgatan",
    "High Street",
];
const CITIES: &[(&str, &str)] = &[
    ("Lisbon", "PT"),
    ("Utrecht", "NL"),
    ("Gothenburg", "SE"),
    ("Leeds", "GB"),
    ("Lyon", "FR"),
    ("Graz", "AT"),
    ("Porto", "PT"),
    ("Austin", "US"),
    ("Osaka", "JP"),
    ("Kraków", "PL"),
];
const ARTICLES: &[&str] = &[
    "Cotton T-Shirt",
    "Espresso Cups, set of 4",
    "Desk Lamp",
    "Trail Running Shoes",
    "Notebook A5",
    "Wool Blanket",
    "USB-C Cable 2 m",
    "Cast Iron Pan",
    "Rain Jacket",
    "Bluetooth Speaker",
    "Ceramic Planter",
    "Yoga Mat",
    "Chef's Knife 20 cm",
    "Backpack 24 l",
];
const WORDS: &[&str] = &[
    "please",
    "leave",
    "the",
    "parcel",
    "behind",
    "door",
    "ring",
    "twice",
    "gift",
    "wrap",
    "blue",
    "paper",
    "call",
    "before",
    "delivery",
    "thank",
    "you",
    "neighbour",
    "second",
    "floor",
];

fn item(draw: &mut Draw) -> (String, u64) {
    let quantity = 1 + draw.below(3);
    let unit_cents = 350 + draw.below(14_000);
    let text = format!(
        r#"{{"sku":"{}-{:05}","name":"{}","quantity":{quantity},"unitPrice":"{}.{:02}"}}"#,
        draw.letters(3).to_uppercase(),
        draw.below(100_000),
        draw.pick(ARTICLES),
        unit_cents / 100,
        unit_cents % 100,
    );
    (text, quantity * unit_cents)
}

fn order(draw: &mut Draw, items: u64) -> String {
    let (first, last) = (draw.pick(FIRST), draw.pick(LAST));
    let city_at = usize::try_from(draw.below(CITIES.len() as u64)).unwrap_or(0);
    let (city, country) = CITIES.get(city_at).copied().unwrap_or(("Lisbon", "PT"));
    let (mut lines, mut total_cents) = (Vec::new(), 0);
    for _ in 0..items {
        let (line, cents) = item(draw);
        lines.push(line);
        total_cents += cents;
    }
    let tax_cents = total_cents / 5;
    format!(
        concat!(
            r#"{{"orderId":{},"number":"SO-{}","createdAt":"2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z","#,
            r#""customer":{{"id":"cus_{}","name":"{} {}","email":"{}.{}@mail.example","phone":"+{:011}"}},"#,
            r#""shippingAddress":{{"street":"{} {}","postalCode":"{:05}","city":"{}","country":"{}"}},"#,
            r#""items":[{}],"currency":"EUR","tax":"{}.{:02}","total":"{}.{:02}","#,
            r#""payment":{{"id":"pi_{}","method":"{}","last4":"{:04}"}},"status":"{}"}}"#
        ),
        1_000_000 + draw.below(9_000_000),
        draw.hex(8),
        1 + draw.below(12),
        1 + draw.below(28),
        draw.below(24),
        draw.below(60),
        draw.below(60),
        draw.below(1_000),
        draw.hex(14),
        first,
        last,
        draw.letters(7),
        draw.below(1_000),
        draw.below(100_000_000_000),
        draw.pick(STREETS),
        1 + draw.below(180),
        draw.below(100_000),
        city,
        country,
        lines.join(","),
        tax_cents / 100,
        tax_cents % 100,
        total_cents / 100,
        total_cents % 100,
        draw.hex(24),
        draw.pick(&["card", "sepa", "paypal"]),
        draw.below(10_000),
        draw.pick(&["paid", "created", "authorized"]),
    )
}

fn around(organization: &str, data: &str) -> String {
    format!(r#"{{"organizationId":"{organization}","type":"order.created","data":{data}}}"#)
}

fn kib(draw: &mut Draw, organization: &str) -> String {
    let order = order(draw, 2);
    let body = |note: &str| {
        let at = "0".repeat(AT_DIGITS);
        around(
            organization,
            &format!(r#"{{{AT_FIELD}{at}","order":{order},"note":"{note}"}}"#),
        )
    };
    let room = KIB_BYTES.saturating_sub(body("").len());
    body(&note(draw, room))
}

/// Words of this many bytes in total.
fn note(draw: &mut Draw, bytes: usize) -> String {
    let mut note = String::new();
    while note.len() < bytes {
        note.push_str(draw.pick(WORDS));
        note.push(' ');
    }
    note.truncate(bytes);
    note
}

/// The `data` of an order of one item, without an address.
fn short(draw: &mut Draw) -> String {
    let (first, last) = (draw.pick(FIRST), draw.pick(LAST));
    let (line, cents) = item(draw);
    let (whole, rest) = (cents / 100, cents % 100);
    let start = format!(
        r#"{{"orderId":{},"number":"SO-{}","createdAt":"2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z","customer":{{"id":"cus_{}","name":"{first} {last}","email":"{}.{}@mail.example"}},"items":[{line}],"currency":"EUR","total":"{whole}.{rest:02}","paymentId":"pi_{}","note":""#,
        1_000_000 + draw.below(9_000_000),
        draw.hex(8),
        1 + draw.below(12),
        1 + draw.below(28),
        draw.below(24),
        draw.below(60),
        draw.below(60),
        draw.below(1_000),
        draw.hex(14),
        draw.letters(7),
        draw.below(1_000),
        draw.hex(24),
    );
    let end = r#""}"#;
    let room = SHORT_BYTES.saturating_sub(start.len() + end.len());
    format!("{start}{}{end}", note(draw, room))
}

/// The bodies of a run. With several organizations, body `i` belongs to organization
/// `<name><i mod n>`; with one, to `<name>`.
pub fn pool(kind: Kind, organization: &str, organizations: usize) -> Vec<Bytes> {
    let mut draw = Draw(SplitMix64::seed_from_u64(20_260_102));
    (0..POOL_EVENTS)
        .map(|i| {
            let name = if organizations > 1 {
                format!("{organization}{}", i % organizations)
            } else {
                organization.to_owned()
            };
            Bytes::from(match kind {
                Kind::Kib => kib(&mut draw, &name),
                Kind::Order => {
                    let items = 1 + draw.below(6);
                    around(&name, &order(&mut draw, items))
                }
                Kind::Short => around(&name, &short(&mut draw)),
            })
        })
        .collect()
}

/// Returns a copy of `body` with the producer's start time in its place.
pub fn stamped(body: &Bytes, at_ns: u64) -> Bytes {
    let mut bytes = body.to_vec();
    if let Some(start) = at_position(&bytes)
        && let Some(place) = bytes.get_mut(start..start + AT_DIGITS)
    {
        place.copy_from_slice(format!("{at_ns:020}").as_bytes());
    }
    Bytes::from(bytes)
}

/// Returns the time that [`stamped`] wrote, from a delivery's body.
pub fn stamp_of(body: &[u8]) -> Option<u64> {
    let start = at_position(body)?;
    std::str::from_utf8(body.get(start..start + AT_DIGITS)?)
        .ok()?
        .parse()
        .ok()
}

fn at_position(body: &[u8]) -> Option<usize> {
    let needle = AT_FIELD.as_bytes();
    body.windows(needle.len())
        .position(|window| window == needle)
        .map(|at| at + needle.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_is_json_and_a_kib_body_is_1024_bytes() {
        for body in pool(Kind::Kib, "org_bench", 1)
            .iter()
            .chain(&pool(Kind::Order, "o", 100))
        {
            serde_json::from_slice::<serde_json::Value>(body).unwrap();
        }
        assert!(
            pool(Kind::Kib, "org_bench", 1)
                .iter()
                .all(|body| body.len() == KIB_BYTES)
        );
    }

    #[test]
    fn an_orders_data_is_735_bytes_on_average() {
        let bodies = pool(Kind::Order, "o", 1);
        let around_bytes = around("o", "").len();
        let total: usize = bodies.iter().map(|body| body.len() - around_bytes).sum();
        let average = total / bodies.len();
        assert!((725..=745).contains(&average), "{average} bytes on average");
    }

    #[test]
    fn a_short_orders_data_has_480_bytes() {
        for body in pool(Kind::Short, "o", 1) {
            serde_json::from_slice::<serde_json::Value>(&body).unwrap();
            assert_eq!(body.len(), around("o", "").len() + SHORT_BYTES);
        }
    }

    #[test]
    fn a_stamp_is_read_back_and_keeps_the_length() {
        let bodies = pool(Kind::Kib, "org_bench", 1);
        let body = stamped(&bodies[0], 1_234_567_890_123);
        assert_eq!(stamp_of(&body), Some(1_234_567_890_123));
        assert_eq!(body.len(), bodies[0].len());
    }

    #[test]
    fn several_organizations_share_the_pool_evenly() {
        let bodies = pool(Kind::Kib, "org_", 100);
        let third = bodies
            .iter()
            .filter(|b| b.windows(9).any(|w| w == b"\"org_33\",".as_slice()));
        assert_eq!(third.count(), POOL_EVENTS / 100);
    }
}
