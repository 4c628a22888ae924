//! Encrypts the secrets of the store in the background, decrypts them or changes their key: as the configuration says
//! when the daemon starts, and as was begun since.

use super::Maintenance;
use crate::clock;
use crate::store::Reader;
use crate::writer::{SubmitError, Writer};
use std::time::Duration;
use stormhook_store::Form;
use stormhook_store::maintenance::{Reseal, Resealed};

/// How long a step that failed waits until it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The progress.
pub(super) struct Resealing {
    resealer: Resealer,
    /// What the configuration says, until that is begun.
    wanted: Option<Form>,
    /// Whether something was begun that is not finished.
    is_unfinished: bool,
    /// When a step that failed is tried again.
    pub(super) again_at: Option<tokio::time::Instant>,
}

impl Resealing {
    pub(super) fn new(reader: &Reader) -> Self {
        Self {
            resealer: Resealer::of(reader),
            wanted: reader.form_wanted(),
            is_unfinished: false,
            again_at: None,
        }
    }
}

/// What writes endpoints in another form.
enum Resealer {
    /// The writer, in commits.
    File,
    /// A connection of its own, beside the writer.
    #[cfg(feature = "postgres")]
    Postgres(Box<stormhook_postgres::Resealer>),
}

impl Resealer {
    fn of(reader: &Reader) -> Self {
        match reader {
            Reader::File(_) => Self::File,
            #[cfg(feature = "postgres")]
            Reader::Postgres(reader) => Self::Postgres(Box::new(reader.resealer())),
        }
    }

    /// Writes some endpoints in this form, which a database has begun already.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
    async fn step(
        &mut self,
        writer: &Writer,
        to: Form,
        random: u128,
    ) -> Result<Resealed, SubmitError> {
        match self {
            Self::File => writer.submit(Reseal { to }).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(resealer) => resealer.step(random).await.map_err(|error| {
                tracing::debug!(%error, "the database could not rewrite secrets");
                SubmitError::StoreFailed
            }),
        }
    }
}

impl Maintenance {
    /// Writes some endpoints in the form that the store is to have. Returns whether there are more.
    pub(super) async fn reseal(&self, work: &mut Resealing) -> bool {
        if work.again_at.is_some() {
            return false;
        }
        let found = self.reader.at_rest();
        let begun = found.before.map(|_| found.form);
        let Some(to) = begun.or(work.wanted) else {
            return false;
        };
        if !std::mem::replace(&mut work.is_unfinished, true) {
            tracing::info!(form = %to, "rewriting the secrets of the store");
        }
        let random = self.clock.environment().random_u128();
        match work.resealer.step(&self.writer, to, random).await {
            Ok(done) if done.left == 0 => {
                work.is_unfinished = false;
                tracing::info!(form = %done.at_rest.form, "all secrets of the store are rewritten; earlier bytes can remain in free pages until `stormhook compact`");
                if Some(done.at_rest.form) == work.wanted {
                    work.wanted = None;
                }
                work.wanted.is_some()
            }
            Ok(_) => true,
            Err(SubmitError::ShuttingDown) => {
                work.again_at = Some(clock::deadline(AGAIN));
                false
            }
            Err(error) => {
                tracing::warn!(%error, "secrets could not be rewritten; it is tried again");
                work.again_at = Some(clock::deadline(AGAIN));
                false
            }
        }
    }
}
