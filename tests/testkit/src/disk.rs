//! A simulated disk: it remembers what was written since the last sync, can lose any part of it, and can fail.

use crate::random::Random;
use redb::StorageBackend;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard};

/// Disks write sectors of this size completely or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
pub enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// The operations on a disk that keeps a record, in order.
#[derive(Clone, Debug)]
pub enum Done {
    Changed(Change),
    Synced,
}

/// The unsynced writes that survive a crash.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    All,
    Nothing,
    /// Each write with a probability of this many eighths.
    Some(u64),
    /// The same, with every fourth of those split by sectors.
    Torn(u64),
}

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    visible: Vec<u8>,
    unsynced: Vec<Change>,
    /// Processes that opened the disk before this many crashes are dead.
    crashes: u64,
    /// Writes and syncs until the power fails.
    power_for: Option<u64>,
    /// Whether syncs fail although the writes are kept.
    syncs_fail: bool,
    /// Whether writes fail for lack of space.
    full: bool,
    /// Every operation since recording began.
    record: Option<Vec<Done>>,
    /// The size beyond which growing fails too.
    capacity: Option<u64>,
    faults: Faults,
    /// Draws the faults.
    random: Random,
}

/// How often calls fail: one in this many; never if it is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub reads: u64,
    pub writes: u64,
    pub lengths: u64,
    pub syncs: u64,
    /// Whether a failed sync drops part of what it should have made durable: it can be read until the power fails, and
    /// no later sync writes it. The page caches of most systems behave like this.
    pub forgetful: bool,
}

impl Faults {
    /// Whether no call fails.
    pub fn are_none(self) -> bool {
        [self.reads, self.writes, self.lengths, self.syncs] == [0; 4]
    }
}

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// The disk as one process sees it.
#[derive(Debug)]
pub struct Opened {
    disk: Disk,
    crashes: u64,
}

impl Disk {
    pub fn of(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().visible.clone_from(&bytes);
        disk.state().durable = bytes;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn open(&self) -> Opened {
        let crashes = self.state().crashes;
        Opened {
            disk: self.clone(),
            crashes,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.state().visible.clone()
    }

    /// Replaces the bytes, as restoring a backup does.
    pub fn replace(&self, bytes: Vec<u8>) {
        let mut state = self.state();
        state.unsynced.clear();
        state.visible.clone_from(&bytes);
        state.durable = bytes;
        state.crashes += 1;
    }

    /// Changes a byte in place, without the knowledge of the process that has the disk open.
    pub fn flip(&self, at: usize, bits: u8) {
        let mut state = self.state();
        state.visible[at] ^= bits;
        state.durable[at] ^= bits;
    }

    /// Starts to record, and returns the bytes at that moment.
    pub fn start_recording(&self) -> Vec<u8> {
        let mut state = self.state();
        assert!(state.unsynced.is_empty(), "unsynced writes would be lost");
        state.record = Some(Vec::new());
        state.durable.clone()
    }

    /// Returns the length of the record.
    pub fn recorded(&self) -> usize {
        self.state().record.as_ref().map_or(0, Vec::len)
    }

    pub fn take_record(&self) -> Vec<Done> {
        self.state().record.take().unwrap_or_default()
    }

    /// Makes the power fail after this many more writes and syncs.
    pub fn power_for(&self, changes: Option<u64>) {
        self.state().power_for = changes;
    }

    pub fn power_is_gone(&self) -> bool {
        self.state().power_for == Some(0)
    }

    pub fn fail_syncs(&self, fail: bool) {
        self.state().syncs_fail = fail;
    }

    pub fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub fn faults(&self) -> Faults {
        self.state().faults
    }

    /// Runs `f` on a disk that doesn't fail, and whose power lasts: redb may write pages that it keeps in memory when it
    /// reads.
    pub fn without_faults<T>(&self, f: impl FnOnce() -> T) -> T {
        let take = |state: &mut State| (std::mem::take(&mut state.faults), state.power_for.take());
        let (faults, power_for) = take(&mut self.state());
        let result = f();
        let mut state = self.state();
        (state.faults, state.power_for) = (faults, power_for);
        result
    }

    pub fn seed(&self, seed: u64) {
        self.state().random = Random::seeded(seed);
    }

    pub fn limit(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    pub fn len(&self) -> u64 {
        u64::try_from(self.state().visible.len()).unwrap()
    }

    pub fn fill_up(&self, full: bool) {
        self.state().full = full;
    }

    /// Loses an arbitrary part of the unsynced writes: whole writes, or all but some sectors of one.
    pub fn crash(&self, random: &mut Random) {
        let mut state = self.state();
        state.crashes += 1;
        state.power_for = None;
        let unsynced = std::mem::take(&mut state.unsynced);
        // Sometimes all of it is kept, or none.
        let kept = Kept::Torn(random.below(9));
        survive(&mut state.durable, &unsynced, kept, random);
        state.visible = state.durable.clone();
    }
}

/// Turns the durable bytes into those after a crash.
pub fn survive(durable: &mut Vec<u8>, unsynced: &[Change], kept: Kept, random: &mut Random) {
    for change in unsynced {
        let (of_8, torn) = match kept {
            Kept::All => (8, false),
            Kept::Nothing => (0, false),
            Kept::Some(of_8) => (of_8, false),
            Kept::Torn(of_8) => (of_8, true),
        };
        if random.below(8) >= of_8 {
            continue;
        }
        match change {
            Change::Write(at, bytes) if torn && random.one_in(4) => {
                for (n, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    if random.one_in(2) {
                        let at = at + u64::try_from(n * SECTOR_BYTES).unwrap();
                        change_bytes(durable, &Change::Write(at, sector.to_vec()));
                    }
                }
            }
            whole => change_bytes(durable, whole),
        }
    }
}

impl State {
    fn fault(&mut self, one_in: u64) -> Result<()> {
        if one_in > 0 && self.random.one_in(one_in) {
            return Err(Error::other("the disk failed"));
        }
        Ok(())
    }
}

pub fn change_bytes(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, data) => {
            let at = usize::try_from(*at).unwrap();
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[at..at + data.len()].copy_from_slice(data);
        }
        Change::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
    }
}

impl Opened {
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.crashes != self.crashes || state.power_for == Some(0) {
            return Err(Error::other("the power is gone"));
        }
        Ok(state)
    }

    fn change(&self, change: Change) -> Result<()> {
        let mut state = self.state()?;
        let (one_in, end) = match &change {
            Change::Write(at, data) => (state.faults.writes, at + data.len() as u64),
            Change::Length(length) => (state.faults.lengths, *length),
        };
        state.fault(one_in)?;
        let grows = end > u64::try_from(state.visible.len()).unwrap();
        if state.full || grows && state.capacity.is_some_and(|most| end > most) {
            return Err(Error::new(
                ErrorKind::StorageFull,
                "No space left on device",
            ));
        }
        if let Some(left) = state.power_for.as_mut() {
            *left -= 1;
        }
        change_bytes(&mut state.visible, &change);
        if let Some(record) = &mut state.record {
            record.push(Done::Changed(change.clone()));
        }
        state.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for Opened {
    fn len(&self) -> Result<u64> {
        Ok(u64::try_from(self.state()?.visible.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut state = self.state()?;
        let one_in = state.faults.reads;
        state.fault(one_in)?;
        let at = usize::try_from(offset).unwrap();
        let read = state
            .visible
            .get(at..at + out.len())
            .ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.change(Change::Length(len))
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.state()?;
        if let Some(left) = state.power_for.as_mut() {
            *left -= 1;
            if *left == 0 {
                return Err(Error::other("the power is gone"));
            }
        }
        let one_in = state.faults.syncs;
        if state.syncs_fail || state.fault(one_in).is_err() {
            if state.faults.forgetful {
                for change in std::mem::take(&mut state.unsynced) {
                    // The file system's own journal keeps a length.
                    if matches!(change, Change::Length(_)) || state.random.one_in(2) {
                        change_bytes(&mut state.durable, &change);
                    }
                }
            }
            return Err(Error::other("the disk did not sync"));
        }
        if let Some(record) = &mut state.record {
            record.push(Done::Synced);
        }
        for change in std::mem::take(&mut state.unsynced) {
            change_bytes(&mut state.durable, &change);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}
