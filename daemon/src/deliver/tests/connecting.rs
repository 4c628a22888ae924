//! How attempts get their connections: by name, by several addresses, with connections that are too old, and to servers
//! that require a client certificate.

use super::super::names::tests::{Says, Server};
use super::super::tls_words::tests::{Made, TLS12, TLS13, roots};
use super::secure::secure_partner;
use super::*;
use hickory_resolver::proto::rr::RecordType;

fn named(server: &Server) -> Settings {
    let mut settings = settings();
    settings.name_servers = vec![server.address];
    settings.policy.allow.push("::1/128".parse().unwrap());
    settings
}

fn to(host: &str, port: u16, settings: &Settings) -> Target {
    Target::new(&format!("http://{host}:{port}/"), &settings.policy).unwrap()
}

/// Sends one attempt to `web.test`, which has these addresses.
async fn attempt_by_name(says: Says, address: SocketAddr) -> Reply {
    let server = Server::start(move |_| says.clone()).await;
    let settings = named(&server);
    let client = Client::new(&settings).unwrap();
    attempt(&client, &to("web.test", address.port(), &settings)).await
}

#[tokio::test]
async fn a_name_is_connected_to_by_the_first_of_its_addresses_that_answers() {
    let (address, _) = answering(OK).await;
    for says in [
        Says::Addresses(&["127.0.0.1"], 300),
        // Nothing listens at the IPv6 address.
        Says::Addresses(&["127.0.0.1", "::1"], 300),
        Says::Addresses(&["127.0.0.9", "127.0.0.1"], 300),
        // No server says whether there is an IPv6 address.
        Says::Late(RecordType::AAAA, u64::MAX, &["127.0.0.1", "::1"]),
        Says::Late(RecordType::AAAA, 200, &["127.0.0.1", "::1"]),
    ] {
        assert_eq!(attempt_by_name(says, address).await, status(200));
    }
}

#[tokio::test]
async fn an_address_that_comes_late_is_connected_to_where_the_first_ones_fail() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream, &Seen::default()).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
    });
    let says = Says::Late(RecordType::AAAA, 200, &["127.0.0.1", "::1"]);
    assert_eq!(attempt_by_name(says, address).await, status(200));
}

#[tokio::test]
async fn one_refused_address_refuses_the_name_also_where_it_comes_late() {
    let (address, seen) = answering(OK).await;
    let says = Says::Addresses(&["127.0.0.1", "10.0.0.1"], 300);
    let reply = attempt_by_name(says, address).await;
    assert_failed(&reply, Failure::TargetRefused, "10.0.0.1");
    // The late address is not tried, although the first one fails.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap();
    drop(closed);
    let says = Says::Late(RecordType::AAAA, 200, &["127.0.0.1", "fd00::1"]);
    let reply = attempt_by_name(says, port).await;
    assert_failed(&reply, Failure::Connect, "refused the connection");
    assert_eq!(seen.connections(), 0);
}

#[tokio::test]
async fn each_address_that_was_tried_is_named_with_what_it_did() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let says = Says::Addresses(&["127.0.0.1", "127.0.0.9"], 300);
    let reply = attempt_by_name(says, address).await;
    let port = address.port();
    let expected = format!(
        "connecting to http://web.test:{port}: 127.0.0.1:{port} refused the connection; 127.0.0.9:{port} refused the connection"
    );
    assert_eq!(reply, Reply::Failed(Failure::Connect, expected));
}

#[tokio::test]
async fn a_name_that_nobody_answers_for_fails_when_the_time_to_connect_is_over() {
    let server = Server::start(|_| Says::Nothing).await;
    let mut settings = named(&server);
    settings.connect_timeout = Duration::from_millis(500);
    let client = Client::new(&settings).unwrap();
    let reply = attempt(&client, &to("web.test", 8443, &settings)).await;
    assert_failed(&reply, Failure::Dns, "no name server answered within 500ms");
}

#[tokio::test]
async fn a_name_server_that_cannot_be_reached_is_our_trouble() {
    // A broadcast address, which a socket may not send to.
    let mut settings = settings();
    settings.name_servers = vec!["255.255.255.255:53".parse().unwrap()];
    let client = Client::new(&settings).unwrap();
    let reply = attempt(&client, &to("web.test", 8443, &settings)).await;
    assert!(matches!(reply, Reply::OurTrouble(_)), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_used_again_when_it_is_too_old() {
    let (address, seen) = answering(OK).await;
    let client = Client::new(&Settings {
        pool_idle: Duration::from_secs(600),
        pool_max_age: Duration::from_secs(10),
        ..settings()
    })
    .unwrap();
    let to = target(&format!("http://{address}/"));
    for (after_s, connections) in [(0, 1), (4, 1), (4, 1), (4, 2), (4, 2), (9, 3)] {
        tokio::time::sleep(Duration::from_secs(after_s)).await;
        assert_eq!(attempt(&client, &to).await, status(200));
        assert_eq!(seen.connections(), connections, "after {after_s} s more");
    }
}

#[tokio::test]
async fn a_shared_connection_is_not_used_again_when_it_is_too_old() {
    let (address, seen, root) = secure_partner(&[b"h2"]).await;
    let client = Client::new(&Settings {
        pool_idle: Duration::from_secs(600),
        pool_max_age: Duration::ZERO,
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    })
    .unwrap();
    let to = target(&format!("https://{address}/"));
    for connections in 1..=3 {
        assert_eq!(attempt(&client, &to).await, status(200));
        assert_eq!(seen.connections(), connections);
    }
}

#[tokio::test]
async fn a_server_that_requires_a_client_certificate_is_a_tls_failure_that_says_so() {
    for versions in [TLS12, TLS13] {
        for alpn in [b"http/1.1".as_slice(), b"h2"] {
            let made = Made::self_signed(|params| {
                *params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            });
            let (paths, _folder) = roots(&[&made]);
            let acceptor = made.acceptor_asking_for_clients(versions, alpn);
            let (address, _) = partner(move |stream, _| {
                let acceptor = acceptor.clone();
                async move {
                    let _ = acceptor.accept(stream).await;
                }
            })
            .await;
            let client = Client::new(&Settings {
                extra_roots: paths,
                ..settings()
            })
            .unwrap();
            let reply = attempt(&client, &target(&format!("https://{address}/"))).await;
            assert_failed(&reply, Failure::Tls, "requires a client certificate");
        }
    }
}
