//! A proxy between the store and the server that cuts connections around a commit.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use stormhook_test_postgres::{SOCKET, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

/// When to cut the connection that commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server doesn't learn of the commit.
    BeforeCommit,
    /// The server has all but the end of the commit, and neither side hears of the other any more.
    Hang,
    /// The server has committed, and its answer is dropped.
    AfterCommit,
    /// The server has committed, and is shut down before it answers: it says that it ends the connection, which is still
    /// open.
    ShutDown,
}

#[derive(Default)]
struct State {
    armed: Mutex<Option<Cut>>,
    has_cut: AtomicBool,
}

/// See the module.
pub(crate) struct Proxy {
    folder: TempDir,
    state: Arc<State>,
}

impl Proxy {
    /// Listens beside the server, for connections to it.
    pub(crate) fn start(server: &Server, runtime: &Runtime) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(folder.path().join(SOCKET)).expect("a socket")
        };
        let state: Arc<State> = Arc::default();
        let (of, to) = (Arc::clone(&state), server.folder().join(SOCKET));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, to.clone(), Arc::clone(&of)));
            }
        });
        Self { folder, state }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Cuts the connection of the next commit.
    pub(crate) fn cut(&self, when: Cut) {
        *self.state.armed.lock().unwrap() = Some(when);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.state.has_cut.load(Ordering::Relaxed)
    }
}

async fn pass(client: UnixStream, to: std::path::PathBuf, state: Arc<State>) {
    let server = UnixStream::connect(to).await.expect("the server");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cut = None;
    let (mut asked, mut answer) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let names = |bytes: &[u8]| bytes.windows(6).any(|word| word == b"COMMIT");
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(bytes @ 1..) = read else { return };
                if names(&asked[..bytes]) {
                    cut = state.armed.lock().unwrap().take();
                }
                if cut == Some(Cut::Hang) {
                    let bytes = &asked[..bytes];
                    let at = bytes.windows(6).rposition(|word| word == b"COMMIT").expect("it is there");
                    // The message has a type and a length before its text.
                    to_server.write_all(&bytes[..at - 5]).await.expect("a server");
                    state.has_cut.store(true, Ordering::Relaxed);
                    return std::future::pending().await;
                }
                if cut == Some(Cut::BeforeCommit) {
                    state.has_cut.store(true, Ordering::Relaxed);
                    return;
                }
                if to_server.write_all(&asked[..bytes]).await.is_err() {
                    return;
                }
            }
            read = from_server.read(&mut answer) => {
                let Ok(bytes @ 1..) = read else { return };
                if cut == Some(Cut::ShutDown)
                    && let Some(at) = answer[..bytes].windows(6).position(|word| word == b"COMMIT")
                {
                    // The message has a type and a length before its text.
                    let before = &answer[..at - 5];
                    let said = [before, &ends_connection()].concat();
                    to_client.write_all(&said).await.expect("a client");
                    state.has_cut.store(true, Ordering::Relaxed);
                    return std::future::pending().await;
                }
                if cut == Some(Cut::AfterCommit) {
                    // The answer to the commit itself is the last one.
                    if names(&answer[..bytes]) {
                        state.has_cut.store(true, Ordering::Relaxed);
                        return;
                    }
                } else if to_client.write_all(&answer[..bytes]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The message of a server that is being shut down.
fn ends_connection() -> Vec<u8> {
    let fields = b"SFATAL\0C57P01\0Mterminating connection\0\0";
    let length = u32::try_from(fields.len() + 4).expect("it is short");
    [&b"E"[..], &length.to_be_bytes(), fields].concat()
}
