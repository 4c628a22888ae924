//! What every client command works with.

use std::future::Future;

use crate::client::Client;
use crate::failure::Failure;
use crate::options::ClientOptions;
use crate::remote::Remote;
use crate::socket;
use crate::terminal::Screen;

/// Where the daemon is, and how to show its responses.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) screen: Screen,
}

/// Runs a command that calls the daemon.
pub(crate) fn connected<F, W>(
    options: ClientOptions,
    screen: Screen,
    work: F,
) -> Result<(), Failure>
where
    F: FnOnce(Session) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    alone(async move {
        let surroundings = socket::Surroundings::of_process(options.daemon);
        let client = match surroundings.elsewhere()? {
            Some(named) => Client::of_remote(Remote::of(named)?),
            None => Client::find(&surroundings.candidates()).await?,
        };
        work(Session { client, screen }).await
    })
}

/// Client commands wait on one socket: one thread suffices and starts faster.
pub(crate) fn alone(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("start the asynchronous runtime", &error))?;
    let result = runtime.block_on(work);
    // A thread that is still blocked in a read of stdin must not delay the exit.
    runtime.shutdown_background();
    result
}
