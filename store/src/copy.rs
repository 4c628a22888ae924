//! A copy of the store: every row of one snapshot, written in the order of its keys into a fresh file (docs/adr/0014-backup.md).
//!
//! Rows are taken as they are: what is damaged in one is damaged in the copy, where `check` names it. What can't be read, or is
//! fewer rows than there should be, ends the copy. The store that is copied is never written to.

use crate::error::{StoreError, guarded};
use crate::file::{self, io};
use crate::overlay::{self, Lock, at_rest};
use crate::reader::Reader;
use crate::store::Store;
use crate::tables::{Copies, Raw, Reading, Views};
use redb::backends::FileBackend;
use redb::{CursorError, ReadableTable, ReadableTableMetadata, StorageBackend};
use std::fs::File;
use std::io::Result as IoResult;
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

/// Rows after which the caller is asked whether to go on, and bytes of them.
const LOOK_ROWS: u64 = 4_096;
const LOOK_BYTES: usize = 1 << 20;
/// The table of large values. Appended through a cursor, they left a copy a third longer than its store; inserted, they don't
/// (docs/adr/0014-backup.md).
const LARGE_VALUES: &str = "packs";
/// Pages of the copy that are kept in memory until they are written.
const CACHE_BYTES: usize = 8 << 20;

/// What a copy came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The number of the last commit in it.
    pub commit: u64,
    /// Its rows.
    pub rows: u64,
    /// Its length.
    pub file_bytes: u64,
}

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The file's length before.
    pub before_bytes: u64,
    /// Its length now; the same where there was nothing to gain.
    pub after_bytes: u64,
}

/// Whether what is written must outlive the machine's next stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Synced,
    /// The copy is read at once and thrown away: a sync of it would only hold up those of the store beside it.
    Unsynced,
}

/// The file of the copy.
#[derive(Debug)]
struct Fresh {
    file: FileBackend,
    kept: Kept,
}

impl StorageBackend for Fresh {
    fn len(&self) -> IoResult<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, bytes: u64) -> IoResult<()> {
        self.file.set_len(bytes)
    }

    fn sync_data(&self) -> IoResult<()> {
        match self.kept {
            Kept::Synced => self.file.sync_data(),
            Kept::Unsynced => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> IoResult<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> IoResult<()> {
        self.file.close()
    }
}

/// A copy under way.
pub(crate) struct Copying<'g> {
    rows: u64,
    /// Rows and bytes since the caller was last asked.
    unasked: (u64, usize),
    go_on: &'g mut dyn FnMut() -> bool,
}

/// Why a copy ended early.
pub(crate) enum Ended {
    Stopped,
    Failed(StoreError),
}

impl<E: Into<StoreError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Copies for Copying<'_> {
    type Error = Ended;

    fn table<const N: usize>(
        &mut self,
        name: &str,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<(), Ended> {
        self.ask()?;
        let seen = if name == LARGE_VALUES {
            self.insert(from, to)?
        } else {
            self.append(name, from, to)?
        };
        self.rows += seen;
        let expected = from.len()?;
        if seen != expected {
            let detail = format!("it holds {seen} rows, but counts {expected}");
            return Err(StoreError::damaged(name, detail).into());
        }
        Ok(())
    }
}

impl Copying<'_> {
    fn append<const N: usize>(
        &mut self,
        name: &str,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<u64, Ended> {
        let mut end = to.upper_bound_mut(Bound::<&[u8; N]>::Unbounded)?;
        let mut seen = 0;
        for row in from.iter()? {
            let (key, value) = row?;
            self.may_go_on(value.value().len())?;
            match end.insert_before(key.value(), value.value()) {
                Ok(()) => seen += 1,
                Err(CursorError::UnorderedKey) => {
                    return Err(StoreError::damaged(name, "its keys are out of order").into());
                }
                Err(CursorError::Storage(e)) => return Err(e.into()),
                Err(e) => return Err(StoreError::Engine(e.into()).into()),
            }
        }
        end.close()?;
        Ok(seen)
    }

    fn insert<const N: usize>(
        &mut self,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<u64, Ended> {
        let mut seen = 0;
        for row in from.iter()? {
            let (key, value) = row?;
            self.may_go_on(value.value().len())?;
            to.insert(key.value(), value.value())?;
            seen += 1;
        }
        Ok(seen)
    }

    fn may_go_on(&mut self, bytes: usize) -> Result<(), Ended> {
        let (rows, so_far) = &mut self.unasked;
        *rows += 1;
        *so_far += bytes;
        if *rows >= LOOK_ROWS || *so_far >= LOOK_BYTES {
            self.unasked = (0, 0);
            return self.ask();
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Ended> {
        match (self.go_on)() {
            true => Ok(()),
            false => Err(Ended::Stopped),
        }
    }
}

/// Copies a snapshot into an empty file. `None`: `go_on` said no, and the file is of no use.
fn copy(
    views: &Views,
    file: File,
    path: &Path,
    kept: Kept,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Copied>, StoreError> {
    let length = file.try_clone().map_err(io("writing", path))?;
    let file = FileBackend::new(file).map_err(StoreError::from)?;
    let db = file::engine_on(Fresh { file, kept }, path, CACHE_BYTES)?;
    // One transaction: nobody sees a part of it, and what it doesn't keep in memory it writes as it goes.
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    let mut copying = Copying {
        rows: 0,
        unasked: (0, 0),
        go_on,
    };
    match views.copy_to(&txn, &mut copying) {
        Ok(()) => {}
        Err(Ended::Stopped) => return Ok(None),
        Err(Ended::Failed(e)) => return Err(e),
    }
    let rows = copying.rows;
    txn.commit()?;
    db.close()?;
    let metadata = length.metadata().map_err(io("looking at", path))?;
    Ok(Some(Copied {
        commit: views.commit()?,
        rows,
        file_bytes: metadata.len(),
    }))
}

impl Reader {
    /// Copies the store as it is now into `file`, which is empty. It is whole only for this process: nothing is synced. Holds one
    /// snapshot for as long as it writes, so the store's file grows by what is committed meanwhile. `go_on` is asked every
    /// megabyte or so; `None` says that it said no.
    ///
    /// # Errors
    /// The store can't be read, what was read is damaged, or the file can't be written.
    pub fn copy_into(
        &self,
        file: File,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Copied>, StoreError> {
        let path = self.shared.options().path.with_extension("copy");
        self.shared
            .long_view(|views| copy(views, file, &path, Kept::Unsynced, &mut go_on))
    }
}

/// Copies a store that no daemon has open into `file`, which is empty, without writing to it. Nothing is synced.
///
/// # Errors
/// As [`Reader::copy_into`], and that a daemon has it open.
pub fn copy_file(
    path: &Path,
    file: File,
    go_on: impl FnMut() -> bool,
) -> Result<Option<Copied>, StoreError> {
    overlay::read_file(path)?.copy_into(file, go_on)
}

/// Writes a store that no daemon has open anew, without the holes in it. The fresh file takes the place of the old one once it is
/// whole, on disk, and found to be right; until then nothing has changed, and whatever stops this leaves the store as it was. So does
/// a fresh file that is no shorter, unless pages of the engine's own are damaged in the old one.
///
/// # Errors
/// A daemon has it open, it is damaged, or the system refuses.
pub fn compact_file(path: &Path) -> Result<Compacted, StoreError> {
    // Where the name is a link, the file that it leads to is replaced.
    let path = &std::fs::canonicalize(path).map_err(io("looking for", path))?;
    let source = overlay::open(path, Lock::Exclusive)?;
    let fresh = file::beside(path, file::COMPACTING);
    let removed = RemovedUnless(Some(&fresh));
    let compacted = guarded(|| compact(path, &fresh, &source))?;
    if compacted.after_bytes < compacted.before_bytes {
        removed.keep();
    }
    Ok(compacted)
}

/// Removes a file on the way out.
struct RemovedUnless<'p>(Option<&'p Path>);

impl RemovedUnless<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemovedUnless<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _gone = std::fs::remove_file(path);
        }
    }
}

fn compact(path: &Path, fresh: &Path, source: &overlay::Source) -> Result<Compacted, StoreError> {
    let before = source.file.metadata().map_err(io("looking at", path))?;
    // What an earlier one left behind is nobody's: the lock is ours.
    let file = file::fresh_file(fresh)?;
    let theirs = |doing| io(doing, fresh);
    // The daemon's user may be another one than ours.
    let made = file.metadata().map_err(theirs("looking at"))?;
    if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
        fchown(&file, Some(before.uid()), Some(before.gid()))
            .map_err(theirs("giving the store's owner"))?;
    }
    file.set_permissions(before.permissions())
        .map_err(theirs("giving the store's mode"))?;
    let writing = file.try_clone().map_err(theirs("writing"))?;
    let backend = source.clone();
    let store = Store::open_on(at_rest(path), move || backend.backend())?;
    let copied = store
        .reader()
        .shared
        .long_view(|views| copy(views, writing, fresh, Kept::Synced, &mut || true))?;
    drop(store);
    let (before_bytes, after_bytes) = (before.len(), copied.map_or(0, |copied| copied.file_bytes));
    refuse_damage(fresh)?;
    // Where pages of the engine's own are damaged, the fresh file is what helps, however long it is.
    if after_bytes >= before_bytes && overlay::takes_commits(path, source)? {
        return Ok(Compacted {
            before_bytes,
            after_bytes: before_bytes,
        });
    }
    file.sync_all().map_err(theirs("writing"))?;
    std::fs::rename(fresh, path).map_err(theirs("moving into place"))?;
    file::sync_folder(path)?;
    Ok(Compacted {
        before_bytes,
        after_bytes,
    })
}

/// A store in which something is damaged is left as it is: it may be needed to save what can be saved.
fn refuse_damage(fresh: &Path) -> Result<(), StoreError> {
    let report = overlay::check_file(fresh)?;
    match report.damage.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::damaged(
            "the store",
            format!("{first}; nothing was changed"),
        )),
    }
}
