//! The identity of a data directory whose store is in a database, and the lock that only one process may have.
//!
//! A daemon that starts again takes its former seat at once: nobody else can have had this directory meanwhile.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The name of the file in the data directory.
const FILE: &str = "daemon-id";

/// Why the directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process uses it.
    #[error("{} is in use by another stormhook: stop it, or set another data_dir", .0.display())]
    InUse(PathBuf),
    /// The system refuses.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The identity of a data directory, which no other process uses as long as this is held.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: Uuid,
    _locked: File,
}

/// Locks the directory, and returns its identity, which is made the first time.
pub(crate) fn of(folder: &Path) -> Result<Identity, IdentityError> {
    let path = folder.join(FILE);
    let failed = |doing| {
        let path = path.clone();
        move |source| IdentityError::Io {
            doing,
            path,
            source,
        }
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("opening"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(IdentityError::InUse(folder.to_owned())),
        Err(error) => return Err(failed("locking")(error.into())),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed("reading"))?;
    let known = text.trim().parse().ok();
    let id = match known {
        Some(id) => id,
        None => {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|error| {
                failed("drawing random bytes for")(std::io::Error::other(error))
            })?;
            let id = Uuid::from_bytes(random);
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .and_then(|_| writeln!(file, "{id}"))
                .and_then(|()| file.sync_all())
                .map_err(failed("writing"))?;
            id
        }
    };
    Ok(Identity { id, _locked: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_identity_and_is_one_process_s_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = of(folder.path()).unwrap();
        let again = of(folder.path());
        assert!(matches!(again, Err(IdentityError::InUse(_))), "{again:?}");
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text.trim().parse(), Ok(first.id));
        let id = first.id;
        drop(first);
        assert_eq!(of(folder.path()).unwrap().id, id);
    }
}
