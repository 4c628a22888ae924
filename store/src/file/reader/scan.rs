//! Scans a table whose keys begin with an event, and continues past parts that can't be read.
//!
//! A damaged row is one row. A damaged page of the tree hides all rows in it, and where it ends isn't known: the next
//! readable place is found by stepping away from it, twice as far each time, and then by bisection. Cursors look at
//! only one end of a range, so damage at its other end doesn't matter.

use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::tables::{self, Reading};
use crate::ids::EventId;
use redb::{AccessGuard, Cursor, ReadableTable};
use std::ops::Bound;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What comes next.
pub(crate) enum Next<const N: usize, T> {
    /// A row and the result of reading it.
    Row([u8; N], Result<T, StoreError>),
    /// The events from the first up to the second, exclusive, can't be read. The rows beyond come next.
    Gap(EventId, EventId, StoreError),
    End,
}

type At<'v, const N: usize> = Cursor<'v, &'static [u8; N], &'static [u8]>;
type Row<'v, const N: usize> = (
    AccessGuard<'v, &'static [u8; N]>,
    AccessGuard<'v, &'static [u8]>,
);

/// The rows of a range, one after another.
pub(crate) struct Rows<'v, const N: usize> {
    table: &'v Reading<N>,
    way: Way,
    /// The rest of the range, with an exclusive end.
    from: [u8; N],
    before: [u8; N],
    at: Option<At<'v, N>>,
}

impl<'v, const N: usize> Rows<'v, N> {
    pub(crate) fn new(table: &'v Reading<N>, way: Way, from: [u8; N], before: [u8; N]) -> Self {
        Self {
            table,
            way,
            from,
            before,
            at: None,
        }
    }

    /// Returns the next row and what `read` makes of it. Only failures other than damage are errors.
    pub(crate) fn next<T>(
        &mut self,
        read: impl FnOnce(&[u8; N], &[u8]) -> Result<T, StoreError>,
    ) -> Result<Next<N, T>, StoreError> {
        if self.from >= self.before {
            return Ok(Next::End);
        }
        let at = self.at.take();
        let found = guarded(|| {
            let mut at = match at {
                Some(at) => at,
                None => self.cursor(self.way, self.end())?,
            };
            let Some((key, value)) = step(&mut at, self.way)? else {
                return Ok(None);
            };
            let key = *key.value();
            Ok(match self.is_inside(&key)? {
                true => Some((at, key, guarded(|| read(&key, value.value())))),
                false => None,
            })
        });
        match found {
            Ok(None) => {
                self.from = self.before;
                Ok(Next::End)
            }
            Ok(Some((at, key, row))) => {
                self.at = Some(at);
                match self.way {
                    Way::Down => self.before = key,
                    Way::Up => self.from = following(&key).unwrap_or(self.before),
                }
                match row {
                    Err(e) if !e.is_damage() => Err(e),
                    row => Ok(Next::Row(key, row)),
                }
            }
            Err(e) if e.is_damage() => self.pass(e),
            Err(e) => Err(e),
        }
    }

    /// Returns the end of the rest at which to continue.
    fn end(&self) -> &[u8; N] {
        match self.way {
            Way::Up => &self.from,
            Way::Down => &self.before,
        }
    }

    fn cursor(&self, way: Way, end: &[u8; N]) -> Result<At<'v, N>, StoreError> {
        Ok(match way {
            Way::Up => self.table.lower_bound(Bound::Included(end))?,
            Way::Down => self.table.upper_bound(Bound::Excluded(end))?,
        })
    }

    /// Whether the next key belongs to the rest. If it is out of order, its page is wrong.
    fn is_inside(&self, key: &[u8; N]) -> Result<bool, StoreError> {
        let (is_behind, is_beyond) = match self.way {
            Way::Up => (*key < self.from, *key >= self.before),
            Way::Down => (*key >= self.before, *key < self.from),
        };
        if is_behind {
            let detail = "its keys are out of order";
            return Err(StoreError::damaged("a page of the file", detail));
        }
        Ok(!is_beyond)
    }

    /// Continues beyond a page that can't be read.
    fn pass<T>(&mut self, error: StoreError) -> Result<Next<N, T>, StoreError> {
        let low = event(&self.from);
        // Some rows of the last event may be left too.
        let high = match event(&self.before) {
            at if self.before == key(at) => at,
            at => at.saturating_add(1),
        };
        let far = high.saturating_sub(low);
        let at = |distance| match self.way {
            Way::Up => low.saturating_add(distance),
            Way::Down => high.saturating_sub(distance),
        };
        // Nothing within `hidden` can be read; the row at `seen` can.
        let (mut hidden, mut seen) = (0_u128, 1_u128);
        while seen < far && !self.can_read(at(seen))? {
            hidden = seen;
            seen = seen.saturating_mul(2);
        }
        seen = seen.min(far);
        while seen - hidden > 1 {
            let half = hidden + (seen - hidden) / 2;
            match self.can_read(at(half))? {
                true => seen = half,
                false => hidden = half,
            }
        }
        let reached = at(seen);
        let gap = match self.way {
            Way::Up => (low, reached),
            Way::Down => (reached, high),
        };
        match self.way {
            Way::Up => self.from = key::<N>(reached).min(self.before),
            Way::Down => self.before = key::<N>(reached).max(self.from),
        }
        Ok(Next::Gap(EventId(gap.0), EventId(gap.1), error))
    }

    fn can_read(&self, at: u128) -> Result<bool, StoreError> {
        let read = guarded(|| {
            let mut cursor = self.cursor(self.way, &key(at))?;
            step(&mut cursor, self.way).map(drop)
        });
        match read {
            Ok(()) => Ok(true),
            Err(e) if e.is_damage() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn step<'v, const N: usize>(
    at: &mut At<'v, N>,
    way: Way,
) -> Result<Option<Row<'v, N>>, StoreError> {
    Ok(match way {
        Way::Up => at.next()?,
        Way::Down => at.prev()?,
    })
}

fn event<const N: usize>(key: &[u8; N]) -> u128 {
    tables::number(key, 0, 16)
}

/// Returns the first key of an event.
fn key<const N: usize>(event: u128) -> [u8; N] {
    tables::join(&[&event.to_be_bytes()])
}

/// Returns the key after this one; `None` after the last.
fn following<const N: usize>(key: &[u8; N]) -> Option<[u8; N]> {
    let mut next = *key;
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}
