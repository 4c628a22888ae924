//! A connection: opens it, prepares each statement once, and says in plain words what went wrong.

use crate::options::Options;
use crate::tls::words;
use crate::url;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stormhook_store::{Keys, StoreError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Connection, Error, NoTls, Statement};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before it is probed, and how long each probe waits. The system counts in seconds.
const SILENT: Duration = Duration::from_secs(3);
const SILENT_LEAST: Duration = Duration::from_secs(1);
/// How long reading what waits may take.
const READING: Duration = Duration::from_secs(600);

/// Returns the error with what the server said.
pub(crate) fn failed(error: &Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        if let Some(what) = words::inside(error) {
            return StoreError::Unreachable(what);
        }
        let cause = std::error::Error::source(error);
        let what = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        return StoreError::Unreachable(what);
    };
    let code = said.code();
    let what = format!("{} (SQLSTATE {})", said.message(), code.code());
    if *code == SqlState::DISK_FULL {
        StoreError::DatabaseFull(what)
    } else if is_conflict(code) {
        StoreError::Conflict(what)
    } else if is_away(code) {
        StoreError::Unreachable(what)
    } else {
        StoreError::Database(what)
    }
}

/// Whether the server chose to roll this transaction back so that others can go on.
fn is_conflict(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .contains(code)
}

/// Whether a server that answers so takes no statements at the moment.
fn is_away(code: &SqlState) -> bool {
    let away = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    away.contains(code) || code.code().starts_with("08")
}

/// Returns the settings of a session. Of those that are there twice the last one counts: what the URL sets, but for the
/// times of reading.
fn settings(options: &Options, timeout: Duration, set: Option<&str>) -> String {
    let set = set.unwrap_or_default();
    let timeout_ms = timeout.as_millis();
    let ours = format!(
        "-c statement_timeout={timeout_ms} -c client_min_messages=warning -c plan_cache_mode={PLANS}"
    );
    if timeout == READING {
        return format!("{set} {ours}");
    }
    // A daemon that is cut off or paused in the middle of a commit would hold its lane's lock, and so keep others from
    // taking over.
    let idle_ms = options.lease.as_millis();
    format!("{ours} -c idle_in_transaction_session_timeout={idle_ms} {set}")
}

/// Opens a connection, and drives it in a task of its own.
async fn driven<S, T>(
    connecting: impl Future<Output = Result<(Client, Connection<S, T>), Error>>,
) -> Result<Client, StoreError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = connecting.await.map_err(|e| failed(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    Ok(client)
}

/// A connection with its prepared statements.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// The keys of the secrets that are read over it.
    pub(crate) keys: Arc<Keys>,
    schema: String,
    prepared: Mutex<HashMap<&'static str, Statement>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

/// How statements are planned: each time they run. `open` is empty and has a hundred thousand rows within a second, and a
/// plan that was made for an empty table and kept reads all of it (`tests/plans.rs`).
pub(crate) const PLANS: &str = "force_custom_plan";

impl Link {
    /// Opens a connection, every statement of which has a timeout.
    pub(crate) async fn open(options: &Options) -> Result<Arc<Self>, StoreError> {
        Self::connect(options, options.statement_timeout).await
    }

    /// Opens a connection for statements that read a whole shard.
    pub(crate) async fn open_for_reading(options: &Options) -> Result<Arc<Self>, StoreError> {
        Self::connect(options, READING).await
    }

    async fn connect(options: &Options, timeout: Duration) -> Result<Arc<Self>, StoreError> {
        let invalid = |what: String| StoreError::Unreachable(format!("store.url: {what}"));
        let (mut config, tls) = url::read(&options.url).map_err(invalid)?;
        let settings = settings(options, timeout, config.get_options());
        let silent = SILENT.min(options.lease / 4).max(SILENT_LEAST);
        config
            .application_name("stormhook")
            .options(settings)
            // A network that is cut is noticed before the lease ends, so that nobody waits for it much longer.
            .keepalives_idle(silent)
            .keepalives_interval(silent)
            .keepalives_retries(2)
            .tcp_user_timeout(SILENT.saturating_mul(3).min(options.lease));
        let connecting = async {
            if let Some(dial) = &options.dial {
                return driven(config.connect_raw(dial.dial(), NoTls)).await;
            }
            // The files of certificates may be long.
            let connector = tokio::task::spawn_blocking(move || tls.connector()).await;
            let connector =
                connector.map_err(|error| StoreError::Unreachable(error.to_string()))?;
            match connector.map_err(invalid)? {
                Some(connector) => driven(config.connect(connector)).await,
                None => driven(config.connect(NoTls)).await,
            }
        };
        let client = tokio::time::timeout(CONNECT, connecting).await;
        let client = client
            .map_err(|_| StoreError::Unreachable("it did not answer within 5 s".to_owned()))??;
        Ok(Arc::new(Self {
            client,
            keys: Arc::clone(&options.keys),
            schema: options.schema.clone(),
            prepared: Mutex::default(),
        }))
    }

    /// Does `work` in a transaction, which is rolled back if it fails or returns `None`.
    pub(crate) async fn in_transaction<T>(
        &self,
        work: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        let begun = self.client.batch_execute("BEGIN").await;
        begun.map_err(|e| failed(&e))?;
        let done = work.await;
        let end = match done {
            Ok(Some(_)) => "COMMIT",
            _ => "ROLLBACK",
        };
        let ended = self.client.batch_execute(end).await;
        let done = done?;
        ended.map_err(|e| failed(&e))?;
        Ok(done)
    }

    /// Returns `sql` for this schema, whose place it names as `@`.
    pub(crate) fn sql(&self, sql: &str) -> String {
        sql.replace('@', &self.schema)
    }

    /// Prepares a statement, once for each connection.
    pub(crate) async fn prepare(
        &self,
        sql: &'static str,
        types: &[Type],
    ) -> Result<Statement, StoreError> {
        let known = |link: &Self| {
            let prepared = link.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.get(sql).cloned()
        };
        if let Some(statement) = known(self) {
            return Ok(statement);
        }
        let text = self.sql(sql);
        let statement = self.client.prepare_typed(&text, types).await;
        let statement = statement.map_err(|e| failed(&e))?;
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_plans_each_time_and_bounds_its_statements() {
        let options = Options::new("postgres://h/d");
        for timeout in [options.statement_timeout, READING] {
            let settings = settings(&options, timeout, Some("-c work_mem=1MB"));
            for expected in [
                "-c plan_cache_mode=force_custom_plan",
                &format!("-c statement_timeout={}", timeout.as_millis()),
                "-c work_mem=1MB",
            ] {
                assert!(settings.contains(expected), "{settings}");
            }
            let ends_idle = settings.contains("idle_in_transaction_session_timeout");
            assert_eq!(ends_idle, timeout != READING, "{settings}");
        }
    }
}
