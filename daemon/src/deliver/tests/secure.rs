//! Attempts over TLS, in HTTP/1.1 and HTTP/2.

use super::*;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use stormhook_store::endpoint::{self, EndpointTls};

/// Returns an acceptor of TLS that offers these protocols, and the PEM of its certificate.
pub(super) fn acceptor(alpn: &[&[u8]]) -> (tokio_rustls::TlsAcceptor, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (Arc::new(config).into(), file)
}

/// Starts a receiver over TLS that offers these protocols; also returns the PEM of its certificate.
pub(super) async fn secure_partner(
    alpn: &[&[u8]],
) -> (SocketAddr, Arc<Seen>, tempfile::NamedTempFile) {
    secure_partner_taking(100, alpn).await
}

/// The same, with a limit of concurrent HTTP/2 requests per connection.
async fn secure_partner_taking(
    streams: u32,
    alpn: &[&[u8]],
) -> (SocketAddr, Arc<Seen>, tempfile::NamedTempFile) {
    let (acceptor, file) = acceptor(alpn);
    let (address, seen) = partner(move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: http::Request<_>| {
                let authority = request.uri().authority().map(ToString::to_string);
                let line = format!("{:?} {authority:?}", request.version());
                seen.requests.lock().unwrap().push(line);
                let hangs = request.uri().path() == "/hang";
                async move {
                    let _: hyper::body::Incoming = request.into_body();
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    let body = http_body_util::Full::new(Bytes::from_static(b"ok"));
                    Ok::<_, std::convert::Infallible>(http::Response::new(body))
                }
            });
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .http2()
                .max_concurrent_streams(streams)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await;
    (address, seen, file)
}

#[tokio::test]
async fn http2_is_spoken_where_the_partner_offers_it_and_its_connection_is_shared() {
    let (address, seen, root) = secure_partner(&[b"h2", b"http/1.1"]).await;
    let settings = Settings {
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    let many = (0..50).map(|_| attempt(&client, &to));
    for reply in futures_util::future::join_all(many).await {
        assert_eq!(reply, status(200));
    }
    assert_eq!((seen.connections(), seen.requests()), (1, 51));
    let expected = format!("HTTP/2.0 Some(\"{address}\")");
    assert!(seen.requests.lock().unwrap().iter().all(|r| *r == expected));
    assert_eq!(client.inner.pool.idle_count(), 1);
}

#[tokio::test]
async fn no_more_is_sent_over_a_shared_connection_than_the_partner_takes_at_once() {
    let (address, seen, root) = secure_partner_taking(2, &[b"h2"]).await;
    let settings = Settings {
        timeout: Duration::from_millis(500),
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    let hanging = target(&format!("https://{address}/hang"));
    let many = (0..6).map(|_| attempt(&client, &hanging));
    for reply in futures_util::future::join_all(many).await {
        assert_failed(&reply, Failure::Timeout, "did not answer");
    }
    // Each was on the wire when its time was over: none is sent afterwards.
    assert_eq!(seen.requests(), 7);
    assert!(seen.connections() >= 3, "{}", seen.connections());
}

#[tokio::test]
async fn http11_is_spoken_over_tls_where_the_partner_offers_nothing_else() {
    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let (address, seen, root) = secure_partner(alpn).await;
        let settings = Settings {
            extra_roots: vec![root.path().to_owned()],
            ..settings()
        };
        let client = Client::new(&settings).unwrap();
        let to = target(&format!("https://{address}/"));
        for _ in 0..3 {
            assert_eq!(attempt(&client, &to).await, status(200));
        }
        assert_eq!(seen.connections(), 1);
        assert_eq!(seen.requests.lock().unwrap()[0], "HTTP/1.1 None");
    }
}

#[tokio::test]
async fn a_connection_over_tls_that_is_not_kept_is_closed_with_a_goodbye() {
    let (acceptor, root) = acceptor(&[b"http/1.1"]);
    let (said, hears) = tokio::sync::oneshot::channel();
    let said = Mutex::new(Some(said));
    let (address, _) = partner(move |stream, _| {
        let (acceptor, said) = (acceptor.clone(), said.lock().unwrap().take());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n{}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
            // An end without `close_notify` is an error (RFC 8446, section 6.1).
            let end = stream.read(&mut [0; 16]).await;
            said.unwrap().send(end.ok()).unwrap();
        }
    })
    .await;
    let settings = Settings {
        pool_idle: Duration::ZERO,
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    assert_eq!(hears.await, Ok(Some(0)));
}

#[tokio::test]
async fn after_a_hanging_request_a_shared_connection_takes_no_new_ones() {
    let (address, seen, root) = secure_partner(&[b"h2"]).await;
    let settings = Settings {
        timeout: Duration::from_millis(300),
        extra_roots: vec![root.path().to_owned()],
        ..settings()
    };
    let client = Client::new(&settings).unwrap();
    let hanging = attempt(&client, &target(&format!("https://{address}/hang"))).await;
    assert_failed(&hanging, Failure::Timeout, "did not answer");
    let to = target(&format!("https://{address}/"));
    assert_eq!(attempt(&client, &to).await, status(200));
    assert_eq!(seen.connections(), 2);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_tls_failure() {
    let (address, seen, _root) = secure_partner(&[b"h2"]).await;
    let reply = attempt(&client(), &target(&format!("https://{address}/"))).await;
    assert_failed(&reply, Failure::Tls, "certificate");
    assert_eq!(seen.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_answers_is_a_tls_failure_within_the_time_to_connect() {
    let (address, _) = partner(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let before = clock::deadline(Duration::ZERO);
    let reply = attempt(&client(), &target(&format!("https://{address}/"))).await;
    assert_failed(&reply, Failure::Tls, "longer than 5s");
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn endpoints_with_different_tls_settings_never_share_a_connection() {
    use super::super::tls_words::tests::Made;
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let (address, seen, root) = secure_partner(&[alpn]).await;
        let client = Client::new(&Settings {
            extra_roots: vec![root.path().to_owned()],
            ..settings()
        });
        let client = client.unwrap();
        let to = |tls: &Option<Arc<EndpointTls>>| {
            let endpoint = endpoint::Settings {
                url: format!("https://{address}/"),
                tls: tls.clone(),
                ..endpoint::Settings::default()
            };
            Target::of(&endpoint, &settings().policy).unwrap()
        };
        let one = Made::self_signed(|_| {});
        let other = Made::self_signed(|_| {});
        let all = [
            None,
            Some(Arc::new(one.as_client(&[]))),
            Some(Arc::new(other.as_client(&[]))),
            Some(Arc::new(Made::trusted(&[&one]))),
        ];
        for _ in 0..2 {
            for tls in &all {
                assert_eq!(attempt(&client, &to(tls)).await, status(200));
            }
        }
        assert_eq!((seen.connections(), seen.requests()), (all.len(), 8));
    }
}

#[tokio::test]
async fn a_stored_key_that_cannot_be_used_is_our_trouble() {
    let (address, seen, _root) = secure_partner(&[b"h2"]).await;
    let client_certificate = endpoint::ClientCertificate {
        chain: vec![vec![1, 2, 3]],
        key: endpoint::ClientKey::new(vec![4, 5, 6]),
    };
    let tls = EndpointTls::new(Some(client_certificate), Vec::new());
    let endpoint = endpoint::Settings {
        url: format!("https://{address}/"),
        tls: tls.map(Arc::new),
        ..endpoint::Settings::default()
    };
    let to = Target::of(&endpoint, &settings().policy).unwrap();
    let reply = attempt(&client(), &to).await;
    let says = "the key of the endpoint's client certificate can't be used";
    assert!(
        matches!(&reply, Reply::OurTrouble(why) if why.contains(says)),
        "{reply:?}"
    );
    assert_eq!(seen.requests(), 0);
}

#[test]
fn an_extra_root_that_is_no_certificate_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = Settings {
        extra_roots: vec![file.path().to_owned()],
        ..settings()
    };
    let error = Client::new(&settings).err().unwrap();
    let expected = matches!(error, SetupError::Trust(TrustError::Empty(_)));
    assert!(expected, "{error}");
    let missing = Settings {
        extra_roots: vec!["/nowhere.pem".into()],
        ..settings
    };
    let error = Client::new(&missing).err().unwrap().to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
}
