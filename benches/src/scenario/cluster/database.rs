//! The PostgreSQL of a run: its settings, its databases, and what work costs it.

use std::path::Path;
use std::time::Duration;

use stormhook_test_postgres::Server;
use tokio_postgres::{Client, NoTls};

use crate::clock;
use crate::error::{BenchError, Doing, Result};
use crate::proc;

/// The settings that differ from PostgreSQL's own, and those that durability depends on.
pub(super) const SETTINGS: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "wal_compression=lz4",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=15min",
    "max_connections=200",
    "jit=off",
];

/// How long the processes of closed connections may take to end.
const CLOSE_TIMEOUT_S: f64 = 10.0;

/// A server with a folder and a socket of its own.
pub(super) struct Database {
    server: Server,
    client: Client,
}

/// What has been used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// CPU time of all processes of the server.
    pub(super) server_us: u64,
    /// CPU time of its clients.
    pub(super) clients_us: u64,
    /// Bytes of write-ahead log.
    pub(super) wal_bytes: i64,
}

/// Rows of a database's tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeadRows {
    /// Updated or deleted so far.
    pub(super) made: i64,
    /// Not removed yet.
    pub(super) left: i64,
}

impl Database {
    /// Starts the server, with its data on the disk of `root`.
    pub(super) async fn start(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).doing(format!("making {}", root.display()))?;
        let server = Server::start_with_data_in(root, SETTINGS);
        let client = connect(&server, "postgres").await?;
        Ok(Self { server, client })
    }

    /// Returns the folder of its socket.
    pub(super) fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// Returns `store.url` of a database.
    pub(super) fn store_url(&self, name: &str) -> String {
        self.server.store_url_of(name)
    }

    /// Connects to a database.
    pub(super) async fn connect(&self, name: &str) -> Result<Client> {
        connect(&self.server, name).await
    }

    /// Returns the version and the settings as text.
    pub(super) async fn described(&self) -> Result<String> {
        let version = self.client.query_one("SHOW server_version", &[]).await;
        let version: String = version.doing("asking for the version")?.get(0);
        Ok(format!("PostgreSQL {version}: {}", SETTINGS.join(", ")))
    }

    /// Creates an empty database.
    pub(super) async fn create(&self, name: &str) -> Result<()> {
        let sql = format!("CREATE DATABASE {name}");
        self.run(&sql).await
    }

    /// Drops a database, and closes what is connected to it.
    pub(super) async fn drop(&self, name: &str) -> Result<()> {
        let sql = format!("DROP DATABASE {name} WITH (FORCE)");
        self.run(&sql).await
    }

    /// Writes everything to its files, so that each measurement begins with the same.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        self.run("CHECKPOINT").await
    }

    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.doing(sql)
    }

    /// Returns what the server and these clients have used so far.
    pub(super) async fn used(&self, clients: &[u32]) -> Result<Used> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8";
        let wal = self.client.query_one(sql, &[]).await;
        let wal_bytes = wal.doing("asking for the end of the log")?.get(0);
        let mut clients_us = 0;
        for pid in clients {
            clients_us += proc::cpu_us(*pid)?;
        }
        Ok(Used {
            server_us: proc::family_cpu_us(self.server.pid())?,
            clients_us,
            wal_bytes,
        })
    }

    /// Returns the dead rows of a database whose clients have ended: a connection reports its last ones when it ends.
    pub(super) async fn dead_rows(&self, name: &str) -> Result<DeadRows> {
        let started_ns = clock::monotonic_ns();
        loop {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
            let open = self.client.query_one(sql, &[&name]).await;
            let open: i64 = open.doing("counting connections")?.get(0);
            if open == 0 {
                break;
            }
            if clock::seconds_since(started_ns) > CLOSE_TIMEOUT_S {
                let wrong = format!("{open} connections to {name} are still open");
                return Err(BenchError::wrong(wrong));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let client = self.connect(name).await?;
        let sql = "SELECT sum(n_tup_upd + n_tup_del)::int8, sum(n_dead_tup)::int8 FROM pg_stat_user_tables";
        let row = client
            .query_one(sql, &[])
            .await
            .doing("counting dead rows")?;
        Ok(DeadRows {
            made: row.get::<_, Option<i64>>(0).unwrap_or(0),
            left: row.get::<_, Option<i64>>(1).unwrap_or(0),
        })
    }
}

async fn connect(server: &Server, name: &str) -> Result<Client> {
    let folder = server.folder().display();
    let config = format!("host={folder} user=postgres dbname={name}");
    let connecting = tokio_postgres::connect(&config, NoTls).await;
    let (client, connection) = connecting.doing(format!("connecting to {name}"))?;
    // It ends with the client.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}
