//! Compares each page with its checksum before the engine reads it.
//!
//! redb trusts its pages: a wrong bit can make it panic, walk in circles, or overwrite pages in use. It stores a checksum of every page, but
//! only checks them on request. The header has the checksums of the lists of tables, each list those of the tables' roots, and each branch
//! those of its children. A page is always read after the page that points at it, so its checksum is known by then. For pages that this
//! process writes, the checksum is taken from the write. This takes nine bytes of memory for each page that was pointed at or written.
//!
//! A page that does not match its checksum is handled in one of three ways:
//! - It has one wrong bit: the bit is corrected, and the next commit that changes the page writes it correctly.
//! - It is a leaf of one of our tables and can be searched: it is read as it is, since its rows have their own checksums.
//! - Otherwise it is refused. Operations that need the page fail, and no others.

use crate::file::guarded::DamagedPage;
use crate::file::pages::{self, HEADER_BYTES, Layout, Pointer, Widths};
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Nothing is known about the page.
const UNKNOWN: u8 = 0;
/// It was written, and the checksum covers all of it.
const WRITTEN: u8 = 1;
/// The first of the kinds that are shapes.
const SHAPES: u8 = 2;
const SHAPES_MOST: usize = (u8::MAX - SHAPES) as usize;
/// The size of the smallest page, in all files of the store.
const PAGE_BYTES: u32 = 4_096;
/// Correcting a bit takes time proportional to the square of the page's length, so larger pages are left out. They hold
/// one value, which has its own checksum.
const MEND_BYTES_MOST: usize = 8_192;
/// How many findings are remembered.
const FINDINGS_MOST: usize = 1_024;

/// The shape of the pages of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A page of a list of tables, the engine's own or ours.
    List(Of),
    Table(Of, Widths),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Engine,
    Us,
}

impl Shape {
    fn widths(self) -> Widths {
        match self {
            Self::List(_) => Widths::default(),
            Self::Table(_, widths) => widths,
        }
    }
}

/// What was found about a page that doesn't match its checksum.
#[derive(Clone, Copy, Debug)]
enum Finding {
    WrongBit(usize),
    ReadAsItIs,
    Refused,
}

/// What pages must be, by their place in the file.
#[derive(Debug, Default)]
struct Known {
    layout: Option<Layout>,
    file_bytes: u64,
    kinds: Vec<u8>,
    sums: Vec<u64>,
    shapes: Vec<Shape>,
}

/// By the checksum of a page and the one it should have.
type WrongBits = BTreeMap<(u64, u64), Option<usize>>;

/// Which bit was found to be wrong where all were tried, or that it is more than one. Kept from one opening of a file to the next: it is opened
/// again after each commit that fails, and what failed it is still there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried(Arc<Mutex<WrongBits>>);

impl Tried {
    fn known(&self) -> MutexGuard<'_, WrongBits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the one bit right that is wrong.
    fn mend(
        &self,
        page: &mut [u8],
        sums: (u64, u64),
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let known = self.known().get(&sums).copied();
        match known {
            Some(None) => return None,
            Some(Some(bit)) => {
                pages::flip(page, bit);
                if is_whole(page) {
                    return Some(bit);
                }
                pages::flip(page, bit);
            }
            None => {}
        }
        let wrong = pages::mend(page, is_whole);
        let mut known = self.known();
        if known.len() < FINDINGS_MOST {
            known.insert(sums, wrong);
        }
        wrong
    }
}

/// The checksums of one open file.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    known: RwLock<Known>,
    findings: Mutex<BTreeMap<u64, (u64, Finding)>>,
    tried: Tried,
}

impl Verified {
    /// Starts with what the header says.
    pub(crate) fn of(storage: &dyn StorageBackend, tried: &Tried) -> io::Result<Self> {
        let verified = Self {
            tried: tried.clone(),
            ..Self::default()
        };
        let file_bytes = storage.len()?;
        if file_bytes < u64::from(PAGE_BYTES) {
            return Ok(verified);
        }
        let mut header = [0; HEADER_BYTES];
        storage.read(0, &mut header)?;
        pages::mend_header(&mut header, PAGE_BYTES);
        let mut known = verified.known_mut();
        known.layout = Layout::of(&header);
        known.file_bytes = file_bytes;
        if let Some(roots) = pages::roots(&header) {
            for (root, of) in [(roots.tables, Of::Us), (roots.system, Of::Engine)] {
                root.into_iter()
                    .for_each(|root| known.expect(root, Shape::List(of)));
            }
        }
        drop(known);
        Ok(verified)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn findings(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, Finding)>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a page that was read, and corrects it if possible.
    pub(crate) fn read(&self, at: u64, page: &mut [u8]) -> io::Result<()> {
        if at == 0 {
            pages::mend_header(page, PAGE_BYTES);
            return Ok(());
        }
        let Some((shape, sum)) = self.known().of(at, page.len()) else {
            return Ok(());
        };
        let is_whole = |page: &[u8]| match shape {
            None => low(pages::checksum(page)) == sum,
            Some(shape) => pages::checksum_of(page, shape.widths()).map(low) == Some(sum),
        };
        if !is_whole(page) {
            match self.find(at, page, (shape, sum), is_whole) {
                Finding::WrongBit(_) => {}
                // A leaf of a table points to no other page.
                Finding::ReadAsItIs => return Ok(()),
                Finding::Refused => {
                    return Err(DamagedPage::refuse(at, "it does not match its checksum"));
                }
            }
        }
        if let Some(shape) = shape {
            self.follow(page, shape);
        }
        Ok(())
    }

    /// Finds out what is wrong with a page, and corrects it.
    fn find(
        &self,
        at: u64,
        page: &mut [u8],
        (shape, sum): (Option<Shape>, u64),
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> Finding {
        let found = low(pages::checksum(page));
        if let Some((of, finding)) = self.findings().get(&at)
            && *of == found
        {
            if let Finding::WrongBit(bit) = finding {
                pages::flip(page, *bit);
            }
            return *finding;
        }
        let wrong = match page.len() <= MEND_BYTES_MOST {
            true => self.tried.mend(page, (found, sum), is_whole),
            false => None,
        };
        let finding = match (wrong, shape) {
            (Some(bit), _) => Finding::WrongBit(bit),
            (None, Some(Shape::Table(Of::Us, widths))) if pages::is_sane_leaf(page, widths) => {
                Finding::ReadAsItIs
            }
            _ => Finding::Refused,
        };
        let mut findings = self.findings();
        if findings.len() < FINDINGS_MOST {
            findings.insert(at, (found, finding));
        }
        finding
    }

    /// Records what a page says about those below it.
    fn follow(&self, page: &[u8], shape: Shape) {
        if pages::is_branch(page) {
            let children = pages::children(page).unwrap_or_default();
            let mut known = self.known_mut();
            for child in children {
                known.expect(child, shape);
            }
        } else if let Shape::List(of) = shape {
            let mut tables = Vec::new();
            let _whole = pages::values(page, shape.widths(), &mut |definition| {
                tables.extend(pages::table(definition).flatten());
            });
            let mut known = self.known_mut();
            for (root, widths) in tables {
                known.expect(root, Shape::Table(of, widths));
            }
        }
    }

    /// Records a write before it is made: nobody reads the page until then.
    pub(crate) fn write(&self, at: u64, page: &[u8]) {
        let sum = low(pages::checksum(page));
        let mut known = self.known_mut();
        if at == 0 && known.layout.is_none() {
            known.layout = Layout::of(page);
        }
        if let Some(places) = known.places(at, page.len()) {
            known.set(places, WRITTEN, sum);
        }
        drop(known);
        self.findings().remove(&at);
    }

    /// Records the new length of the file. Beyond its end there are no pages.
    pub(crate) fn set_len(&self, file_bytes: u64) {
        let mut known = self.known_mut();
        known.file_bytes = file_bytes;
        let pages = usize::try_from(file_bytes / u64::from(PAGE_BYTES)).unwrap_or(usize::MAX);
        known.kinds.truncate(pages);
        known.sums.truncate(pages);
    }

    /// Returns the offsets of pages with a wrong bit that were corrected when they were read.
    pub(crate) fn put_right(&self) -> Vec<u64> {
        let findings = self.findings();
        let wrong_bits = findings
            .iter()
            .filter(|(_, (_, finding))| matches!(finding, Finding::WrongBit(_)));
        wrong_bits.map(|(at, _)| *at).collect()
    }
}

impl Known {
    fn places(&self, at: u64, bytes: usize) -> Option<Range<usize>> {
        self.layout?.places(at, bytes)
    }

    /// Returns the checksum of a page and its shape; no shape if the checksum covers all of it.
    fn of(&self, at: u64, bytes: usize) -> Option<(Option<Shape>, u64)> {
        let first = self.places(at, bytes)?.start;
        let shape = match *self.kinds.get(first)? {
            UNKNOWN => return None,
            WRITTEN => None,
            kind => Some(*self.shapes.get(usize::from(kind - SHAPES))?),
        };
        Some((shape, *self.sums.get(first)?))
    }

    fn set(&mut self, places: Range<usize>, kind: u8, sum: u64) {
        if self.kinds.len() < places.end {
            self.kinds.resize(places.end, UNKNOWN);
            self.sums.resize(places.end, 0);
        }
        if let Some(kinds) = self.kinds.get_mut(places.clone()) {
            kinds.fill(UNKNOWN);
        }
        if let (Some(kinds), Some(sums)) = (
            self.kinds.get_mut(places.start),
            self.sums.get_mut(places.start),
        ) {
            (*kinds, *sums) = (kind, sum);
        }
    }

    /// Records a page's checksum, unless one is known already: that one is at least as recent.
    fn expect(&mut self, Pointer { page, checksum }: Pointer, shape: Shape) {
        let place = self.layout.and_then(|layout| {
            let (at, bytes) = layout.place(page, self.file_bytes)?;
            layout.places(at, usize::try_from(bytes).ok()?)
        });
        let Some(places) = place else { return };
        if self
            .kinds
            .get(places.start)
            .is_some_and(|kind| *kind != UNKNOWN)
        {
            return;
        }
        let index = match self.shapes.iter().position(|known| *known == shape) {
            Some(index) => index,
            None if self.shapes.len() < SHAPES_MOST => {
                self.shapes.push(shape);
                self.shapes.len() - 1
            }
            None => return,
        };
        if let Ok(index) = u8::try_from(index) {
            self.set(places, SHAPES + index, low(checksum));
        }
    }
}

/// Returns the half of a checksum that is remembered.
#[allow(clippy::cast_possible_truncation, reason = "half of it is meant")]
fn low(checksum: u128) -> u64 {
    checksum as u64
}

#[cfg(test)]
mod tests;
