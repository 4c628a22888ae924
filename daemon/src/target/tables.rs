//! Addresses and ports that no delivery may go to: tables only. The networks follow the IANA special-purpose address
//! registries for IPv4 and IPv6 (RFC 6890 and its updates), and refuse more than those call not globally reachable: multicast,
//! the AS112 networks and the retired relay and site-local ranges as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address, prefix length, purpose of the network.
pub(super) type Row<A> = (A, u8, &'static str);

const fn v4(a: u8, b: u8, c: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, 0)
}

pub(super) const PRIVATE_V4: [Row<Ipv4Addr>; 19] = [
    (v4(0, 0, 0), 8, "this network, RFC 791"),
    (v4(10, 0, 0), 8, "private use, RFC 1918"),
    (v4(100, 64, 0), 10, "shared address space, RFC 6598"),
    (v4(127, 0, 0), 8, "loopback, RFC 1122"),
    (v4(169, 254, 0), 16, "link-local, RFC 3927"),
    (v4(172, 16, 0), 12, "private use, RFC 1918"),
    (v4(192, 0, 0), 24, "IETF protocol assignments, RFC 6890"),
    (v4(192, 0, 2), 24, "documentation, RFC 5737"),
    (v4(192, 31, 196), 24, "AS112, RFC 7535"),
    (v4(192, 52, 193), 24, "AMT, RFC 7450"),
    (v4(192, 88, 99), 24, "retired 6to4 relays, RFC 7526"),
    (v4(192, 168, 0), 16, "private use, RFC 1918"),
    (v4(192, 175, 48), 24, "AS112, RFC 7534"),
    (v4(198, 18, 0), 15, "benchmarking, RFC 2544"),
    (v4(198, 51, 100), 24, "documentation, RFC 5737"),
    (v4(203, 0, 113), 24, "documentation, RFC 5737"),
    (v4(224, 0, 0), 4, "multicast, RFC 5771"),
    (Ipv4Addr::BROADCAST, 32, "limited broadcast, RFC 919"),
    (v4(240, 0, 0), 4, "reserved, RFC 1112"),
];

const fn v6(a: u16, b: u16, c: u16, d: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)
}

pub(super) const PRIVATE_V6: [Row<Ipv6Addr>; 14] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified, RFC 4291"),
    (Ipv6Addr::LOCALHOST, 128, "loopback, RFC 4291"),
    (v6(0x64, 0xff9b, 1, 0), 48, "local translation, RFC 8215"),
    (v6(0x100, 0, 0, 0), 64, "discard only, RFC 6666"),
    (v6(0x100, 0, 0, 1), 64, "dummy prefix, RFC 9780"),
    (v6(0x2001, 0, 0, 0), 32, "Teredo, RFC 4380"),
    (
        v6(0x2001, 0, 0, 0),
        23,
        "IETF protocol assignments, RFC 2928",
    ),
    (v6(0x2001, 0xdb8, 0, 0), 32, "documentation, RFC 3849"),
    (v6(0x3fff, 0, 0, 0), 20, "documentation, RFC 9637"),
    (v6(0x5f00, 0, 0, 0), 16, "segment routing, RFC 9602"),
    (v6(0xfc00, 0, 0, 0), 7, "unique local, RFC 4193"),
    (v6(0xfe80, 0, 0, 0), 10, "link-local, RFC 4291"),
    (v6(0xfec0, 0, 0, 0), 10, "retired site-local, RFC 3879"),
    (v6(0xff00, 0, 0, 0), 8, "multicast, RFC 4291"),
];

/// The parts of 2001::/23 that the registry lists as globally reachable.
pub(super) const GLOBAL_V6: [Row<Ipv6Addr>; 7] = [
    (
        Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 1),
        128,
        "PCP anycast, RFC 7723",
    ),
    (
        Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 2),
        128,
        "TURN anycast, RFC 8155",
    ),
    (
        Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 3),
        128,
        "DNS-SD SRP anycast, RFC 9665",
    ),
    (v6(0x2001, 3, 0, 0), 32, "AMT, RFC 7450"),
    (v6(0x2001, 4, 0x112, 0), 48, "AS112, RFC 7535"),
    (v6(0x2001, 0x20, 0, 0), 28, "ORCHIDv2, RFC 7343"),
    (
        v6(0x2001, 0x30, 0, 0),
        28,
        "drone remote identification, RFC 9374",
    ),
];

/// The "bad port" list of the Fetch standard.
pub(super) const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697, 10080,
];

/// Names that resolvers answer themselves or from the local network (RFC 6761, 6762, 8375; ICANN reserves `internal`
/// for private use).
pub(super) const LOCAL_NAMES: [&str; 4] = ["localhost", "local", "internal", "home.arpa"];

/// Whether `address` is in the network of `row`.
pub(super) fn in_v4((first, prefix, _): &Row<Ipv4Addr>, address: Ipv4Addr) -> bool {
    same_prefix(
        u128::from(first.to_bits()) << 96,
        u128::from(address.to_bits()) << 96,
        *prefix,
    )
}

/// Whether `address` is in the network of `row`.
pub(super) fn in_v6((first, prefix, _): &Row<Ipv6Addr>, address: Ipv6Addr) -> bool {
    same_prefix(first.to_bits(), address.to_bits(), *prefix)
}

fn same_prefix(a: u128, b: u128, prefix: u8) -> bool {
    (a ^ b).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
}

/// Where an address really leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    /// To itself.
    Itself,
    /// It is another spelling of this IPv4 address (RFC 4291, 2.5.5.2): sockets connect over IPv4.
    Spelling(Ipv4Addr),
    /// A translator or tunnel leads to this IPv4 address.
    Carries(Ipv4Addr),
}

/// Returns the IPv4 address inside an IPv6 one: mapped, compatible (RFC 4291, 2.5.5), NAT64 (RFC 6052) or 6to4 (RFC
/// 3056).
pub(super) fn inside(address: IpAddr) -> Inside {
    let IpAddr::V6(v6) = address else {
        return Inside::Itself;
    };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let from_halves =
        |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) => Inside::Spelling(from_halves(g, h)),
        (0, 0, 0, 0, 0, 0) if v6.to_bits() > 1 => Inside::Carries(from_halves(g, h)),
        (0x64, 0xff9b, 0, 0, 0, 0) => Inside::Carries(from_halves(g, h)),
        (0x2002, high, low, ..) => Inside::Carries(from_halves(high, low)),
        _ => Inside::Itself,
    }
}
