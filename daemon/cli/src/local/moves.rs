//! Where a store is that is exported or imported, and what is done with it: a file, or a database.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::database::Database;
use super::filter::Filter;
use super::records::{self, Written};
use super::secrets::sealing;
use super::transfer::{Reading, Unfit, Writing};
use super::{ConfigFlags, STORE_FILE, unread};
use crate::failure::Failure;
use crate::progress::Counted;
use stormhook_store::{Item, Keys, StoreError};
use tokio::runtime::Handle;

/// Buffers of the export that is read or written.
const BUFFER_BYTES: usize = 256 << 10;

/// A store that no daemon of this machine has open, or a database.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Database(Box<Database>),
}

fn refused(error: &StoreError) -> Failure {
    Failure::No(error.to_string())
}

impl Place {
    /// Returns the place that the configuration names.
    pub(crate) fn of(flags: &ConfigFlags) -> Result<Self, Failure> {
        let (config, _) = flags.load()?;
        Ok(match Database::in_config(&config)? {
            Some(database) => Self::Database(Box::new(database)),
            None => Self::File(config.data_dir.join(STORE_FILE)),
        })
    }

    /// Makes sure that no daemon starts on the store from now on, and says where it went. A daemon that uses it is an
    /// error.
    pub(crate) async fn mark_moved(&self, to: &str) -> Result<(), Failure> {
        let marked = match self {
            Self::File(path) => match stormhook_store::moved_to(path) {
                Ok(Some(to)) => Err(StoreError::Moved {
                    what: path.display().to_string(),
                    to,
                }),
                Ok(None) => stormhook_store::mark_moved(path, to),
                Err(error) => Err(error),
            },
            Self::Database(database) => database.mark_moved(to).await,
        };
        marked.map_err(|error| refused(&error))
    }

    /// Takes that mark away, and returns where the store went.
    pub(crate) async fn reopen(&self) -> Result<Option<String>, Failure> {
        let reopened = match self {
            Self::File(path) => stormhook_store::reopen(path),
            Self::Database(database) => database.reopen().await,
        };
        reopened.map_err(|error| refused(&error))
    }

    /// Takes away what an import left that has not ended.
    pub(crate) async fn discard_import(&self) -> Result<bool, Failure> {
        let discarded = match self {
            Self::File(path) => stormhook_store::discard_import(path),
            Self::Database(database) => database.discard_import().await,
        };
        discarded.map_err(|error| refused(&error))
    }

    /// Writes the records for analysis.
    pub(crate) fn write_records(
        &self,
        filter: &Filter,
        out: &mut dyn Write,
    ) -> Result<Written, Failure> {
        match self {
            Self::File(path) => records::write_records(path, filter, out),
            Self::Database(database) => {
                let mut records = records::FromItems::new(filter, out);
                let passed =
                    Handle::current().block_on(database.export(false, |item| records.item(item)));
                passed.map_err(|error| refused(&error))?;
                records.end()
            }
        }
    }

    /// Writes everything that a move needs. With `moving`, no daemon can start on the store until it is written, and
    /// from then on it is marked.
    pub(crate) fn write_all(
        &self,
        keys: Arc<Keys>,
        moving: Option<&str>,
        out: &mut dyn Write,
        progress: &Counted,
    ) -> Result<Vec<(String, u64)>, Failure> {
        let output = |error: std::io::Error| Failure::output(&error);
        let mut writing = Writing::begin(out).map_err(output)?;
        let mut failed = None;
        let each = |item: Item| match writing.item(&item) {
            Ok(()) => {
                progress.add(1);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        };
        let runtime = Handle::current();
        // Of a file, it keeps daemons away while it exists.
        let reader = match self {
            Self::File(path) => {
                let reader = stormhook_store::read_file_with_secrets(path, Arc::clone(&keys));
                Some(reader.map_err(|e| unread(&e))?)
            }
            Self::Database(_) => None,
        };
        if let Some(to) = moving {
            runtime.block_on(self.mark_moved(to))?;
        }
        let passed = match (self, &reader) {
            (Self::Database(database), _) => {
                let database = (**database).clone().with_keys(keys);
                runtime.block_on(database.export(true, each))
            }
            (_, Some(reader)) => reader.items(each),
            (_, None) => Ok(()),
        };
        let written = match (passed, failed) {
            (Err(error), _) => Err(unread(&error)),
            (_, Some(error)) => Err(output(error)),
            _ => writing.end().map_err(output),
        };
        if written.is_err() && moving.is_some() {
            // Nothing was moved.
            runtime.block_on(self.reopen())?;
        }
        Ok(written?.into_iter().collect())
    }

    /// Makes the store of an export. Secrets are encrypted if there is a current key.
    pub(crate) fn import(
        &self,
        keys: Arc<Keys>,
        from: impl BufRead,
        progress: &Counted,
    ) -> Result<Vec<(String, u64)>, Failure> {
        let mut reading = Reading::begin(from).map_err(|unfit| failure(&unfit))?;
        let next = || {
            progress.add(1);
            reading.next()
        };
        let imported = match self {
            Self::File(path) => {
                make_folder(path)?;
                stormhook_store::import_file(path, sealing(keys), next)
            }
            Self::Database(database) => {
                let database = (**database).clone().with_keys(keys);
                Handle::current().block_on(database.import(next))
            }
        };
        imported.map_err(|unfit| failure(&unfit))?;
        Ok(reading.counts.into_iter().collect())
    }
}

fn failure(unfit: &Unfit) -> Failure {
    match unfit {
        Unfit::Store(StoreError::Damaged { what, detail }) => Failure::No(format!(
            "the export doesn't make a whole store: {what}: {detail}. Nothing was imported"
        )),
        unfit => Failure::No(unfit.to_string()),
    }
}

/// Makes the directory of a store, as a daemon does.
fn make_folder(store: &Path) -> Result<(), Failure> {
    let Some(folder) = store.parent() else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|error| Failure::local(&format!("make {}", folder.display()), &error))
}

/// Opens an export: a file, or stdin for `-`.
pub(crate) fn open_export(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path)
        .map_err(|error| Failure::local(&format!("read {}", path.display()), &error))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)))
}
