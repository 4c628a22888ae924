//! The daemon's life: the folder, the store, the queues, the listeners; and in order back again.

mod open;

#[cfg(feature = "postgres")]
pub use open::database_options;
pub use open::options;

use crate::app::App;
use crate::config::{self, Config, ConfigError, LiveConfig};
use crate::deliver::{HttpTransport, TrustError};
use crate::descriptors;
use crate::environment;
use crate::http::{ListenError, Listeners, Token, TokenError, bind};
#[cfg(feature = "postgres")]
use crate::identity::IdentityError;
use crate::log::Log;
#[cfg(feature = "postgres")]
use crate::peers::Peers;
#[cfg(feature = "postgres")]
use crate::peers::certificate::CertificateError;
use crate::secrets::KeyFileError;
use crate::space;
use open::open_store;
#[cfg(feature = "postgres")]
use open::take_from_outboxes;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::lifecycle::{Lifecycle, Phase};
use stormhook_engine::writer::Space;
use stormhook_engine::{Engine, Loaded, Ports, Store};
use stormhook_store::StoreError;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// The store's name in the data folder.
pub const STORE_FILE: &str = "stormhook.redb";
/// Why the daemon did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listeners.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The admin token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The data directory.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS between daemons.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Certificates to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The key of the secrets.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The system refuses.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs the daemon until SIGTERM or SIGINT. `reload` reads the configuration again, on SIGHUP.
///
/// # Errors
/// [`ServeError`], before it was ready.
pub fn serve(
    config: Config,
    reload: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), ServeError> {
    let log = Log::start(&config);
    let service_links = config::service_links(std::env::vars_os());
    if !service_links.is_empty() {
        tracing::info!(
            variables = service_links.join(" "),
            "ignored the variables that Kubernetes sets for Services"
        );
    }
    descriptors::raise(&config);
    prepare_folder(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| ServeError::Io {
        doing: "starting threads for",
        path: config.data_dir.clone(),
        source,
    })?;
    let ended = runtime.block_on(run(Arc::new(config), reload, &log));
    // A question that reads much must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended
}

/// Threads that serve and deliver: one core is the writer's.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.saturating_sub(1).max(1)
}

/// Makes the data folder, for its owner alone.
fn prepare_folder(folder: &Path) -> Result<(), ServeError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| ServeError::Io {
            doing: "making the data folder",
            path: folder.to_owned(),
            source,
        })
}

async fn run(
    config: Arc<Config>,
    reload: impl Fn() -> Result<Config, ConfigError>,
    log: &Log,
) -> Result<(), ServeError> {
    let io = |doing| {
        let path = config.data_dir.join(STORE_FILE);
        move |source| ServeError::Io {
            doing,
            path,
            source,
        }
    };
    let mut signals = Signals::new().map_err(io("listening for signals beside"))?;
    let opened = open_store(&config).await?;
    let bound = bind(&config).await?;
    let address = bound.address();
    let token = match address {
        Some(_) => Some(Token::of(&config.data_dir, &opened.store).await?),
        None => None,
    };
    let ready = ready_line(bound.socket(), address, &opened.place);
    let life = Arc::new(Lifecycle::default());
    let live = LiveConfig::new(Arc::clone(&config));
    #[cfg_attr(not(feature = "postgres"), allow(unused_mut))]
    let mut listeners = Listeners::serve(bound, token, &live, &life);
    let transport = Arc::new(HttpTransport::new(&config, address)?);
    #[cfg(feature = "postgres")]
    let others = opened.store.cluster().map(Peers::new);
    let loaded = load(opened.store, &transport, &live, &life)?;
    let app = App::new(loaded.engine().clone(), live.clone(), address);
    #[cfg(feature = "postgres")]
    let app = {
        if let (Some(peers), Some(others)) = (opened.peers, &others) {
            listeners.serve_peers(peers, others.token(), &live, &life);
        }
        app.among(others)
    };
    let app = Arc::new(app);
    let (engine, committer) = loaded.start(|on_commit| Arc::new(on_commit), room(live.clone()));
    let thread = std::thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || committer.run())
        .map_err(io("starting the writer of"))?;
    listeners.open(&app);
    life.go_on_to(Phase::Running);
    #[cfg(feature = "postgres")]
    take_from_outboxes(&config, &engine, &live, &app);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        waiting = engine.reader().open_count(),
        "{ready}"
    );
    say(ready);
    let taken_over = tokio::select! {
        biased;
        () = signals.until_stopped(|| take_over(reload(), &transport, &live, &engine, log)) => false,
        () = engine.writer().taken_over() => true,
    };
    tracing::info!("stopping");
    stop(&engine, listeners, signals).await;
    let _ended = tokio::task::spawn_blocking(move || thread.join()).await;
    tracing::info!("stopped");
    if taken_over {
        return Err(StoreError::TakenOver.into());
    }
    Ok(())
}

/// Reads everything that waits: the threads that serve go on meanwhile.
fn load(
    store: Store,
    transport: &Arc<HttpTransport>,
    live: &LiveConfig,
    life: &Arc<Lifecycle>,
) -> Result<Loaded, StoreError> {
    let environment = environment::of(&store);
    let ports = Ports {
        store,
        environment,
        transport: transport.clone(),
        settings: Arc::new(live.clone()),
        life: life.clone(),
    };
    tokio::task::block_in_place(|| Handle::current().block_on(Engine::load(ports)))
}

/// How much room there is for the store, as the configuration is at the moment. A database says itself when it is full.
fn room(live: LiveConfig) -> impl Fn() -> Space + Send + 'static {
    move || {
        let config = live.now();
        if config.store.url.is_some() {
            return Space {
                free_bytes: u64::MAX,
                file_bytes: 0,
            };
        }
        let path = config.data_dir.join(STORE_FILE);
        space::of(&path, config.limits.disk_reserve)
    }
}

fn ready_line(socket: Option<&Path>, address: Option<std::net::SocketAddr>, store: &str) -> String {
    let socket = socket.map_or_else(|| "off".to_owned(), |path| path.display().to_string());
    let address = address.map_or_else(|| "off".to_owned(), |address| format!("http://{address}"));
    format!("stormhook ready: socket={socket} address={address} store={store}")
}

/// The one line on stdout. Nobody may be reading it: it is written beside the rest, which does not wait for it.
fn say(line: String) {
    std::thread::spawn(move || {
        let mut out = std::io::stdout().lock();
        let _nobody = writeln!(out, "{line}").and_then(|()| out.flush());
    });
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn until_stopped(&mut self, mut hangup: impl FnMut()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => hangup(),
            }
        }
    }
}

/// Takes over what can change while the daemon runs, and says what can't.
fn take_over(
    read: Result<Config, ConfigError>,
    transport: &HttpTransport,
    live: &LiveConfig,
    engine: &Engine,
    log: &Log,
) {
    let new = match read {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "reload failed; the configuration is unchanged");
            return;
        }
    };
    let (config, ignored) = live.now().reloadable_changes(&new);
    let level = config.log.level;
    if let Err(error) = transport.reconfigure(&config) {
        tracing::error!(%error, "reload failed; the configuration is unchanged");
        return;
    }
    live.set(Arc::new(config));
    engine.reconfigured();
    log.set_level(level);
    tracing::info!(
        ?ignored,
        "configuration reloaded; ignored keys need a restart"
    );
}

/// Takes nothing more, lets what is on the wire finish or records it as cut, and commits the rest. Asked a second time to stop, it
/// waits no longer for what is on the wire.
async fn stop(engine: &Engine, listeners: Listeners, mut signals: Signals) {
    engine.drain(signals.until_stopped(|| {})).await;
    listeners.finish().await;
    engine.close();
}
