//! Regular expressions of texts that the API reads, as precise as they can be without lookaheads, which not every
//! generator of clients has.

use stormhook_engine::times::UNITS_MS;

/// A URL to deliver to, as far as its form tells: no user, no fragment, no label over 63 bytes.
pub(in crate::http) const URL: &str = concat!(
    "^[Hh][Tt][Tt][Pp][Ss]?://",
    r"([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?",
    r#"([/?][!-"$-~]*)?$"#
);
/// A URL whose host has at most 253 bytes, with room for a final dot and a port.
pub(in crate::http) const SHORT_HOST: &str = "^[^/]+//[^/?]{1,260}([/?]|$)";
/// A secret of the Standard Webhooks specification: padded base64 of 24 to 64 bytes.
pub(in crate::http) const STANDARD_SECRET: &str = concat!(
    "^whsec_(([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?",
    "|([A-Za-z0-9+/]{4}){21}([A-Za-z0-9+/][AQgw]==)?)$"
);
/// What no other secret may be: in quotes, or with the prefix of the specification.
pub(in crate::http) const NO_OTHER_SECRET: &str = "^(whsec_.*|\".*\"|'.*'|`.*`)$";

/// Returns the pattern of durations from zero, which needs no unit, to `most_ms`.
pub(in crate::http) fn duration_up_to(most_ms: u64) -> String {
    let with_unit = |(unit, unit_ms): (&str, u64)| format!("({}){unit}", up_to(most_ms / unit_ms));
    let spellings = UNITS_MS.map(with_unit);
    format!("^(0|0*({}))$", spellings.join("|"))
}

/// Returns the pattern of whole numbers up to `most`.
fn up_to(most: u64) -> String {
    let most = most.to_string();
    let mut numbers = match most.len() {
        1 => Vec::new(),
        length => vec![format!("[0-9]{{1,{}}}", length - 1)],
    };
    // As `most` up to a digit that is smaller; what follows doesn't matter.
    for (at, digit) in most.char_indices().filter(|(_, digit)| *digit != '0') {
        let smaller = char::from_u32(u32::from(digit) - 1).unwrap_or('0');
        let (same, rest) = (most.get(..at).unwrap_or_default(), most.len() - at - 1);
        numbers.push(format!("{same}[0-{smaller}][0-9]{{{rest}}}"));
    }
    numbers.push(most);
    numbers.join("|")
}
