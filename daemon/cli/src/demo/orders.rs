//! The demo's events: a shop's day, derived from a number alone, so that every run sends the same.

use serde_json::{Value, json};

/// The organization of the events.
pub(crate) const ORGANIZATION: &str = "org_demo";

/// One event to send.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    /// Its type.
    pub(crate) event_type: &'static str,
    /// The request body.
    pub(crate) body: Value,
}

const PRODUCTS: [(&str, &str, u64); 6] = [
    ("espresso-beans-1kg", "Espresso beans, 1 kg", 2_490),
    ("moka-pot-6", "Moka pot, 6 cups", 3_950),
    ("grinder-c40", "Hand grinder", 21_900),
    ("filter-papers-100", "Filter papers, 100", 590),
    ("kettle-gooseneck", "Gooseneck kettle", 7_400),
    ("cups-stoneware-2", "Stoneware cups, pair", 2_800),
];
const CITIES: [&str; 6] = ["Hamburg", "Lyon", "Gdańsk", "Malmö", "Porto", "Brno"];

/// Returns the n-th event, from 0. Numbers are mixed in a fixed way (the finalizer of SplitMix64).
pub(crate) fn order(n: u64) -> Order {
    let mixed = mix(n);
    let (sku, name, cents) = pick(&PRODUCTS, mixed);
    let order_id = 10_000 + n / 2;
    let quantity = 1 + (mixed >> 16) % 3;
    let (event_type, data) = match n % 5 {
        0 | 2 => (
            "order.created",
            json!({
                "orderId": order_id, "currency": "EUR", "totalCents": cents * quantity,
                "lines": [{"sku": sku, "name": name, "quantity": quantity, "unitCents": cents}],
                "shipTo": {"city": pick(&CITIES, mixed >> 24)},
            }),
        ),
        1 | 3 => (
            "payment.completed",
            json!({"orderId": order_id, "currency": "EUR", "amountCents": cents * quantity, "method": pick(&["card", "sepa", "invoice"], mixed >> 32)}),
        ),
        _ if n.is_multiple_of(2) => (
            "inventory.low",
            json!({"sku": sku, "left": (mixed >> 40) % 8, "reorderAt": 8}),
        ),
        _ => (
            "product.updated",
            json!({"sku": sku, "name": name, "unitCents": cents, "changed": ["unitCents"]}),
        ),
    };
    let body = json!({
        "organizationId": ORGANIZATION, "type": event_type, "data": data,
        "idempotencyKey": format!("demo-{n}"),
    });
    Order { event_type, body }
}

fn pick<T: Copy, const N: usize>(from: &[T; N], mixed: u64) -> T {
    let index = usize::try_from(mixed % N as u64).unwrap_or(0);
    from[index]
}

fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_occurs_and_every_key_is_its_own() {
        let orders: Vec<Order> = (0..100).map(order).collect();
        for event_type in [
            "order.created",
            "payment.completed",
            "inventory.low",
            "product.updated",
        ] {
            assert!(
                orders.iter().any(|order| order.event_type == event_type),
                "{event_type}"
            );
        }
        let mut keys: Vec<String> = orders
            .iter()
            .map(|order| order.body["idempotencyKey"].to_string())
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 100);
    }

    #[test]
    fn a_payment_is_of_the_order_before_it() {
        let (created, paid) = (order(0), order(1));
        assert_eq!(
            created.body["data"]["orderId"],
            paid.body["data"]["orderId"]
        );
        assert_eq!(order(7), order(7));
    }
}
