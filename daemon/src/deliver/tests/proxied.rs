//! Attempts through a proxy. The black-box tests use a real one.

use super::super::names::tests::{Says, Server};
use super::secure::secure_partner;
use super::*;

/// Starts a proxy that answers each CONNECT with this text and, if that is a success, connects to `to`, wherever the
/// client wants to go.
async fn proxy(answer: &'static str, to: SocketAddr) -> (Settings, Arc<Seen>) {
    let (address, seen) = partner(move |mut client, seen| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if client.read_buf(&mut head).await.unwrap() == 0 {
                return;
            }
        }
        let head = String::from_utf8(head).unwrap();
        seen.requests.lock().unwrap().push(head);
        let _ = client.write_all(answer.as_bytes()).await;
        if answer.contains(" 200 ") {
            let mut server = TcpStream::connect(to).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    })
    .await;
    let settings = Settings {
        proxy: Some(format!("http://{address}").parse().unwrap()),
        ..settings()
    };
    (settings, seen)
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn trouble(reply: Reply) -> String {
    match reply {
        Reply::OurTrouble(why) => why,
        other => panic!("{other:?} is no trouble of ours"),
    }
}

#[tokio::test]
async fn http_and_https_go_through_a_tunnel_that_is_kept() {
    let (address, seen) = answering(OK).await;
    let (settings, asked) = proxy(ESTABLISHED, address).await;
    let client = Client::new(&settings).unwrap();
    for _ in 0..2 {
        let to = target("http://partner.example/hooks");
        assert_eq!(attempt(&client, &to).await, status(200));
    }
    assert_eq!((asked.requests(), seen.requests()), (1, 2));
    assert_eq!(
        asked.requests.lock().unwrap()[0],
        "CONNECT partner.example:80 HTTP/1.1\r\nhost: partner.example:80\r\n\r\n"
    );

    let (address, seen, root) = secure_partner(&[b"h2"]).await;
    let (settings, asked) = proxy(ESTABLISHED, address).await;
    let client = Client::new(&Settings {
        extra_roots: vec![root.path().to_owned()],
        ..settings
    });
    let client = client.unwrap();
    for _ in 0..2 {
        let to = target(&format!("https://{address}/"));
        assert_eq!(attempt(&client, &to).await, status(200));
    }
    assert_eq!((asked.requests(), seen.requests()), (1, 2));
}

#[tokio::test]
async fn only_the_proxys_name_is_looked_up() {
    let (address, _) = answering(OK).await;
    let (settings, asked) = proxy(ESTABLISHED, address).await;
    let port = settings.proxy.as_ref().unwrap().port();
    let names = Server::start(|_| Says::Addresses(&["127.0.0.1"], 300)).await;
    let client = Client::new(&Settings {
        name_servers: vec![names.address],
        proxy: Some(format!("http://proxy.test:{port}").parse().unwrap()),
        ..settings
    });
    let to = target("http://web.test/");
    assert_eq!(attempt(&client.unwrap(), &to).await, status(200));
    assert_eq!(asked.requests(), 1);
    let looked_up = names.asked.lock().unwrap().clone();
    assert!(
        looked_up
            .iter()
            .all(|(name, _)| name.starts_with("proxy.test")),
        "{looked_up:?}"
    );
}

#[tokio::test]
async fn a_forbidden_address_is_refused_before_the_proxy_is_asked() {
    let (address, _) = answering(OK).await;
    let (mut settings, asked) = proxy(ESTABLISHED, address).await;
    let to = target("http://127.0.0.1:8080/");
    settings.policy.allow.clear();
    let reply = attempt(&Client::new(&settings).unwrap(), &to).await;
    assert_failed(&reply, Failure::TargetRefused, "private_v4");
    assert_eq!(asked.connections(), 0);
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_our_trouble() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&Settings {
        proxy: Some(format!("http://{address}").parse().unwrap()),
        ..settings()
    });
    let reply = attempt(&client.unwrap(), &target("http://partner.example/")).await;
    assert_eq!(
        trouble(reply),
        format!("the proxy http://{address} can't be reached: {address} refused the connection")
    );
    let nameless = Server::start(|_| Says::Addresses(&[], 300)).await;
    let client = Client::new(&Settings {
        proxy: Some("http://proxy.test:3128".parse().unwrap()),
        name_servers: vec![nameless.address],
        ..settings()
    });
    let reply = attempt(&client.unwrap(), &target("http://partner.example/")).await;
    let why = trouble(reply);
    assert!(
        why.starts_with("the proxy http://proxy.test:3128 can't be reached: "),
        "{why}"
    );
}

#[tokio::test]
async fn a_proxy_without_a_proper_answer_is_our_trouble() {
    let (address, seen) = answering(OK).await;
    for (answer, says) in [
        ("", "closed the connection before it answered"),
        ("SSH-2.0-OpenSSH\r\n", "did not answer in HTTP"),
        (
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK",
            "sent something before it was asked",
        ),
        ("HTTP/1.1 405 No\r\n\r\n", "allows CONNECT"),
        (
            "HTTP/1.1 407 No\r\nproxy-authenticate: basic\r\n\r\n",
            "demands credentials",
        ),
    ] {
        let (settings, _) = proxy(answer, address).await;
        let client = Client::new(&settings).unwrap();
        let why = trouble(attempt(&client, &target("http://partner.example/")).await);
        assert!(why.contains(says), "{why}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(20_000)).leak();
    let (settings, _) = proxy(long, address).await;
    let client = Client::new(&settings).unwrap();
    let why = trouble(attempt(&client, &target("http://partner.example/")).await);
    assert!(why.contains("too many headers"), "{why}");
    assert_eq!(seen.requests(), 0);
}

#[tokio::test]
async fn what_a_proxy_says_of_the_receiver_is_the_receivers() {
    let (address, _) = answering(OK).await;
    for (answer, failure) in [
        ("HTTP/1.1 502 Bad gateway\r\n\r\n", Failure::Connect),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", Failure::TargetRefused),
    ] {
        let (settings, _) = proxy(answer, address).await;
        let client = Client::new(&settings).unwrap();
        let reply = attempt(&client, &target("http://partner.example/")).await;
        assert_failed(&reply, failure, "http://partner.example:80");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_takes_longer_than_connecting_may_is_a_connect_failure() {
    let (address, _) = partner(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let client = Client::new(&Settings {
        proxy: Some(format!("http://{address}").parse().unwrap()),
        ..settings()
    });
    let before = clock::deadline(Duration::ZERO);
    let reply = attempt(&client.unwrap(), &target("http://partner.example/")).await;
    assert_failed(
        &reply,
        Failure::Connect,
        "did not connect to http://partner.example:80 in time",
    );
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn credentials_come_from_a_file_that_must_be_right() {
    let (address, _) = answering(OK).await;
    let (settings, asked) = proxy(ESTABLISHED, address).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let with_file = || Settings {
        proxy_credentials_file: Some(file.path().to_owned()),
        ..settings.clone()
    };
    std::fs::write(file.path(), "user:pass\n").unwrap();
    let client = Client::new(&with_file()).unwrap();
    assert_eq!(
        attempt(&client, &target("http://partner.example/")).await,
        status(200)
    );
    let request = asked.requests.lock().unwrap()[0].clone();
    assert!(
        request.contains("\r\nproxy-authorization: Basic dXNlcjpwYXNz\r\n"),
        "{request}"
    );
    for (text, says) in [
        ("hunter2", "user:password"),
        ("a:b\nc:hunter2", "on one line"),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let error = Client::new(&with_file()).err().unwrap().to_string();
        assert!(error.contains("target.proxy_credentials_file"), "{error}");
        assert!(
            error.contains(says) && !error.contains("hunter2"),
            "{error}"
        );
    }
    std::fs::write(file.path(), "u:".repeat(1_000)).unwrap();
    let error = Client::new(&with_file()).err().unwrap().to_string();
    assert!(error.contains("too large"), "{error}");
    file.close().unwrap();
    let settings = Settings {
        proxy_credentials_file: Some("/nowhere".into()),
        ..settings.clone()
    };
    let error = Client::new(&settings).err().unwrap().to_string();
    assert!(error.contains("/nowhere"), "{error}");
}
