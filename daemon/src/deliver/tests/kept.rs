//! Connections that are kept for the next attempt, and what happens to a request when one of them ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_until_it_was_idle_for_too_long() {
    let (address, seen) = answering(OK).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    for _ in 0..5 {
        assert_eq!(attempt(&client, &to).await, status(200));
        tokio::time::sleep(Duration::from_millis(3_900)).await;
    }
    assert_eq!((seen.connections(), seen.requests()), (1, 5));
    seen.closed.notified().await;
    assert_eq!(client.inner.pool.idle_count(), 0);
    attempt(&client, &to).await;
    assert_eq!(seen.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_dropped_when_the_partner_says_it_will_close_it() {
    let answer = "HTTP/1.1 204 No Content\r\nKeep-Alive: max=5, timeout=2\r\n\r\n";
    let (address, seen) = answering(answer).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    attempt(&client, &to).await;
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    attempt(&client, &to).await;
    assert_eq!(seen.connections(), 1);
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    attempt(&client, &to).await;
    assert_eq!(seen.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_partner_closed_meanwhile_is_replaced_by_a_fresh_one() {
    for answer in [
        OK,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (address, seen) = partner(move |mut stream, seen| async move {
            read_request(&mut stream, &seen).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let (client, to) = (client(), target(&format!("http://{address}/")));
        for n in 1..=4 {
            assert_eq!(attempt(&client, &to).await, status(200));
            assert_eq!((seen.connections(), seen.requests()), (n, n));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_while_it_was_idle_is_not_used() {
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        seen.close.notified().await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    for n in 1..=4 {
        assert_eq!(attempt(&client, &to).await, status(200));
        assert_eq!((seen.connections(), seen.requests()), (n, n));
        assert_eq!(client.inner.pool.idle_count(), 1);
        seen.close.notify_one();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_pool_keeps_no_more_than_its_bound() {
    let client = client();
    for _ in 0..20 {
        let (address, _) = answering(OK).await;
        attempt(&client, &target(&format!("http://{address}/"))).await;
        assert!(client.inner.pool.idle_count() <= 8);
    }
    assert_eq!(client.inner.pool.idle_count(), 8);
}

#[tokio::test(start_paused = true)]
async fn dropping_an_attempt_closes_its_connection() {
    let (address, seen) = partner(|mut stream, seen| async move {
        while read_request(&mut stream, &seen).await.is_some() {}
    })
    .await;
    let attempt = tokio::time::timeout(Duration::from_secs(1), attempt_to(address)).await;
    assert!(attempt.is_err());
    seen.closed.notified().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_when_there_is_a_connection_is_not_sent() {
    let (address, seen) = answering(OK).await;
    let to = target(&format!("http://{address}/"));
    let client = client();
    let request = AttemptRequest {
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        excerpt_bytes: 16,
        still_wanted: &|| false,
    };
    assert_eq!(client.attempt(&to, request).await, Attempted::NotSent);
    assert_eq!(client.inner.pool.idle_count(), 1);
    assert_eq!(attempt(&client, &to).await, status(200));
    assert_eq!((seen.connections(), seen.requests()), (1, 1));
}

/// How a receiver ends a connection, with the next request read or not.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Reset,
    AfterOneByte,
}

/// Starts a receiver that answers the first `answers` requests of each connection and ends it at the next one.
async fn ending(answers: usize, end: End) -> (SocketAddr, Arc<Seen>) {
    partner(move |mut stream, seen| async move {
        for _ in 0..answers {
            if read_request(&mut stream, &seen).await.is_none() {
                return;
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        if read_request(&mut stream, &seen).await.is_none() {
            return;
        }
        match end {
            End::Close => {}
            End::Reset => stream.set_zero_linger().unwrap(),
            End::AfterOneByte => stream.write_all(b"H").await.unwrap(),
        }
    })
    .await
}

fn body() -> Bytes {
    Bytes::from_static(b"{}")
}

#[tokio::test(start_paused = true)]
async fn where_a_kept_connection_ends_before_a_byte_the_request_is_sent_once_more() {
    for end in [End::Close, End::Reset] {
        let (address, seen) = ending(1, end).await;
        let (client, to) = (client(), target(&format!("http://{address}/")));
        assert_eq!(
            attempt_with(&client, &to, body()).await,
            (status(200), false)
        );
        assert_eq!(
            attempt_with(&client, &to, body()).await,
            (status(200), true),
            "{end:?}"
        );
        assert_eq!((seen.connections(), seen.requests()), (2, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_new_connection_ends_the_request_is_not_sent_again() {
    for (end, says) in [
        (End::Close, "closed the connection before answering"),
        (End::Reset, "reset"),
        (End::AfterOneByte, "closed the connection before answering"),
    ] {
        let (address, seen) = ending(0, end).await;
        let (client, to) = (client(), target(&format!("http://{address}/")));
        let (reply, reconnected) = attempt_with(&client, &to, body()).await;
        assert_failed(&reply, Failure::Protocol, says);
        assert_eq!((reconnected, seen.requests()), (false, 1), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_kept_connection_ends_within_an_answer_the_request_is_not_sent_again() {
    let (address, seen) = ending(1, End::AfterOneByte).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    assert_eq!(attempt(&client, &to).await, status(200));
    let (reply, reconnected) = attempt_with(&client, &to, body()).await;
    assert_failed(
        &reply,
        Failure::Protocol,
        "closed the connection before answering",
    );
    assert_eq!((reconnected, seen.requests()), (false, 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_once_more_and_not_twice() {
    // The first connection answers one request; all others end at their first.
    let (address, seen) = partner(|mut stream, seen| async move {
        if seen.connections() == 1 && read_request(&mut stream, &seen).await.is_some() {
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        read_request(&mut stream, &seen).await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    assert_eq!(attempt(&client, &to).await, status(200));
    let (reply, reconnected) = attempt_with(&client, &to, body()).await;
    assert_failed(
        &reply,
        Failure::Protocol,
        "closed the connection before answering",
    );
    assert!(reconnected);
    assert_eq!((seen.connections(), seen.requests()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_sent_once_more_has_no_more_time_for_it() {
    // The first connection answers one request and ends at the next after 10 s; the second connection hangs.
    let (address, seen) = partner(|mut stream, seen| async move {
        let first = seen.connections() == 1;
        read_request(&mut stream, &seen).await;
        if first {
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_request(&mut stream, &seen).await;
            tokio::time::sleep(Duration::from_secs(10)).await;
            return;
        }
        read_request(&mut stream, &seen).await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    assert_eq!(attempt(&client, &to).await, status(200));
    let before = clock::deadline(Duration::ZERO);
    let (reply, reconnected) = attempt_with(&client, &to, body()).await;
    assert_failed(&reply, Failure::Timeout, "did not answer within 15s");
    assert_eq!(before.elapsed(), Duration::from_secs(15));
    assert_eq!((reconnected, seen.requests()), (true, 3));
}

#[tokio::test(start_paused = true)]
async fn a_large_request_that_a_kept_connection_cuts_is_sent_once_more() {
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        // Unread input turns the close into a reset.
        read_head(&mut stream, &seen).await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    let large = Bytes::from(vec![b'x'; 8 << 20]);
    for reconnected in [false, true] {
        let got = attempt_with(&client, &to, large.clone()).await;
        assert_eq!(got, (status(200), reconnected));
    }
    assert_eq!((seen.connections(), seen.requests()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn who_closes_kept_connections_again_and_again_gets_fresh_ones_for_a_while() {
    let (address, seen) = ending(1, End::Close).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    let mut reconnected = Vec::new();
    for _ in 0..8 {
        let (reply, again) = attempt_with(&client, &to, body()).await;
        assert_eq!(reply, status(200));
        reconnected.push(again);
    }
    assert_eq!(
        reconnected,
        [false, true, true, false, false, false, false, false]
    );
    assert_eq!((seen.connections(), seen.requests()), (8, 10));
    assert_eq!(client.inner.pool.idle_count(), 0);
    tokio::time::sleep(Duration::from_secs(61)).await;
    attempt(&client, &to).await;
    assert_eq!(client.inner.pool.idle_count(), 1, "it is tried again");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_is_not_sent_once_more() {
    let (address, seen) = ending(1, End::Close).await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    assert_eq!(attempt(&client, &to).await, status(200));
    let asked = AtomicUsize::new(0);
    let request = AttemptRequest {
        headers: HeaderMap::new(),
        body: body(),
        excerpt_bytes: 16,
        still_wanted: &|| asked.fetch_add(1, Ordering::SeqCst) == 0,
    };
    let Attempted::Reply { reply, reconnected } = client.attempt(&to, request).await else {
        panic!("it was sent");
    };
    assert_failed(
        &reply,
        Failure::Protocol,
        "closed the connection before answering",
    );
    assert_eq!((reconnected, seen.requests()), (false, 2));
}
