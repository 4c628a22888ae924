//! The engine's own pages, verified before the engine is let loose on a file: which pages are free, and which are to be freed.
//!
//! redb takes them at their word when it opens a file. With one bit of them flipped it writes over pages that are in use, and then the file is
//! lost with all that is whole in it. redb can only verify all of a file, which reads all of it; these pages are some kilobytes for each
//! GiB. Their form is redb's file format 3 (its `docs/design.md`), the same for every version that reads it. Rows are not looked
//! at: a damaged one refuses what needs it and nothing else.

use crate::error::StoreError;
use redb::StorageBackend;
use std::io;
use twox_hash::XxHash3_128;

const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
const HEADER_BYTES: usize = 320;
const SLOT_BYTES: usize = 128;
/// In the god byte: which slot is the primary, and whether its commit was made in two phases. Only then is what it says of free pages
/// trusted; else the engine verifies the whole file itself.
const PRIMARY: u8 = 1;
const TWO_PHASE: u8 = 4;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// A table of the kind that the engine's own ones are.
const NORMAL: u8 = 3;
/// No tree is deeper, and no page larger.
const DEPTH: u32 = 32;
const PAGE_BYTES_MOST: u64 = 1 << 32;

/// Verifies the pages. What can't be found from the header is left to the engine, which says so.
pub(crate) fn verify(storage: &dyn StorageBackend) -> Result<(), StoreError> {
    let file_bytes = storage.len().map_err(engine)?;
    let mut header = [0; HEADER_BYTES];
    if file_bytes < 4_096 {
        return Ok(());
    }
    storage.read(0, &mut header).map_err(engine)?;
    let Some(mut pages) = Pages::of(storage, file_bytes, &header) else {
        return Ok(());
    };
    let Some(root) = system_root(&header) else {
        return Ok(());
    };
    let verified = pages.tables(root).map_err(engine)?;
    if verified == Some(()) {
        return Ok(());
    }
    Err(StoreError::damaged(
        "the engine's record of its pages",
        "nothing can be written to the file without overwriting what is in use: `stormhook compact` writes it again from what can be read",
    ))
}

fn engine(error: io::Error) -> StoreError {
    StoreError::Engine(redb::Error::Io(error))
}

/// A page and the checksum over it, as what points at the page has them.
#[derive(Clone, Copy)]
struct Pointer {
    page: u64,
    checksum: u128,
}

impl Pointer {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            page: u64_at(bytes, at)?,
            checksum: u128_at(bytes, at + 8)?,
        })
    }
}

/// How long keys and values of a tree are, where all are of one length.
#[derive(Clone, Copy, Default)]
struct Widths {
    key: Option<usize>,
    value: Option<usize>,
}

/// The root of the engine's own tables, where the last commit says that they can be trusted.
fn system_root(header: &[u8; HEADER_BYTES]) -> Option<Pointer> {
    let god = *header.get(9)?;
    if god & TWO_PHASE == 0 {
        return None;
    }
    let at = 64 + SLOT_BYTES * usize::from(god & PRIMARY);
    let slot = header.get(at..at + SLOT_BYTES)?;
    let (content, _) = slot.split_at_checked(SLOT_BYTES - 16)?;
    let whole = XxHash3_128::oneshot(content) == u128_at(slot, SLOT_BYTES - 16)?;
    if !whole || *slot.get(2)? == 0 {
        return None;
    }
    Pointer::read(slot, 40)
}

/// The pages of a file.
struct Pages<'s> {
    storage: &'s dyn StorageBackend,
    page_bytes: u64,
    region_bytes: u64,
    region_header_bytes: u64,
    file_bytes: u64,
    /// How many more pages may be read: none is read twice in a file that is whole.
    left: u64,
}

impl<'s> Pages<'s> {
    fn of(
        storage: &'s dyn StorageBackend,
        file_bytes: u64,
        header: &[u8; HEADER_BYTES],
    ) -> Option<Self> {
        if !header.starts_with(MAGIC) {
            return None;
        }
        let page_bytes = u64::from(u32_at(header, 12)?);
        let region_header_bytes = u64::from(u32_at(header, 16)?).checked_mul(page_bytes)?;
        let data_bytes = u64::from(u32_at(header, 20)?).checked_mul(page_bytes)?;
        (page_bytes >= 512).then_some(Self {
            storage,
            page_bytes,
            region_bytes: region_header_bytes.checked_add(data_bytes)?,
            region_header_bytes,
            file_bytes,
            left: file_bytes / page_bytes + 1,
        })
    }

    /// Reads a page and compares it with its checksum, up to where its content ends. `None`: it is damaged.
    fn read(&mut self, pointer: Pointer, widths: Widths) -> io::Result<Option<Vec<u8>>> {
        let Some((at, bytes)) = self.place(pointer.page) else {
            return Ok(None);
        };
        let Ok(length) = usize::try_from(bytes) else {
            return Ok(None);
        };
        let mut page = vec![0; length];
        self.storage.read(at, &mut page)?;
        let content = content_end(&page, widths).and_then(|end| page.get(..end));
        let whole = content.is_some_and(|c| XxHash3_128::oneshot(c) == pointer.checksum);
        Ok(whole.then_some(page))
    }

    /// Where a page lies, and how long it is.
    fn place(&mut self, page: u64) -> Option<(u64, u64)> {
        self.left = self.left.checked_sub(1)?;
        let (index, region, order) = (page & 0xF_FFFF, (page >> 20) & 0xF_FFFF, page >> 59);
        let bytes = self.page_bytes.checked_shl(u32::try_from(order).ok()?)?;
        let within = self
            .region_header_bytes
            .checked_add(index.checked_mul(bytes)?)?;
        let at = self
            .page_bytes
            .checked_add(region.checked_mul(self.region_bytes)?)?
            .checked_add(within)?;
        (bytes <= PAGE_BYTES_MOST && at.checked_add(bytes)? <= self.file_bytes)
            .then_some((at, bytes))
    }

    /// Verifies the list of tables and each table in it.
    fn tables(&mut self, root: Pointer) -> io::Result<Option<()>> {
        let mut tables = Vec::new();
        let list = self.tree(root, Widths::default(), DEPTH, &mut |definition| {
            tables.push(table(definition));
        })?;
        if list.is_none() {
            return Ok(None);
        }
        for table in tables {
            let Some(root) = table else { return Ok(None) };
            let Some((root, widths)) = root else { continue };
            if self.tree(root, widths, DEPTH, &mut |_| {})?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    /// Verifies a tree, and hands out its values.
    fn tree(
        &mut self,
        pointer: Pointer,
        widths: Widths,
        depth: u32,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Option<()>> {
        let Some(page) = self.read(pointer, widths)? else {
            return Ok(None);
        };
        if page.first() == Some(&LEAF) {
            return Ok(values(&page, widths, each));
        }
        let (Some(below), Some(children)) = (depth.checked_sub(1), children(&page)) else {
            return Ok(None);
        };
        for child in children {
            if self.tree(child, widths, below, each)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}

/// Where the content of a page ends.
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

/// Hands out the values of a leaf.
fn values(page: &[u8], widths: Widths, each: &mut dyn FnMut(&[u8])) -> Option<()> {
    let count = usize::from(u16_at(page, 2)?);
    let mut start = keys_end(page, widths, count)?;
    for at in 0..count {
        let end = value_end(page, widths, count, at)?;
        each(page.get(start..end)?);
        start = end;
    }
    Some(())
}

fn children(page: &[u8]) -> Option<Vec<Pointer>> {
    let count = usize::from(u16_at(page, 2)?) + 1;
    let child = |n| {
        Some(Pointer {
            checksum: u128_at(page, 8 + 16 * n)?,
            page: u64_at(page, 8 + 16 * count + 8 * n)?,
        })
    };
    (0..count).map(child).collect()
}

/// The root of a table and the widths of its rows; `Some(None)` of one that is empty.
#[allow(clippy::option_option, reason = "damaged, empty, and filled")]
fn table(definition: &[u8]) -> Option<Option<(Pointer, Widths)>> {
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
