//! A connection: opens it, prepares each statement once, and says in plain words what went wrong.

use crate::options::Options;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stormhook_store::StoreError;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, Statement};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// Returns the error with what the server said.
pub(crate) fn failed(error: &tokio_postgres::Error) -> StoreError {
    StoreError::Database(match error.as_db_error() {
        Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        None => {
            let cause = std::error::Error::source(error);
            cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        }
    })
}

/// A connection with its prepared statements.
pub(crate) struct Link {
    pub(crate) client: Client,
    schema: String,
    prepared: Mutex<HashMap<&'static str, Statement>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Opens a connection, every statement of which has a timeout.
    pub(crate) async fn open(options: &Options) -> Result<Arc<Self>, StoreError> {
        let mut config: Config = options.url.parse().map_err(|e| failed(&e))?;
        let timeout_ms = options.statement_timeout.as_millis();
        config
            .application_name("stormhook")
            .options(format!("-c statement_timeout={timeout_ms}"));
        let connecting = tokio::time::timeout(CONNECT, config.connect(NoTls));
        let (client, connection) = connecting
            .await
            .map_err(|_| StoreError::Database("it did not answer within 5 s".to_owned()))?
            .map_err(|e| failed(&e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database ended");
            }
        });
        Ok(Arc::new(Self {
            client,
            schema: options.schema.clone(),
            prepared: Mutex::default(),
        }))
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
