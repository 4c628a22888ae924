//! The engine's pages in the file: redb's file format 3 (its `docs/design.md`), the same for every version that reads
//! it. Only what is needed to follow the checksums from the header down: each page's checksum is in the page above it.

use twox_hash::XxHash3_128;

const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// The god byte and its bits: which slot is the primary, whether the last process that had the file open failed to
/// close it, and whether the last commit was made in two phases.
const GOD_BYTE: usize = 9;
const PRIMARY: u8 = 1;
const RECOVERY: u8 = 2;
const TWO_PHASE: u8 = 4;
const PAGE_BYTES_AT: usize = 12;
const SLOTS_AT: usize = 64;
const SLOT_BYTES: usize = 128;
pub(crate) const HEADER_BYTES: usize = SLOTS_AT + 2 * SLOT_BYTES;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// A table whose values are not tables.
const NORMAL: u8 = 3;
/// The maximum size of a page.
const PAGE_BYTES_MOST: u64 = 1 << 32;

pub(crate) fn checksum(content: &[u8]) -> u128 {
    XxHash3_128::oneshot(content)
}

/// A page and the checksum of its content, as in the page that points to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointer {
    pub(crate) page: u64,
    pub(crate) checksum: u128,
}

impl Pointer {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            page: u64_at(bytes, at)?,
            checksum: u128_at(bytes, at + 8)?,
        })
    }
}

/// The lengths of keys and values of a tree, if all have the same length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) key: Option<usize>,
    pub(crate) value: Option<usize>,
}

/// The lists of tables that the header points to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roots {
    pub(crate) tables: Option<Pointer>,
    /// The list of the engine's own tables.
    pub(crate) system: Option<Pointer>,
}

/// Returns the positions of the header's slots, the primary first.
fn slots(header: &[u8]) -> Option<[usize; 2]> {
    let primary = usize::from(header.get(GOD_BYTE)? & PRIMARY);
    Some([primary, 1 - primary].map(|slot| SLOTS_AT + SLOT_BYTES * slot))
}

fn is_whole(slot: &[u8]) -> bool {
    let Some((content, sum)) = slot.split_at_checked(SLOT_BYTES - 16) else {
        return false;
    };
    u128_at(sum, 0) == Some(checksum(content))
}

/// Returns what the header points to. `None` if the engine verifies the whole file itself, which it does after a crash
/// in a one-phase commit, or if the header is damaged.
pub(crate) fn roots(header: &[u8]) -> Option<Roots> {
    let god = *header.get(GOD_BYTE)?;
    if !header.starts_with(MAGIC) || god & (RECOVERY | TWO_PHASE) == RECOVERY {
        return None;
    }
    let [at, _] = slots(header)?;
    let slot = header.get(at..at + SLOT_BYTES)?;
    if !is_whole(slot) {
        return None;
    }
    let root = |flag: usize, at| match slot.get(flag)? {
        0 => None,
        _ => Pointer::read(slot, at),
    };
    Some(Roots {
        tables: root(1, 8),
        system: root(2, 40),
    })
}

/// Corrects a wrong bit of the header: in the part that is the same in every file, and in the slots, which have
/// checksums.
pub(crate) fn mend_header(header: &mut [u8], page_bytes: u32) -> bool {
    let mut mended = false;
    for (at, known) in [(0, MAGIC), (PAGE_BYTES_AT, &page_bytes.to_le_bytes())] {
        let Some(found) = header.get_mut(at..at + known.len()) else {
            return false;
        };
        let wrong: u32 = found
            .iter()
            .zip(known)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        if wrong == 1 {
            found.copy_from_slice(known);
            mended = true;
        }
    }
    for at in slots(header).into_iter().flatten() {
        if let Some(slot) = header.get_mut(at..at + SLOT_BYTES) {
            mended |= !is_whole(slot) && mend(slot, is_whole).is_some();
        }
    }
    mended
}

/// Finds the one wrong bit and corrects it. `None`: it is not one bit, and nothing was changed.
pub(crate) fn mend(bytes: &mut [u8], is_whole: impl Fn(&[u8]) -> bool) -> Option<usize> {
    for bit in 0..8 * bytes.len() {
        flip(bytes, bit);
        if is_whole(bytes) {
            return Some(bit);
        }
        flip(bytes, bit);
    }
    None
}

pub(crate) fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

/// The layout of pages in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    page_bytes: u64,
    region_bytes: u64,
    region_header_bytes: u64,
}

impl Layout {
    pub(crate) fn of(header: &[u8]) -> Option<Self> {
        if !header.starts_with(MAGIC) {
            return None;
        }
        let page_bytes = u64::from(u32_at(header, PAGE_BYTES_AT)?);
        let region_header_bytes = u64::from(u32_at(header, 16)?).checked_mul(page_bytes)?;
        let data_bytes = u64::from(u32_at(header, 20)?).checked_mul(page_bytes)?;
        (page_bytes >= 512).then_some(Self {
            page_bytes,
            region_bytes: region_header_bytes.checked_add(data_bytes)?,
            region_header_bytes,
        })
    }

    /// Returns where a page begins and its length, if it is within a file of this length.
    pub(crate) fn place(&self, page: u64, file_bytes: u64) -> Option<(u64, u64)> {
        let (index, region, order) = (page & 0xF_FFFF, (page >> 20) & 0xF_FFFF, page >> 59);
        let bytes = self.page_bytes.checked_shl(u32::try_from(order).ok()?)?;
        let within = self
            .region_header_bytes
            .checked_add(index.checked_mul(bytes)?)?;
        let at = self
            .page_bytes
            .checked_add(region.checked_mul(self.region_bytes)?)?
            .checked_add(within)?;
        (bytes <= PAGE_BYTES_MOST && at.checked_add(bytes)? <= file_bytes).then_some((at, bytes))
    }

    /// Returns which slots of the smallest page size the bytes fill, counted from the start of the file; `None` if they
    /// are not a page of a tree.
    pub(crate) fn places(&self, at: u64, bytes: usize) -> Option<std::ops::Range<usize>> {
        let bytes = u64::try_from(bytes).ok()?;
        let within = at.checked_sub(self.page_bytes)? % self.region_bytes;
        if !at.is_multiple_of(self.page_bytes) || !bytes.is_multiple_of(self.page_bytes) {
            return None;
        }
        let first = usize::try_from(at / self.page_bytes).ok()?;
        let count = usize::try_from(bytes / self.page_bytes).ok()?;
        (within >= self.region_header_bytes).then_some(first..first + count)
    }
}

/// Returns a page's checksum, over its content.
pub(crate) fn checksum_of(page: &[u8], widths: Widths) -> Option<u128> {
    Some(checksum(page.get(..content_end(page, widths)?)?))
}

pub(crate) fn is_branch(page: &[u8]) -> bool {
    page.first() == Some(&BRANCH)
}

/// Whether a leaf can be read and searched, whatever its values are.
pub(crate) fn is_sane_leaf(page: &[u8], widths: Widths) -> bool {
    let ascending = |count: usize| {
        let width = widths.key?;
        let start = keys_end(page, widths, count)?.checked_sub(width * count)?;
        let keys = page.get(start..start + width * count)?.chunks_exact(width);
        Some(keys.is_sorted_by(|a, b| a < b))
    };
    let count = u16_at(page, 2).map_or(0, usize::from);
    page.first() == Some(&LEAF)
        && count > 0
        && ascending(count) == Some(true)
        && values(page, widths, &mut |_| {}).is_some()
}

/// Returns where the content of a page ends.
fn content_end(page: &[u8], widths: Widths) -> Option<usize> {
    let count = usize::from(u16_at(page, 2)?);
    let last = count.checked_sub(1)?;
    match *page.first()? {
        LEAF => value_end(page, widths, count, last),
        BRANCH => {
            let children = count + 1;
            let keys = 8 + 24 * children;
            match widths.key {
                Some(width) => Some(keys + width * count),
                None => usize_at(page, keys + 4 * last),
            }
        }
        _ => None,
    }
}

fn keys_end(page: &[u8], widths: Widths, count: usize) -> Option<usize> {
    match widths.key {
        Some(width) => {
            let ends = if widths.value.is_none() { 4 * count } else { 0 };
            Some(4 + ends + width * count)
        }
        None => usize_at(page, 4 + 4 * count.checked_sub(1)?),
    }
}

fn value_end(page: &[u8], widths: Widths, count: usize, at: usize) -> Option<usize> {
    match widths.value {
        Some(width) => Some(keys_end(page, widths, count)? + width * (at + 1)),
        None => {
            let key_ends = if widths.key.is_none() { 4 * count } else { 0 };
            usize_at(page, 4 + key_ends + 4 * at)
        }
    }
}

/// Calls `each` with the values of a leaf.
pub(crate) fn values(page: &[u8], widths: Widths, each: &mut dyn FnMut(&[u8])) -> Option<()> {
    let count = usize::from(u16_at(page, 2)?);
    let mut start = keys_end(page, widths, count)?;
    for at in 0..count {
        let end = value_end(page, widths, count, at)?;
        each(page.get(start..end)?);
        start = end;
    }
    Some(())
}

/// Returns the pages that a branch points to.
pub(crate) fn children(page: &[u8]) -> Option<Vec<Pointer>> {
    let count = usize::from(u16_at(page, 2)?) + 1;
    let child = |n| {
        Some(Pointer {
            checksum: u128_at(page, 8 + 16 * n)?,
            page: u64_at(page, 8 + 16 * count + 8 * n)?,
        })
    };
    (0..count).map(child).collect()
}

/// Returns the root of a table and the widths of its rows; `Some(None)` for an empty one.
#[allow(clippy::option_option, reason = "damaged, empty, and filled")]
pub(crate) fn table(definition: &[u8]) -> Option<Option<(Pointer, Widths)>> {
    if *definition.first()? != NORMAL {
        return None;
    }
    if *definition.get(9)? == 0 {
        return Some(None);
    }
    let width = |at: usize| match definition.get(at)? {
        0 => Some(None),
        _ => usize_at(definition, at + 1).map(Some),
    };
    let widths = Widths {
        key: width(42)?,
        value: width(47)?,
    };
    Some(Some((Pointer::read(definition, 10)?, widths)))
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn u16_at(bytes: &[u8], from: usize) -> Option<u16> {
    at(bytes, from).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], from: usize) -> Option<u32> {
    at(bytes, from).map(u32::from_le_bytes)
}

fn usize_at(bytes: &[u8], from: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, from)?).ok()
}

fn u64_at(bytes: &[u8], from: usize) -> Option<u64> {
    at(bytes, from).map(u64::from_le_bytes)
}

fn u128_at(bytes: &[u8], from: usize) -> Option<u128> {
    at(bytes, from).map(u128::from_le_bytes)
}
