//! A database in trouble under load: locks that somebody holds, no connection left. The daemons refuse what they can't
//! store, and go on by themselves.

use super::{metric, on, shared_out, start_each};
use crate::support::{Daemon, Setup, load, until};
use std::time::Duration;
use stormhook_test_postgres::Server;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// Opens a session, which ends when it is dropped.
pub(super) async fn session(server: &Server) -> Result<Client, tokio_postgres::Error> {
    let url = Server::url_of(server.folder());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Waits until no daemon has renewed its lease for longer than it lasts.
async fn all_leases_end(daemons: &[Daemon]) {
    for daemon in daemons {
        until("its lease has ended", async || {
            let age = metric(daemon, "cluster_lease_age_seconds").await;
            (age > 2.0).then_some(())
        })
        .await;
    }
}

/// Nobody was taken over from, and each has its share.
pub(super) async fn expect_undisturbed(daemons: &mut [Daemon]) {
    shared_out(&daemons[0], daemons.len()).await;
    for daemon in daemons {
        assert!(!daemon.has_ended());
        assert_eq!(metric(daemon, "cluster_takeovers_total").await, 0.0);
    }
}

/// A lock, and what shows that it was held for long enough.
enum Until {
    Refused,
    LeasesEnd,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_wait_for_locks_are_given_up_and_nothing_is_lost_or_sent_twice() {
    let server = Server::start();
    let seed = load::seed();
    let url = format!(
        r#""{}&options=-c%20statement_timeout%3D1s""#,
        server.store_url()
    );
    let setup = |_| on(&server, load::setup()).set("store.url", &url);
    let mut daemons = start_each(2, setup).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    for (lock, held) in [
        ("LOCK TABLE stormhook.events", Until::Refused),
        ("LOCK TABLE stormhook.open", Until::Refused),
        (
            "SELECT FROM stormhook.lanes WHERE lane = 0 FOR UPDATE",
            Until::Refused,
        ),
        ("LOCK TABLE stormhook.seats", Until::LeasesEnd),
    ] {
        load.goes_on(50).await;
        let session = session(&server).await.unwrap();
        let locked = session.batch_execute(&format!("BEGIN; {lock}")).await;
        locked.unwrap();
        match held {
            Until::Refused => load.is_refused(8).await,
            Until::LeasesEnd => all_leases_end(&daemons).await,
        }
        eprintln!("{lock}: {:?}", load.refused());
        session.batch_execute("ROLLBACK").await.unwrap();
        load.goes_on(50).await;
    }
    let refused = load.refused();
    assert!(refused.slowest < Duration::from_secs(8), "{refused:?}");
    expect_undisturbed(&mut daemons).await;
    load.finish(&daemons[0], 0).await;
}

/// Takes every connection that is left.
async fn take_all(server: &Server, sessions: &mut Vec<Client>) {
    loop {
        match session(server).await {
            Ok(session) => sessions.push(session),
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::TOO_MANY_CONNECTIONS));
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_connection_left_daemons_go_on_or_refuse_and_one_that_starts_says_why_it_can_not()
{
    let server = Server::start_with(&["max_connections=16"]);
    let seed = load::seed();
    let mut daemons = start_each(2, |_| on(&server, load::setup())).await;
    let load = load::Load::over(&daemons, seed, Duration::from_millis(2)).await;
    load.goes_on(100).await;
    let mut sessions = Vec::new();
    take_all(&server, &mut sessions).await;
    // Those that run have theirs.
    load.goes_on(100).await;
    let Err(refused) = on(&server, Setup::new()).try_start().await else {
        panic!("it started");
    };
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.log.contains("too many clients already"),
        "{}",
        refused.log
    );
    // They lose theirs too, until none has any.
    until("no daemon has a connection", async || {
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'stormhook'";
        let ended: i64 = sessions[0].query_one(end, &[]).await.unwrap().get(0);
        take_all(&server, &mut sessions).await;
        (ended == 0).then_some(())
    })
    .await;
    load.is_refused(20).await;
    all_leases_end(&daemons).await;
    drop(sessions);
    load.goes_on(200).await;
    let refused = load.refused();
    assert!(refused.slowest < Duration::from_secs(8), "{refused:?}");
    expect_undisturbed(&mut daemons).await;
    load.finish(&daemons[0], 0).await;
}
