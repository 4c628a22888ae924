//! TLS to the database: whom a store connects to, and what it says of one that it refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't continue fails"
)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use stormhook_postgres::{Options, Store, migrate};
use stormhook_test_postgres::{Authority, Issued, Server, unused_address};
use tempfile::TempDir;

const HOST: &str = "db.test";
/// Anyone may come, but only over TLS, but for the socket.
const TLS_ONLY: &str = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
const ANY: &str = "local all all trust\nhost all all 127.0.0.1/32 trust\n";

/// A server with a certificate, and a folder of files that name authorities.
struct Setup {
    server: Server,
    address: Ipv4Addr,
    folder: TempDir,
}

impl Setup {
    fn new(certificate: Option<&Issued>, access: &str, clients: Option<&Authority>) -> Self {
        Self::at(unused_address(), certificate, access, clients)
    }

    fn at(
        address: Ipv4Addr,
        certificate: Option<&Issued>,
        access: &str,
        clients: Option<&Authority>,
    ) -> Self {
        let server = Server::start_over_tcp(address, certificate, access, clients);
        let folder = tempfile::tempdir().unwrap();
        Self {
            server,
            address,
            folder,
        }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Returns the URL, with parameters.
    fn url(&self, parameters: &str) -> String {
        let address = self.address;
        format!("postgres://postgres@{HOST}/postgres?hostaddr={address}&{parameters}")
    }

    async fn open(&self, parameters: &str) -> Result<Store, String> {
        open(self.url(parameters)).await
    }

    #[track_caller]
    fn expect_refused(&self, opened: Result<Store, String>, said: &str) {
        let Err(error) = opened else {
            panic!("it connected");
        };
        assert!(error.contains(said), "{error}");
        assert!(!error.contains(&self.address.to_string()), "{error}");
    }

    /// Returns how many connections of stores have TLS, and how many don't.
    async fn connections(&self) -> (i64, i64) {
        let url = Server::url_of(self.server.folder());
        let connecting = tokio_postgres::connect(&url, tokio_postgres::NoTls);
        let (client, connection) = connecting.await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) \
                   FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'stormhook'";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

/// Prepares the database and opens it.
async fn open(url: String) -> Result<Store, String> {
    let options = Options::new(url);
    migrate(&options).await.map_err(|e| e.to_string())?;
    Store::open(options).await.map_err(|e| e.to_string())
}

fn verify(mode: &str, roots: &Path) -> String {
    format!("sslmode={mode}&sslrootcert={}", roots.display())
}

#[tokio::test]
async fn every_connection_to_a_verified_server_has_tls() {
    let authority = Authority::new();
    let setup = Setup::new(Some(&authority.issue(&[HOST])), TLS_ONLY, None);
    let roots = setup.file("roots.pem", authority.pem());
    let store = setup.open(&verify("verify-full", &roots)).await.unwrap();
    let (secured, plain) = setup.connections().await;
    assert!(secured >= 2, "{secured}");
    assert_eq!(plain, 0);
    drop(store);
    let words = format!(
        "host={HOST} hostaddr={} user=postgres dbname=postgres sslmode=verify-full sslrootcert='{}'",
        setup.address,
        roots.display()
    );
    open(words).await.unwrap();
}

#[tokio::test]
async fn a_server_is_verified_by_its_address_if_it_has_no_name() {
    let authority = Authority::new();
    let address = unused_address().to_string();
    for (name, connects) in [
        (address.as_str(), true),
        ("127.0.0.1", false),
        (HOST, false),
    ] {
        let issued = authority.issue(&[name]);
        let setup = Setup::at(address.parse().unwrap(), Some(&issued), TLS_ONLY, None);
        let roots = verify("verify-full", &setup.file("roots.pem", authority.pem()));
        for server in [
            format!("{address}/postgres?"),
            format!("/postgres?hostaddr={address}&"),
        ] {
            let opened = open(format!("postgres://postgres@{server}{roots}")).await;
            assert_eq!(opened.is_ok(), connects, "{name}: {opened:?}");
        }
    }
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused() {
    let issued = Authority::new().issue(&[HOST]);
    let setup = Setup::new(Some(&issued), TLS_ONLY, None);
    // One has the name of the server's authority, with another key.
    for other in [Authority::new(), Authority::named("another")] {
        let other = setup.file("roots.pem", other.pem());
        for mode in ["verify-full", "verify-ca"] {
            let opened = setup.open(&verify(mode, &other)).await;
            let said = "the server's certificate is not signed by a trusted authority: name its authority with sslrootcert=FILE";
            setup.expect_refused(opened, said);
        }
    }
    assert_eq!(setup.connections().await, (0, 0));
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_by_verify_full_alone() {
    let authority = Authority::new();
    let setup = Setup::new(Some(&authority.issue(&["other.test"])), TLS_ONLY, None);
    let roots = setup.file("roots.pem", authority.pem());
    let opened = setup.open(&verify("verify-full", &roots)).await;
    let said = "the server's certificate is not for db.test, it is for other.test: connect by a name that it has";
    setup.expect_refused(opened, said);
    setup.open(&verify("verify-ca", &roots)).await.unwrap();
    setup.open("sslmode=require").await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_trusted_if_it_is_named() {
    let issued = Issued::self_signed(&[HOST]);
    let setup = Setup::new(Some(&issued), TLS_ONLY, None);
    let named = setup.file("roots.pem", &issued.certificate);
    setup.open(&verify("verify-full", &named)).await.unwrap();
    let other = setup.file("other.pem", &Issued::self_signed(&[HOST]).certificate);
    let opened = setup.open(&verify("verify-full", &other)).await;
    setup.expect_refused(opened, "the server's certificate");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    let setup = Setup::new(None, ANY, None);
    let roots = setup.file("roots.pem", Authority::new().pem());
    for parameters in ["sslmode=require", &verify("verify-full", &roots)] {
        let opened = setup.open(parameters).await;
        let said = "the server has no TLS, which sslmode asks for: set `ssl = on` in postgresql.conf, or use sslmode=disable";
        setup.expect_refused(opened, said);
    }
    setup.open("sslmode=prefer").await.unwrap();
    setup.open("").await.unwrap();
}

#[tokio::test]
async fn without_a_mode_tls_is_used_if_the_server_has_it() {
    let issued = Authority::new().issue(&["other.test"]);
    let setup = Setup::new(Some(&issued), ANY, None);
    let preferred = setup.open("").await.unwrap();
    let (secured, plain) = setup.connections().await;
    assert!(secured >= 2 && plain == 0, "{secured} {plain}");
    drop(preferred);
    let disabled = setup.open("sslmode=disable").await.unwrap();
    let (_, plain) = setup.connections().await;
    assert!(plain >= 2, "{plain}");
    drop(disabled);
    // A socket has no TLS, and needs none.
    let folder = setup.server.folder().display();
    let url = format!("postgres://postgres@/postgres?host={folder}&sslmode=verify-full");
    open(url).await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let access = "local all all trust\nhostssl all all 127.0.0.1/32 cert\n";
    let issued = authority.issue(&[HOST]);
    let setup = Setup::new(Some(&issued), access, Some(&clients));
    let roots = setup.file("roots.pem", authority.pem());
    let shown = |by: &Authority| {
        let issued = by.issue(&[]);
        let certificate = setup.file("client.pem", &issued.certificate);
        let key = setup.file("client.key", &issued.key);
        format!(
            "{}&sslcert={}&sslkey={}",
            verify("verify-full", &roots),
            certificate.display(),
            key.display()
        )
    };
    let store = setup.open(&shown(&clients)).await.unwrap();
    drop(store);
    let opened = setup.open(&shown(&authority)).await;
    let said = "the server refuses this daemon's certificate: name one that it trusts with sslcert and sslkey";
    setup.expect_refused(opened, said);
    let opened = setup.open(&verify("verify-full", &roots)).await;
    setup.expect_refused(opened, "connection requires a valid client certificate");
    let parameters = shown(&clients);
    setup.file("client.key", &clients.issue(&[]).key);
    let opened = setup.open(&parameters).await;
    setup.expect_refused(
        opened,
        "sslkey is not the private key of the certificate in sslcert",
    );
    setup.file("client.key", "none");
    let opened = setup.open(&parameters).await;
    setup.expect_refused(
        opened,
        "name a readable PEM file with a private key that is not encrypted",
    );
}

#[tokio::test]
async fn a_file_of_authorities_is_read_for_each_connection() {
    let authority = Authority::new();
    let setup = Setup::new(Some(&authority.issue(&[HOST])), TLS_ONLY, None);
    let path = setup.folder.path().join("roots.pem");
    let parameters = verify("verify-full", &path);
    let opened = setup.open(&parameters).await;
    let said = "name a readable PEM file with at least one certificate";
    setup.expect_refused(opened, said);
    setup.file("roots.pem", "none");
    let opened = setup.open(&parameters).await;
    setup.expect_refused(opened, "it has no certificate; name a readable PEM file");
    setup.file("roots.pem", Authority::new().pem());
    assert!(setup.open(&parameters).await.is_err());
    setup.file("roots.pem", authority.pem());
    setup.open(&parameters).await.unwrap();
}
