//! The daemon's life: the folder, the sandbox, the store, the queues, the listeners; and in order back again.

mod open;

#[cfg(feature = "postgres")]
pub use open::database_options;
pub use open::options;

pub use crate::config::STORE_FILE;

use crate::app::App;
use crate::config::{self, Config, ConfigError, LiveConfig};
use crate::deliver::{HttpTransport, SetupError};
use crate::descriptors;
use crate::environment;
use crate::http::{Bound, ListenError, ListenerCertificate, Listeners, bind};
#[cfg(feature = "postgres")]
use crate::identity::IdentityError;
use crate::log::Log;
#[cfg(feature = "postgres")]
use crate::peers::Peers;
#[cfg(feature = "postgres")]
use crate::peers::certificate::CertificateError;
use crate::process;
use crate::sandbox::{self, Sandbox};
use crate::secrets::KeyFileError;
use crate::space;
use crate::token::{Token, TokenError};
use open::open_store;
#[cfg(feature = "postgres")]
use open::take_from_outboxes;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::environment::{Environment, System};
use stormhook_engine::lifecycle::{Lifecycle, Phase};
use stormhook_engine::writer::Space;
use stormhook_engine::{Engine, Loaded, Ports, Store};
use stormhook_store::{Action, Attributed, Attribution, Audited, RecordAudit, StoreError};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

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
    /// Certificates to trust, or the proxy's credentials.
    #[error(transparent)]
    Setup(#[from] SetupError),
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

/// A daemon that is about to start, in a process that is confined.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    sandbox: Option<Sandbox>,
}

/// Makes the data directory, and confines the process unless the configuration says otherwise. Call it before there are
/// other threads: those would not be confined.
///
/// # Errors
/// [`ServeError`] if there can't be a data directory.
pub fn prepare(config: Config) -> Result<Prepared, ServeError> {
    prepare_folder(&config.data_dir)?;
    process::read();
    let sandbox = config.sandbox.then(|| sandbox::confine(&config));
    Ok(Prepared { config, sandbox })
}

/// Runs the daemon until SIGTERM or SIGINT. `reload` reads the configuration again, on SIGHUP.
///
/// # Errors
/// [`ServeError`], before it was ready.
pub fn serve(
    prepared: Prepared,
    reload: impl Fn() -> Result<Config, ConfigError>,
) -> Result<(), ServeError> {
    let Prepared { config, sandbox } = prepared;
    let log = Log::start(&config);
    match sandbox {
        Some(sandbox) => sandbox.log(),
        None => tracing::info!("the sandbox is off"),
    }
    let service_links = config::service_links(std::env::vars_os());
    if !service_links.is_empty() {
        tracing::info!(
            variables = service_links.join(" "),
            "ignored the variables that Kubernetes sets for Services"
        );
    }
    descriptors::raise(&config);
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
    process::cores().saturating_sub(1).max(1)
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
    let token = token(&bound, &config, &opened.store).await?;
    let ready = ready_line(&bound, &opened.place);
    let certificate = bound.certificate();
    let life = Arc::new(Lifecycle::default());
    let live = LiveConfig::new(Arc::clone(&config));
    #[cfg_attr(not(feature = "postgres"), allow(unused_mut))]
    let mut listeners = Listeners::serve(bound, token.clone(), &live, &life);
    let transport = Arc::new(HttpTransport::new(&config, address)?);
    #[cfg(feature = "postgres")]
    let others = opened.store.cluster().map(Peers::new);
    let loaded = load(opened.store, &transport, &live, &life)?;
    let seen = transport.server_certificates();
    let app = App::new(loaded.engine().clone(), live.clone(), address, seen).with_token(token);
    #[cfg(feature = "postgres")]
    let app = {
        if let (Some(peers), Some(others)) = (opened.peers, &others) {
            listeners.serve_peers(peers, others.token(), &live, &life);
        }
        app.among(others)
    };
    let app = Arc::new(app);
    let (engine, committer) = loaded.start(|on_commit| Arc::new(on_commit), room(live.clone()));
    let thread =
        on_a_thread("writer", move || committer.run()).map_err(io("starting the writer of"))?;
    listeners.open(&app);
    tokio::spawn(Arc::clone(&app).write_api_keys_used());
    life.go_on_to(Phase::Running);
    #[cfg(feature = "postgres")]
    take_from_outboxes(&config, &engine, &live, &app);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        waiting = engine.reader().open_count(),
        "{ready}"
    );
    say(ready);
    let reloading = || {
        read_certificate_again(certificate.as_deref());
        take_over(reload(), &transport, &live, &engine, log);
    };
    let taken_over = tokio::select! {
        biased;
        () = signals.until_stopped(reloading) => false,
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

/// Returns the token of callers over TCP, if there are any.
async fn token(
    bound: &Bound,
    config: &Config,
    store: &Store,
) -> Result<Option<Arc<Token>>, TokenError> {
    match bound.address() {
        Some(_) => Token::of(&config.data_dir, store)
            .await
            .map(Arc::new)
            .map(Some),
        None => Ok(None),
    }
}

fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    let named = std::thread::Builder::new().name(name.to_owned());
    named.spawn(work)
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

fn ready_line(bound: &Bound, store: &str) -> String {
    let off = || "off".to_owned();
    let socket = bound
        .socket()
        .map_or_else(off, |path| path.display().to_string());
    let scheme = bound.scheme();
    let address = bound.address();
    let address = address.map_or_else(off, |address| format!("{scheme}://{address}"));
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

/// Reads the listener's certificate again. One that can't be used is not taken.
fn read_certificate_again(certificate: Option<&ListenerCertificate>) {
    let Some(certificate) = certificate else {
        return;
    };
    match certificate.read_again(System.wall()) {
        Ok(()) => tracing::info!("read the certificate of the listener again"),
        Err(error) => tracing::error!(
            %error,
            "the listener keeps its certificate; repair the files, then reload again"
        ),
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
    engine.writer().post(reloaded());
    tracing::info!(
        ?ignored,
        "configuration reloaded; ignored keys need a restart"
    );
}

/// The entry of the audit log for a reload.
fn reloaded() -> Attributed<RecordAudit> {
    let reloaded = RecordAudit(Audited::of(Action::ConfigurationReload));
    Attributed::to(Attribution::to_daemon(), reloaded)
}

/// Takes nothing more, lets what is on the wire finish or records it as cut, and commits the rest. Asked a second time to stop, it
/// waits no longer for what is on the wire.
async fn stop(engine: &Engine, listeners: Listeners, mut signals: Signals) {
    engine.drain(signals.until_stopped(|| {})).await;
    listeners.finish().await;
    engine.close();
}
