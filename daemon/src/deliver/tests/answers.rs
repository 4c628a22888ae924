//! What a receiver may answer, and what of it counts.

use super::*;

#[tokio::test(start_paused = true)]
async fn headers_that_drip_a_byte_a_second_time_out() {
    let (address, _) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        for byte in OK.bytes() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = stream.write_all(&[byte]).await;
        }
    })
    .await;
    assert_failed(
        &attempt_to(address).await,
        Failure::Timeout,
        "did not answer",
    );
}

#[tokio::test(start_paused = true)]
async fn headers_that_drip_after_the_status_line_leave_it_its_status() {
    let (address, _) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let before = clock::deadline(Duration::ZERO);
    assert_eq!(attempt_to(address).await, status(200));
    assert_eq!(before.elapsed(), Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn of_headers_no_more_than_the_bound_is_read_and_the_status_stays() {
    for line in [
        "a: b\r\n".to_owned(),
        format!("a: {}\r\n", "b".repeat(600)),
        "a".repeat(1_000),
    ] {
        for code in [200, 500] {
            let mut answer = format!("HTTP/1.1 {code} X\r\n").into_bytes();
            answer.extend(line.repeat(1_000_000 / line.len()).bytes());
            let (address, _) = answering(answer).await;
            let (client, to) = (client(), target(&format!("http://{address}/")));
            assert_eq!(attempt(&client, &to).await, status(code));
            assert_eq!(client.inner.pool.idle_count(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn headers_are_bounded_by_their_bytes_however_those_arrive() {
    let block = |lines: usize, bytes: usize| -> String {
        let line = |n: usize| format!("x-{n}: {}\r\n", "v".repeat(bytes));
        let lines: String = (0..lines).map(line).collect();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n")
    };
    for (answer, kept) in [
        (block(300, 1), 1),
        (block(5_000, 1), 1),
        (block(63, 1_000), 1),
        (block(75, 1_000), 0),
        (block(100, 1_000), 0),
    ] {
        let (at_once, _) = answering(answer.clone()).await;
        let (in_pieces, _) = partner(move |mut stream, seen| {
            let answer = answer.clone();
            async move {
                read_request(&mut stream, &seen).await;
                for piece in answer.as_bytes().chunks(4_000) {
                    let _ = stream.write_all(piece).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                std::future::pending::<()>().await;
            }
        })
        .await;
        for address in [at_once, in_pieces] {
            let (client, to) = (client(), target(&format!("http://{address}/")));
            assert_eq!(attempt(&client, &to).await, status(200));
            assert_eq!(client.inner.pool.idle_count(), kept);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_after_a_2xx_is_success_and_ends_the_connection() {
    let (address, seen) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(b"4\r\nabcd\r\n").await.is_ok() {}
        seen.closed.notify_one();
    })
    .await;
    let client = client();
    let to = target(&format!("http://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    seen.closed.notified().await;
    assert_eq!(client.inner.pool.idle_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_or_is_cut_after_a_2xx_is_success_soon() {
    let head = "HTTP/1.1 202 Accepted\r\ncontent-length: 1000\r\n\r\nabc";
    let (drips, _) = answering(head).await;
    let (cuts, _) = partner(move |mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.write_all(head.as_bytes()).await.unwrap();
    })
    .await;
    let before = clock::deadline(Duration::ZERO);
    assert_eq!(attempt_to(drips).await, status(202));
    assert_eq!(attempt_to(cuts).await, status(202));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn of_a_failure_the_beginning_is_kept_as_it_came() {
    let answer = b"HTTP/1.1 503 No\r\nretry-after: 120\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n\xff\x00345678901234567890";
    let (address, _) = answering(*answer).await;
    let expected = Reply::Status {
        code: 503,
        retry_after: Some(b"120".to_vec()),
        excerpt: b"\xff\x0034567890123456".to_vec(),
    };
    assert_eq!(attempt_to(address).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_failure_whose_body_never_ends_is_that_failure_with_what_came() {
    let answer = "HTTP/1.1 500 Oops\r\ncontent-length: 1000\r\n\r\nsorry";
    let (address, _) = answering(answer).await;
    let reply = attempt_to(address).await;
    let Reply::Status { code, excerpt, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!((code, excerpt.as_slice()), (500, &b"sorry"[..]));
}

#[tokio::test(start_paused = true)]
async fn of_a_body_no_more_than_the_bound_is_read_before_the_connection_is_dropped() {
    for (bytes, kept) in [(64 * 1024, 1), (64 * 1024 + 1, 0)] {
        let body = "x".repeat(bytes);
        let answer = format!("HTTP/1.1 400 Bad\r\ncontent-length: {bytes}\r\n\r\n{body}");
        let (address, _) = answering(answer).await;
        let client = client();
        attempt(&client, &target(&format!("http://{address}/"))).await;
        assert_eq!(client.inner.pool.idle_count(), kept, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_answered_with_its_status_and_not_followed() {
    let (elsewhere, untouched) = answering(OK).await;
    let answer =
        format!("HTTP/1.1 307 Go\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _) = answering(answer).await;
    assert_eq!(attempt_to(address).await, status(307));
    assert_eq!(untouched.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn interim_answers_are_skipped() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let answer = format!("HTTP/1.1 100 Continue\r\n\r\n{hints}{hints}{OK}");
    let (address, _) = answering(answer).await;
    assert_eq!(attempt_to(address).await, status(200));
}

#[tokio::test(start_paused = true)]
async fn garbage_and_a_reset_are_protocol_failures() {
    let (address, _) = answering("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    assert_failed(
        &attempt_to(address).await,
        Failure::Protocol,
        "not valid HTTP",
    );
    let (address, _) = partner(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_failed(&attempt_to(address).await, Failure::Protocol, "reset");
}
