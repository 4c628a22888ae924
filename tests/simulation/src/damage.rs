//! What a disk does to what it holds: bits flip, pages are lost, sectors are written elsewhere.

use stormhook_testkit::random::Random;

/// The engine's pages, and what disks write whole.
const PAGE_BYTES: usize = 4_096;
const SECTOR_BYTES: usize = 512;

/// Damages a file somewhere, and says how. Its first page is left alone: what it says of the last commit is said nowhere else, so
/// that nobody could tell a file without that commit from one that never had it.
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
            format!("the sector at {from} is written to {to} too")
        }
    }
}

/// A byte in a page that is not empty.
fn place_in_use(bytes: &[u8], random: &mut Random) -> usize {
    let pages = bytes.chunks_exact(PAGE_BYTES).enumerate().skip(1);
    let used: Vec<_> = pages
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        .map(|(n, _)| n)
        .collect();
    let page = used[usize::try_from(random.below(used.len() as u64)).unwrap()];
    // Most of a page may be empty: what lies in it is hit.
    let content = &bytes[page * PAGE_BYTES..][..PAGE_BYTES];
    let filled: Vec<_> = (0..PAGE_BYTES).filter(|at| content[*at] != 0).collect();
    let at = filled[usize::try_from(random.below(filled.len() as u64)).unwrap()];
    page * PAGE_BYTES + at
}
