//! Malformed responses that have a status line, which is what counts.

use super::*;

/// What follows a status line, and whether the connection can be reused.
const ODD: [(&str, bool); 14] = [
    ("X-A: one\r\n two\r\ncontent-length: 0\r\n\r\n", false),
    ("X-A : one\r\ncontent-length: 0\r\n\r\n", false),
    ("no colon\r\ncontent-length: 0\r\n\r\n", false),
    (": nameless\r\ncontent-length: 0\r\n\r\n", true),
    (
        "x(y)@z/\u{fc}: \u{1}\u{fc}\u{0}\r\ncontent-length: 0\r\n\r\n",
        true,
    ),
    ("content-length: 0\ncontent-type: text/plain\n\n", true),
    ("content-length: many\r\n\r\n", false),
    ("content-length: 1, 2\r\n\r\nxx", false),
    ("content-length: 2\r\ncontent-length: 3\r\n\r\nxxx", false),
    ("content-length: 99999999999999999999\r\n\r\n", false),
    (
        "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        false,
    ),
    ("transfer-encoding: chunked\r\n\r\nzz\r\n", false),
    ("transfer-encoding: unheard-of\r\n\r\n", false),
    ("\u{0}\r\r\n\u{1b}[2J\r\n\r\n", false),
];

#[tokio::test(start_paused = true)]
async fn a_status_line_counts_whatever_follows_it() {
    for (rest, kept) in ODD {
        for (line, code) in [
            ("HTTP/1.1 200 OK\r\n", 200),
            ("HTTP/1.1 202\r\n", 202),
            ("HTTP/1.1 299 \u{fc}\u{1}\n", 299),
            ("HTTP/1.1 410 Gone\r\n", 410),
            ("HTTP/1.1 500 \r\n", 500),
        ] {
            let (address, _) = answering(format!("{line}{rest}")).await;
            let (client, to) = (client(), target(&format!("http://{address}/")));
            let reply = attempt(&client, &to).await;
            assert!(
                matches!(reply, Reply::Status { code: c, .. } if c == code),
                "{line:?}{rest:?}: {reply:?}"
            );
            assert_eq!(
                client.inner.pool.idle_count(),
                usize::from(kept),
                "{rest:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_in_http10_and_interim_answers_before_an_odd_one_are_read() {
    for (answer, code, excerpt) in [
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "",
        ),
        (
            "HTTP/1.0 503 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            503,
            "no",
        ),
        (
            "HTTP/1.1 103 E\r\nodd\r\n\r\nHTTP/1.1 202 A\r\nodd\r\ncontent-length: 0\r\n\r\n",
            202,
            "",
        ),
        ("\r\n\r\nHTTP/1.1 204 N\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 500 X\r\nX-A: one\r\n two\r\ncontent-length: 5\r\n\r\nsorry",
            500,
            "sorry",
        ),
    ] {
        let (address, _) = answering(answer).await;
        let expected = Reply::Status {
            code,
            retry_after: None,
            excerpt: excerpt.into(),
        };
        assert_eq!(attempt_to(address).await, expected, "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_cut_within_its_head_has_its_status() {
    for cut in ["", "x-a", "x-a: b\r\n", "retry-after: 7\r\nx"] {
        let (address, _) = partner(move |mut stream, seen| async move {
            read_request(&mut stream, &seen).await;
            let answer = format!("HTTP/1.1 503 No\r\n{cut}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let expected = Reply::Status {
            code: 503,
            retry_after: cut.starts_with("retry").then(|| b"7".to_vec()),
            excerpt: Vec::new(),
        };
        assert_eq!(attempt_to(address).await, expected, "{cut:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_status_line_is_no_answer() {
    for answer in [
        "HTTP/1.1 99999 X\r\n\r\n",
        "HTTP/1.1 20 X\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "200 OK\r\n\r\n",
        "<html>200 OK</html>",
        "\u{15}\u{3}\u{3}\u{0}\u{2}\u{2}\u{16}",
    ] {
        let (address, _) = answering(answer).await;
        let reply = attempt_to(address).await;
        assert_failed(&reply, Failure::Protocol, "is not valid HTTP");
    }
}
