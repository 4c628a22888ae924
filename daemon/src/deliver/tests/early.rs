//! Receivers that answer before they have read the request.

use super::secure::acceptor;
use super::*;
use tokio::sync::oneshot;

/// More than all buffers between the two sides hold.
const LARGE: usize = 16 << 20;

fn large() -> Bytes {
    Bytes::from(vec![b'x'; LARGE])
}

/// Reads the rest of a body and returns its length.
async fn read_rest(stream: &mut (impl AsyncRead + Unpin), most: usize) -> usize {
    let mut chunk = vec![0; 64 * 1024];
    let mut all = 0;
    while all < most {
        let room = chunk.len().min(most - all);
        match stream.read(&mut chunk[..room]).await {
            Ok(0) | Err(_) => break,
            Ok(n) => all += n,
        }
    }
    all
}

#[tokio::test]
async fn a_success_that_came_early_is_one_when_the_request_was_taken() {
    for (answer, ends) in [
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", false),
        (
            "HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 202 Accepted\r\ncontent-length: 9\r\n\r\naccepted.",
            false,
        ),
        ("HTTP/1.1 202 Accepted\r\n\r\naccepted", true),
    ] {
        let (go, waits) = oneshot::channel::<()>();
        let (says, got) = oneshot::channel();
        let channels = Mutex::new(Some((waits, says)));
        let (address, _) = partner(move |mut stream, seen| {
            let channels = channels.lock().unwrap().take();
            async move {
                let Some((waits, says)) = channels else {
                    return;
                };
                let (_, length) = read_head(&mut stream, &seen).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                if ends {
                    stream.shutdown().await.unwrap();
                }
                waits.await.unwrap();
                says.send((length, read_rest(&mut stream, length).await))
                    .unwrap();
            }
        })
        .await;
        let (client, to) = (client(), target(&format!("http://{address}/")));
        let mut attempt = Box::pin(attempt_with(&client, &to, large()));
        // The response is read long before this is over.
        let early = tokio::time::timeout(Duration::from_millis(800), &mut attempt).await;
        assert!(early.is_err(), "{answer:?}: {early:?}");
        go.send(()).unwrap();
        assert_eq!(attempt.await, (status(202), false), "{answer:?}");
        assert_eq!(got.await.unwrap(), (LARGE, LARGE), "{answer:?}");
    }
}

#[tokio::test]
async fn after_an_early_success_the_connection_takes_the_next_request() {
    let (address, seen) = partner(|mut stream, seen| async move {
        while let Some((head, length)) = read_head(&mut stream, &seen).await {
            stream
                .write_all(b"HTTP/1.1 202 A\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
            assert_eq!(read_rest(&mut stream, length).await, length);
            seen.requests.lock().unwrap().push(head);
        }
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    for _ in 0..4 {
        assert_eq!(
            attempt_with(&client, &to, large()).await,
            (status(202), false)
        );
    }
    // The last request may not have been read to its end yet.
    assert_eq!(seen.connections(), 1);
    assert!(seen.requests() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_success_whose_request_is_never_taken_is_none() {
    let (address, _) = partner(|mut stream, seen| async move {
        read_head(&mut stream, &seen).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    let before = clock::deadline(Duration::ZERO);
    let (reply, _) = attempt_with(&client, &to, large()).await;
    assert_failed(&reply, Failure::Timeout, "answered 200 but did not read");
    assert_eq!(before.elapsed(), Duration::from_secs(15));
    assert_eq!(client.inner.pool.idle_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_counts_at_once_though_the_request_is_never_taken() {
    for code in [400, 413, 503] {
        let (address, _) = partner(move |mut stream, seen| async move {
            read_head(&mut stream, &seen).await;
            let answer =
                format!("HTTP/1.1 {code} X\r\nretry-after: 9\r\ncontent-length: 2\r\n\r\nno");
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let (client, to) = (client(), target(&format!("http://{address}/")));
        let before = clock::deadline(Duration::ZERO);
        let expected = Reply::Status {
            code,
            retry_after: Some(b"9".to_vec()),
            excerpt: b"no".to_vec(),
        };
        assert_eq!(attempt_with(&client, &to, large()).await, (expected, false));
        assert!(before.elapsed() < Duration::from_secs(1));
        assert_eq!(
            client.inner.pool.idle_count(),
            0,
            "it can't take another request"
        );
    }
}

#[tokio::test]
async fn an_answer_that_came_before_a_reset_counts() {
    let (acceptor, root) = acceptor(&[b"http/1.1"]);
    let settings = Settings {
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    for (code, secure) in [413, 503, 410, 200]
        .into_iter()
        .flat_map(|code| [(code, false), (code, true)])
    {
        let acceptor = acceptor.clone();
        let (address, _) = partner(move |mut stream, seen| {
            let acceptor = acceptor.clone();
            async move {
                let answer = format!("HTTP/1.1 {code} X\r\nretry-after: 9\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno");
                // Unread input turns the close into a reset.
                if secure {
                    let mut stream = acceptor.accept(stream).await.unwrap();
                    read_head(&mut stream, &seen).await;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                } else {
                    read_head(&mut stream, &seen).await;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let client = Client::new(&settings).unwrap();
        let scheme = if secure { "https" } else { "http" };
        let to = target(&format!("{scheme}://{address}/"));
        for round in 0..8 {
            let (reply, reconnected) = attempt_with(&client, &to, large()).await;
            let Reply::Status {
                code: got,
                retry_after,
                ..
            } = &reply
            else {
                panic!("{code} over {scheme}, round {round}: {reply:?}");
            };
            assert_eq!((*got, retry_after.as_deref()), (code, Some(&b"9"[..])));
            assert!(!reconnected);
        }
        assert_eq!(client.inner.pool.idle_count(), 0);
    }
}

#[tokio::test]
async fn closing_after_a_success_takes_nothing_back_that_was_sent() {
    // It keeps answering while it reads, so that there is unread input when the attempt is over.
    let (says, got) = oneshot::channel();
    let says = Mutex::new(Some(says));
    let (address, _) = partner(move |mut stream, seen| {
        let says = says.lock().unwrap().take();
        async move {
            let (_, length) = read_head(&mut stream, &seen).await.unwrap();
            let (mut reads, mut writes) = stream.split();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
            writes.write_all(answer).await.unwrap();
            let endless = async {
                while writes.write_all(&[b'x'; 100]).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let slow = async {
                let mut all = 0;
                while all < length {
                    match read_rest(&mut reads, 64 * 1024).await {
                        0 => break,
                        n => all += n,
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                all
            };
            let (_, all) = futures_util::future::join(endless, slow).await;
            says.unwrap().send(all).unwrap();
        }
    })
    .await;
    let (client, to) = (client(), target(&format!("http://{address}/")));
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    assert_eq!(attempt_with(&client, &to, body).await, (status(200), false));
    assert_eq!(got.await.unwrap(), 4 << 20);
}

/// A connection whose receiver answered and reset it while the request was being written: writing fails first.
#[derive(Default)]
struct Reset {
    written: bool,
    answer: &'static [u8],
    waits: Option<std::task::Waker>,
}

impl AsyncRead for Reset {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if !self.written {
            self.waits = Some(context.waker().clone());
            return std::task::Poll::Pending;
        }
        buffer.put_slice(std::mem::take(&mut self.answer));
        std::task::Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Reset {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.written = true;
        if let Some(waker) = self.waits.take() {
            waker.wake();
        }
        std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_answer_that_came_counts_though_writing_meets_the_reset_first() {
    for (answer, code) in [
        ("HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n", Some(413)),
        ("HTTP/1.1 503 X\r\n", Some(503)),
        ("", None),
    ] {
        let mut line = http1::Http1::new(Reset {
            answer: answer.as_bytes(),
            ..Reset::default()
        });
        line.put(
            |head| head.extend_from_slice(b"POST / HTTP/1.1\r\n\r\n"),
            large(),
        );
        let mut head = head::Reader::default();
        let heard = line.answer(&mut head).await;
        assert_eq!(head.code(), code, "{heard:?}");
        if let (None, http1::Heard::Ended(error)) = (code, &heard) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}
