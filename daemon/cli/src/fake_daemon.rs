//! A fake daemon for tests, which answers as configured on its own socket.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use crate::Session;
use crate::client::Client;
use crate::terminal::Screen;

pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A session with the fake daemon. The socket's directory is removed when this is dropped.
pub(crate) struct Pretended {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) session: Session,
}

/// Starts a daemon that answers every request like this.
pub(crate) fn daemon<A>(answer: A) -> Pretended
where
    A: Fn(Request<Incoming>) -> Answer + Clone + Send + Sync + 'static,
{
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join(stormhook_daemon::config::SOCKET_FILE);
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Pretended {
        folder,
        session: Session {
            client: Client::at(socket),
            screen: Screen::piped(),
        },
    }
}

/// Returns a response with this status and body.
pub(crate) fn said(status: u16, body: &str) -> Answer {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(status)
        .header("x-request-id", "req_7")
        .body(body)
        .unwrap()
}
