//! Decides whether an address is globally reachable, and if not, which rule refuses it. Knows no policy: the caller
//! applies what the operator allows or denies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rule::{Refusal, Rule};
use super::tables::{GLOBAL_V6, Inside, PRIVATE_V4, PRIVATE_V6, in_v4, in_v6, inside};

/// Returns the refusal of an address that is private, local, reserved or otherwise not globally reachable.
pub(super) fn private(address: IpAddr) -> Option<Refusal> {
    match (address, inside(address)) {
        (IpAddr::V4(v4), _) => private_v4(v4),
        (IpAddr::V6(v6), Inside::Spelling(v4) | Inside::Carries(v4)) => {
            let refusal = private_v4(v4)?;
            let detail = format!(
                "{v6} contains {v4}, which private_v4 refuses: {}",
                refusal.detail
            );
            Some(Refusal::new(Rule::PrivateV6, detail))
        }
        (IpAddr::V6(v6), Inside::Itself) => private_v6(v6),
    }
}

const WHAT_TO_DO: &str =
    "use a globally reachable address, or have the operator add it to target.allow";

fn private_v4(address: Ipv4Addr) -> Option<Refusal> {
    let row = PRIVATE_V4.iter().find(|row| in_v4(row, address))?;
    let detail = format!(
        "{address} is in {}/{} ({}); {WHAT_TO_DO}",
        row.0, row.1, row.2
    );
    Some(Refusal::new(Rule::PrivateV4, detail))
}

fn private_v6(address: Ipv6Addr) -> Option<Refusal> {
    if GLOBAL_V6.iter().any(|row| in_v6(row, address)) {
        return None;
    }
    let row = PRIVATE_V6.iter().find(|row| in_v6(row, address))?;
    let detail = format!(
        "{address} is in {}/{} ({}); {WHAT_TO_DO}",
        row.0, row.1, row.2
    );
    Some(Refusal::new(Rule::PrivateV6, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every network of the rules as (rule, first, last), written by hand so that a mistake in a table shows.
    const RANGES: &[(&str, &str, &str)] = &[
        ("private_v4", "0.0.0.0", "0.255.255.255"),
        ("private_v4", "10.0.0.0", "10.255.255.255"),
        ("private_v4", "100.64.0.0", "100.127.255.255"),
        ("private_v4", "127.0.0.0", "127.255.255.255"),
        ("private_v4", "169.254.0.0", "169.254.255.255"),
        ("private_v4", "172.16.0.0", "172.31.255.255"),
        ("private_v4", "192.0.0.0", "192.0.0.255"),
        ("private_v4", "192.0.2.0", "192.0.2.255"),
        ("private_v4", "192.31.196.0", "192.31.196.255"),
        ("private_v4", "192.52.193.0", "192.52.193.255"),
        ("private_v4", "192.88.99.0", "192.88.99.255"),
        ("private_v4", "192.168.0.0", "192.168.255.255"),
        ("private_v4", "192.175.48.0", "192.175.48.255"),
        ("private_v4", "198.18.0.0", "198.19.255.255"),
        ("private_v4", "198.51.100.0", "198.51.100.255"),
        ("private_v4", "203.0.113.0", "203.0.113.255"),
        ("private_v4", "224.0.0.0", "255.255.255.255"),
        // Contains 0.0.0.0/8, preceded by :: and ::1.
        ("private_v6", "::", "::ff:ffff"),
        ("private_v6", "::ffff:10.0.0.0", "::ffff:10.255.255.255"),
        ("private_v6", "::ffff:127.0.0.0", "::ffff:127.255.255.255"),
        ("private_v6", "::192.168.0.0", "::192.168.255.255"),
        (
            "private_v6",
            "64:ff9b::169.254.0.0",
            "64:ff9b::169.254.255.255",
        ),
        (
            "private_v6",
            "64:ff9b:1::",
            "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        ),
        ("private_v6", "100::", "100::1:ffff:ffff:ffff:ffff"),
        ("private_v6", "2001::", "2001:1::"),
        (
            "private_v6",
            "2001:1::4",
            "2001:2:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "2001:4::",
            "2001:4:111:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "2001:4:113::",
            "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "2001:40::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "2002:a00::",
            "2002:aff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "2002:7f00::",
            "2002:7fff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "3fff::",
            "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "5f00::",
            "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
        (
            "private_v6",
            "fe80::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ),
    ];

    fn step(address: IpAddr, up: bool) -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) => {
                let bits = if up {
                    v4.to_bits().checked_add(1)
                } else {
                    v4.to_bits().checked_sub(1)
                };
                bits.map(|bits| Ipv4Addr::from_bits(bits).into())
            }
            IpAddr::V6(v6) => {
                let bits = if up {
                    v6.to_bits().checked_add(1)
                } else {
                    v6.to_bits().checked_sub(1)
                };
                bits.map(|bits| Ipv6Addr::from_bits(bits).into())
            }
        }
    }

    fn middle(first: IpAddr, last: IpAddr) -> IpAddr {
        match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                Ipv4Addr::from_bits(a.to_bits().midpoint(b.to_bits())).into()
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                Ipv6Addr::from_bits(a.to_bits().midpoint(b.to_bits())).into()
            }
            _ => panic!("one range, two families"),
        }
    }

    #[test]
    fn each_range_is_refused_from_its_first_to_its_last_address_and_nothing_beside_it() {
        for (rule, first, last) in RANGES {
            let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
            for address in [first, middle(first, last), last] {
                let refusal = private(address).unwrap_or_else(|| panic!("{address} is allowed"));
                assert_eq!(refusal.rule.as_str(), *rule, "{address}");
            }
            for beside in [step(first, false), step(last, true)].into_iter().flatten() {
                assert_eq!(private(beside), None, "{beside}");
            }
        }
    }

    #[test]
    fn every_row_of_the_tables_lies_in_a_range_that_is_tested() {
        let parsed = |text: &str| text.parse::<IpAddr>().unwrap();
        let tested = |address: IpAddr| {
            RANGES
                .iter()
                .any(|(_, first, last)| (parsed(first)..=parsed(last)).contains(&address))
        };
        for row in PRIVATE_V4 {
            assert!(tested(row.0.into()), "{row:?}");
        }
        for row in PRIVATE_V6 {
            assert!(tested(row.0.into()), "{row:?}");
        }
        for row in GLOBAL_V6 {
            assert_eq!(private(row.0.into()), None, "{row:?}");
        }
    }

    #[test]
    fn addresses_of_the_open_internet_are_allowed() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2001:3f:ffff::1",
            "2001:1::1",
            "2001:1::2",
            "2001:1::3",
            "2001:200::1",
        ] {
            assert_eq!(private(address.parse().unwrap()), None, "{address}");
        }
    }
}
