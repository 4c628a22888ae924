//! A disk of the database that fills up under load and is freed again. The disks are small file systems in memory that
//! the test mounts in its own namespace.

use super::database::{expect_undisturbed, session};
use super::{on, start_each};
use crate::support::{load, namespaces, until};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stormhook_test_postgres::Server;
use tempfile::TempDir;

struct Disk(TempDir);

impl Disk {
    fn of_mib(mib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(folder.path())
            .status();
        assert!(mounted.unwrap().success());
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for bytes in [1 << 20, 1 << 12] {
            let full = loop {
                if let Err(error) = file.write_all(&vec![1; bytes]) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(self.path()).status();
    }
}

/// Begins segment after segment of the write-ahead log, until the server ends its sessions.
async fn use_up(server: &Server) {
    let session = session(server).await.unwrap();
    // It needs something that was written meanwhile.
    let next = "SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()";
    while session.query(next, &[]).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_disk_of_the_tables_full_events_are_refused_until_there_is_room() {
    let name =
        "cluster::disk::with_the_disk_of_the_tables_full_events_are_refused_until_there_is_room";
    if !namespaces::entered(name) {
        return;
    }
    let (tables, log) = (Disk::of_mib(128), Disk::of_mib(128));
    let server = Server::start_on(tables.path(), Some(log.path()));
    let seed = load::seed();
    let mut daemons = start_each(2, |_| on(&server, load::setup())).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    for _ in 0..2 {
        load.goes_on(200).await;
        tables.fill();
        load.is_refused(20).await;
        assert!(load.refused().codes.contains_key("storage_full"));
        tables.free();
        load.goes_on(200).await;
    }
    expect_undisturbed(&mut daemons).await;
    load.finish(&daemons[0], 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_disk_of_the_log_full_the_server_ends_and_nothing_acknowledged_is_lost() {
    let name = "cluster::disk::with_the_disk_of_the_log_full_the_server_ends_and_nothing_acknowledged_is_lost";
    if !namespaces::entered(name) {
        return;
    }
    let (tables, log) = (Disk::of_mib(128), Disk::of_mib(48));
    let mut server = Server::start_on(tables.path(), Some(log.path()));
    let seed = load::seed();
    let mut daemons = start_each(2, |_| on(&server, load::setup())).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    for _ in 0..2 {
        load.goes_on(200).await;
        log.fill();
        // Segments that were used before are used again, until there is none.
        let refused = load.is_refused(20);
        tokio::join!(refused, use_up(&server));
        log.free();
        // It starts again by itself, or ends if it can't even do that: as its supervisor does.
        let before = load.acknowledged();
        until("events are acknowledged", async || {
            if !server.is_running() {
                server.start_again();
            }
            (load.acknowledged() >= before + 200).then_some(())
        })
        .await;
    }
    expect_undisturbed(&mut daemons).await;
    load.finish(&daemons[0], 0).await;
}
