//! Damages a file like a disk does: flipped bits, lost pages, misdirected sectors.

use stormhook_testkit::random::Random;

/// redb's pages, and the sectors that a disk writes as a whole.
const PAGE_BYTES: usize = 4_096;
const SECTOR_BYTES: usize = 512;

/// Damages a file in one place, and returns a description. The first page is left alone: only it says which commit is
/// the last, so a file without that commit could not be told from one that never had it.
pub(crate) fn strike(bytes: &mut [u8], random: &mut Random) -> String {
    let at = place_in_use(bytes, random);
    match random.below(4) {
        0 => {
            let bit = random.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flips")
        }
        1 => {
            let bit = random.below(7);
            bytes[at] ^= 3 << bit;
            format!("bits {bit} and {} of byte {at} flip", bit + 1)
        }
        2 => {
            let from = at / PAGE_BYTES * PAGE_BYTES;
            bytes[from..from + PAGE_BYTES].fill(0);
            format!("the page at {from} is lost")
        }
        _ => {
            let to = at / SECTOR_BYTES * SECTOR_BYTES;
            let from = place_in_use(bytes, random) / SECTOR_BYTES * SECTOR_BYTES;
            bytes.copy_within(from..from + SECTOR_BYTES, to);
            format!("the sector at {from} is also written to {to}")
        }
    }
}

/// Returns the offset of a byte in a page that is not empty.
fn place_in_use(bytes: &[u8], random: &mut Random) -> usize {
    let pages = bytes.chunks_exact(PAGE_BYTES).enumerate().skip(1);
    let used: Vec<_> = pages
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        .map(|(n, _)| n)
        .collect();
    let page = used[usize::try_from(random.below(used.len() as u64)).unwrap()];
    // Most of a page may be empty, so a byte with content is chosen.
    let content = &bytes[page * PAGE_BYTES..][..PAGE_BYTES];
    let filled: Vec<_> = (0..PAGE_BYTES).filter(|at| content[*at] != 0).collect();
    let at = filled[usize::try_from(random.below(filled.len() as u64)).unwrap()];
    page * PAGE_BYTES + at
}
