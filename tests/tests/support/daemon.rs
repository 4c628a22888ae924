//! The daemon as a process: its configuration in its own directory, started, killed, stopped and restarted in the same
//! directory. Its log is printed if the test fails, and the process is killed by its id when the test ends.

use super::{CERTIFICATE_FILE, Client, KEY_FILE, Tls, document, within};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Returns the path of the binary under test.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("TESTED_BINARY") {
        return PathBuf::from(path);
    }
    // The test binary is `<target>/<profile>/deps/all-…`.
    let here = std::env::current_exe().expect("the test's own path");
    let profile = here.ancestors().nth(2).expect("deps lies in a profile");
    let path = profile.join("stormhook");
    assert!(
        path.exists(),
        "no {}: run `cargo build -p stormhook` first, or set TESTED_BINARY",
        path.display()
    );
    path
}

/// A directory and a configuration, before the first start.
pub(crate) struct Setup {
    folder: TempDir,
    values: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    /// The program to run; the one under test unless another is set.
    pub(crate) program: Option<PathBuf>,
}

impl Setup {
    /// Loopback targets over plain HTTP are allowed, and retries follow immediately.
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("sh-").tempdir().unwrap();
        let setup = Self {
            folder,
            values: BTreeMap::new(),
            environment: Vec::new(),
            program: None,
        };
        let data = format!("{:?}", setup.data_dir());
        let socket = format!("{:?}", setup.socket());
        setup
            .set("data_dir", &data)
            .set("socket", &socket)
            .set("listen", r#""127.0.0.1:0""#)
            .set("delivery.timeout", r#""5s""#)
            .set("retry.schedule", r#"["20ms","20ms","20ms","20ms","20ms"]"#)
            .set("retry.jitter", "0.0")
            .set("limits.disk_reserve", r#""1MiB""#)
            .set("target.allow", r#"["127.0.0.0/8"]"#)
            .set("target.allow_http", "true")
    }

    /// Sets `section.key` or a top-level key to a TOML value in the form of the file.
    pub(crate) fn set(mut self, key: &str, toml: &str) -> Self {
        self.values.insert(key.to_owned(), toml.to_owned());
        self
    }

    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.values.remove(key);
        self
    }

    /// Writes this certificate and its key, and lets the TCP listener use them.
    pub(crate) fn secured_by(self, tls: &Tls) -> Self {
        tls.write_to(self.folder());
        let certificate = format!("{:?}", self.folder().join(CERTIFICATE_FILE));
        let key = format!("{:?}", self.folder().join(KEY_FILE));
        self.set("tls.certificate", &certificate)
            .set("tls.key", &key)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs another program instead of the binary, with the same arguments.
    pub(crate) fn serve_by(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.folder.path().join("stormhook.toml")
    }

    /// Writes the configuration file and returns its path.
    pub(crate) fn write_config(&self) -> PathBuf {
        let mut text = String::new();
        for (key, value) in self.values.iter().filter(|(key, _)| !key.contains('.')) {
            writeln!(text, "{key} = {value}").unwrap();
        }
        let mut section = "";
        for (key, value) in &self.values {
            let Some((table, name)) = key.split_once('.') else {
                continue;
            };
            if table != section {
                writeln!(text, "[{table}]").unwrap();
                section = table;
            }
            writeln!(text, "{name} = {value}").unwrap();
        }
        std::fs::write(self.config_path(), text).unwrap();
        self.config_path()
    }

    /// Starts the daemon and waits for its ready line.
    pub(crate) async fn start(self) -> Daemon {
        match self.try_start().await {
            Ok(daemon) => daemon,
            Err(refusal) => panic!("the daemon did not start: {refusal:?}"),
        }
    }

    /// Starts the daemon; `Err` is how it ended instead of becoming ready.
    pub(crate) async fn try_start(self) -> Result<Daemon, Refused> {
        self.write_config();
        let log = Arc::new(Mutex::new(String::new()));
        match Running::launch(&self, &log).await {
            Ok(running) => {
                document::learn(&Client::unix(self.socket())).await;
                Ok(Daemon {
                    running: Some(running),
                    log,
                    setup: self,
                })
            }
            Err(status) => {
                let log = log.lock().unwrap().clone();
                Err(Refused {
                    status,
                    log,
                    setup: self,
                })
            }
        }
    }

    /// Runs the binary with these arguments until it exits.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null());
        within("the command ends", command.output())
            .await
            .expect("the binary runs")
    }

    /// The binary, in the same way.
    pub(crate) fn command(&self) -> Command {
        self.program(self.program.clone().unwrap_or_else(binary))
    }

    /// Returns a program without the caller's own `STORMHOOK_…` settings and runtime directories.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STORMHOOK_") {
                command.env_remove(name);
            }
        }
        command
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("STATE_DIRECTORY")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .kill_on_drop(true);
        command
    }
}

/// A daemon that ended instead of becoming ready.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
    pub(crate) setup: Setup,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}

struct Running {
    child: Child,
    ready_line: String,
}

impl Running {
    async fn launch(setup: &Setup, log: &Arc<Mutex<String>>) -> Result<Self, ExitStatus> {
        let mut command = setup.command();
        command
            .arg("serve")
            .arg("--config")
            .arg(setup.config_path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not run: {error}", binary().display()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let errors = tokio::spawn(keep(child.stderr.take().unwrap(), Arc::clone(log)));
        let mut ready_line = String::new();
        within("the daemon's ready line", stdout.read_line(&mut ready_line))
            .await
            .unwrap();
        if ready_line.is_empty() {
            let status = within("the refusing daemon ends", child.wait())
                .await
                .unwrap();
            within("its log ends", errors).await.unwrap();
            return Err(status);
        }
        tokio::spawn(keep(stdout, Arc::clone(log)));
        Ok(Self { child, ready_line })
    }
}

async fn keep(stream: impl AsyncRead + Unpin, log: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let mut log = log.lock().unwrap();
        log.push_str(&String::from_utf8_lossy(&line));
        log.push('\n');
    }
}

/// A daemon that has reported that it is ready.
pub(crate) struct Daemon {
    running: Option<Running>,
    log: Arc<Mutex<String>>,
    pub(crate) setup: Setup,
}

impl Daemon {
    /// Starts with the plain configuration of [`Setup::new`].
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the daemon runs")
    }

    pub(crate) fn ready_line(&self) -> &str {
        &self.running().ready_line
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running()
            .child
            .id()
            .expect("the daemon has not been waited for")
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The TCP address, as the ready line names it.
    pub(crate) fn address(&self) -> SocketAddr {
        let line = self.ready_line();
        let at = line
            .find("127.0.0.1:")
            .unwrap_or_else(|| panic!("no address in {line:?}"));
        let text: String = line[at..]
            .chars()
            .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
            .collect();
        text.trim_end_matches(['.', ':']).parse().unwrap()
    }

    pub(crate) fn token(&self) -> String {
        let path = self.setup.data_dir().join("admin-token");
        std::fs::read_to_string(&path)
            .expect("the token file")
            .trim()
            .to_owned()
    }

    /// A client over the Unix socket.
    pub(crate) fn client(&self) -> Client {
        Client::unix(self.setup.socket())
    }

    /// Returns a client over TCP with the valid token.
    pub(crate) fn tcp(&self) -> Client {
        Client::tcp(self.address(), Some(self.token()))
    }

    /// Returns a client over TLS with the valid token.
    pub(crate) fn tls(&self, tls: &Tls) -> Client {
        Client::tls(self.address(), Some(self.token()), tls)
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) async fn kill(&mut self) {
        let mut running = self.running.take().expect("the daemon runs");
        running.child.start_kill().unwrap();
        within("the killed daemon ends", running.child.wait())
            .await
            .unwrap();
    }

    /// Only sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut().expect("it was not waited for");
        running.child.try_wait().unwrap().is_some()
    }

    /// Returns how the process ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("the daemon runs");
        within("the daemon ends", running.child.wait())
            .await
            .unwrap()
    }

    /// Sends SIGTERM and returns the exit status.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Starts again in the same directory; the daemon must have ended before.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.running.is_none(), "the daemon still runs");
        self.setup.write_config();
        match Running::launch(&self.setup, &self.log).await {
            Ok(running) => self.running = Some(running),
            Err(status) => panic!("the daemon did not start again: {status}"),
        }
    }

    /// Changes a value in the configuration file; the daemon only reads it when told to.
    pub(crate) fn change(&mut self, key: &str, toml: &str) {
        self.setup.values.insert(key.to_owned(), toml.to_owned());
        self.setup.write_config();
    }

    /// From the next start on, another program serves this store.
    pub(crate) fn serve_by(&mut self, program: Option<PathBuf>) {
        self.setup.program = program;
    }

    /// Returns the setup, for another start with other values; the daemon must have ended.
    pub(crate) fn into_setup(mut self) -> Setup {
        assert!(self.running.is_none(), "the daemon still runs");
        std::mem::replace(&mut self.setup, Setup::new())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // By its id; `kill_on_drop` reaps it.
            let _ = running.child.start_kill();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(16 * 1024);
            let from = log.ceil_char_boundary(from);
            eprintln!("--- the daemon's log\n{}---", &log[from..]);
        }
    }
}
