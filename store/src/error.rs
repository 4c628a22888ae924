//! Errors of the file, by whose fault they are.

use std::path::PathBuf;

/// Why the store can't perform an operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error(
        "{path} is open in another process: stop that stormhook first, or set another data_dir"
    )]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version.
    #[error(
        "{what} has format {found}, this stormhook reads up to {known}: run the newer version that wrote it"
    )]
    Newer {
        /// The object that was read.
        what: String,
        /// Its version.
        found: u32,
        /// The newest known version.
        known: u32,
    },
    /// The file was written before version 1 of the format was settled.
    #[error(
        "{what} predates version 1 of the format and can only be read by the build that wrote it: let that build deliver the pending events, then set another data_dir"
    )]
    Draft {
        /// The object that was read.
        what: String,
    },
    /// The store was moved to another one.
    #[error(
        "{what} was moved to {to}: start the daemon on that store. If nothing was started there, `stormhook reopen` makes this one usable again"
    )]
    Moved {
        /// The store.
        what: String,
        /// Where it went.
        to: String,
    },
    /// An import into the store has not ended.
    #[error(
        "an import into {what} has not ended: run `stormhook import` again, from its beginning; `stormhook import --discard` gives it up"
    )]
    Importing {
        /// The store.
        what: String,
    },
    /// The store has something in it.
    #[error("{what} is not empty: import into a new store")]
    Occupied {
        /// The store.
        what: String,
    },
    /// The key that secrets of the store are encrypted with is not there.
    #[error("the secrets of {what} are encrypted with key {wanted}, and {found}: {do_this}")]
    KeyMissing {
        /// The store.
        what: String,
        /// The key.
        wanted: crate::ids::KeyId,
        /// Which keys there are, as part of the sentence.
        found: String,
        /// What to do.
        do_this: String,
    },
    /// Damaged bytes.
    #[error(
        "{what} is damaged ({detail}): run `stormhook check`, and restore a backup if it names what you need"
    )]
    Damaged {
        /// The damaged object.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An operation on a delivery that its status doesn't allow.
    #[error("{0}")]
    Illegal(#[from] crate::delivery::lifecycle::IllegalMove),
    /// The operating system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A commit failed, and whether it took effect is not known until the file has been opened again.
    #[error("the last commit failed, and whether it took effect is not known yet: {0}")]
    InDoubt(String),
    /// A commit failed and nothing of it was stored.
    #[error("the commit failed and nothing of it was stored: {0}")]
    NotCommitted(Box<StoreError>),
    /// A database refused a statement.
    #[error("the database: {0}")]
    Database(String),
    /// A database rolled a transaction back in favour of another one: it may be tried again.
    #[error("the database: {0}")]
    Conflict(String),
    /// A database can't be reached.
    #[error("the database can't be reached: {0}")]
    Unreachable(String),
    /// The disk of a database is full.
    #[error("the disk of the database is full: {0}")]
    DatabaseFull(String),
    /// Another process writes what this one wrote before: this one must end.
    #[error("another daemon has taken over from this one, which must stop")]
    TakenOver,
    /// A row that a batch needs is not in memory yet: it is fetched, and the batch is decided again.
    #[error("a row was not fetched")]
    NotFetched,
    /// An error of the engine.
    #[error("the store's engine: {0}")]
    Engine(#[from] redb::Error),
}

macro_rules! from_engine {
    ($($kind:ty),*) => {$(
        impl From<$kind> for StoreError {
            fn from(error: $kind) -> Self {
                Self::Engine(error.into())
            }
        }
    )*};
}

from_engine!(
    redb::StorageError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);

impl From<redb::TableError> for StoreError {
    /// A table's name and types are the same in every version: if the file says otherwise, it is damaged.
    fn from(error: redb::TableError) -> Self {
        use redb::TableError as Found;
        match error {
            Found::TableTypeMismatch { .. }
            | Found::TableIsMultimap(_)
            | Found::TableIsNotMultimap(_)
            | Found::TypeDefinitionChanged { .. }
            | Found::TableDoesNotExist(_) => {
                Self::damaged("the file's list of tables", error.to_string())
            }
            _ => Self::Engine(error.into()),
        }
    }
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Engine(redb::Error::Io(e)) | Self::Io { source: e, .. } => {
                e.kind() == std::io::ErrorKind::StorageFull
            }
            Self::DatabaseFull(_) => true,
            Self::NotCommitted(cause) => cause.is_disk_full(),
            Self::InDoubt(text) => text.contains("No space left"),
            _ => false,
        }
    }

    /// Whether a database could not be reached, so that nothing was stored.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::NotCommitted(cause) => cause.is_unreachable(),
            _ => false,
        }
    }

    /// Whether another process has taken over.
    pub fn is_taken_over(&self) -> bool {
        match self {
            Self::TakenOver => true,
            Self::NotCommitted(cause) => cause.is_taken_over(),
            _ => false,
        }
    }

    /// Whether it is damage, of a record or of a page of the engine.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Engine(redb::Error::Corrupted(_)) => true,
            Self::NotCommitted(cause) => cause.is_damage(),
            _ => false,
        }
    }

    /// Returns damage of this object.
    pub fn damaged(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            detail: detail.into(),
        }
    }
}
