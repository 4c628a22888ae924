//! The daemon under test: its folder, configuration, start and end. Killed by pid when its handle is dropped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hyper::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::clock;
use crate::error::{BenchError, Doing, Result};
use crate::wire::Target;

/// Longest time to wait for `/readyz`.
const READY_TIMEOUT_S: f64 = 120.0;
/// Longest time to wait for its end.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting daemon is polled.
const READY_POLL: Duration = Duration::from_micros(500);

/// A data folder that outlives the daemon's process, so that it can be killed and started again.
pub(crate) struct Home {
    data: TempDir,
    /// Separate from the data, because the path of a socket is limited to 108 bytes.
    sockets: TempDir,
}

impl Home {
    /// Creates an empty one on the disk of `root`.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        Self::with(root, "")
    }

    /// The same with additional configuration.
    pub(crate) fn with(root: &Path, more: &str) -> Result<Self> {
        std::fs::create_dir_all(root).doing(format!("making {}", root.display()))?;
        let data = tempfile::Builder::new()
            .prefix("stormhook-bench-")
            .tempdir_in(root);
        let sockets = tempfile::Builder::new().prefix("shb-").tempdir();
        let home = Self {
            data: data.doing("making a data folder")?,
            sockets: sockets.doing("making a socket's folder")?,
        };
        let text = home.config_text() + more;
        std::fs::write(home.config(), text).doing("writing the configuration")?;
        Ok(home)
    }

    /// Returns the daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.sockets.path().join("s")
    }

    fn config(&self) -> PathBuf {
        self.sockets.path().join("stormhook.toml")
    }

    fn log(&self) -> PathBuf {
        self.sockets.path().join("log")
    }

    /// As shipped, except for what a benchmark on one machine needs: plain HTTP to the loopback, and a
    /// schedule so long that a failed delivery waits until the end of the run.
    fn config_text(&self) -> String {
        format!(
            concat!(
                "data_dir = {:?}\nsocket = {:?}\nlisten = \"127.0.0.1:0\"\n",
                "[retry]\nschedule = [\"12h\", \"12h\", \"12h\"]\n",
                "[target]\nallow = [\"127.0.0.0/8\"]\nallow_http = true\n",
                "[log]\nlevel = \"warn\"\n"
            ),
            self.data.path().join("data"),
            self.socket(),
        )
    }

    /// Prepares the database that the configuration names.
    pub(crate) async fn migrate(&self, program: &Path) -> Result<()> {
        let mut command = Command::new(program);
        command.arg("migrate").arg("--config").arg(self.config());
        let ran = command.env_clear().output().await;
        let ran = ran.doing("running stormhook migrate")?;
        match ran.status.success() {
            true => Ok(()),
            false => Err(BenchError::wrong(format!(
                "stormhook migrate failed: {}",
                String::from_utf8_lossy(&ran.stderr)
            ))),
        }
    }

    /// Returns the daemon's admin token.
    pub(crate) fn token(&self) -> Result<String> {
        let path = self.data.path().join("data").join("admin-token");
        let token = std::fs::read_to_string(&path).doing(format!("reading {}", path.display()))?;
        Ok(token.trim().to_owned())
    }

    /// Returns the total length of the files in the data folder.
    pub(crate) fn file_bytes(&self) -> Result<u64> {
        let folder = self.data.path().join("data");
        let mut total = 0;
        for entry in std::fs::read_dir(&folder).doing("listing the data folder")? {
            let meta = entry.doing("listing the data folder")?.metadata();
            let meta = meta.doing("reading a file's length")?;
            total += if meta.is_file() { meta.len() } else { 0 };
        }
        Ok(total)
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    child: Child,
    /// Its process id.
    pub(crate) pid: u32,
    /// A caller of its socket.
    pub(crate) api: Api,
    /// The time from the process's start until `/readyz` returned 200.
    pub(crate) ready_s: f64,
}

impl Daemon {
    /// Starts it in `home` and waits until it is ready.
    pub(crate) async fn start(program: &Path, home: &Home) -> Result<Self> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.log());
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(home.config());
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
            .stderr(log.doing("making the daemon's log")?)
            .kill_on_drop(true);
        let started_ns = clock::monotonic_ns();
        let child = command
            .spawn()
            .doing(format!("starting {}", program.display()))?;
        let pid = child
            .id()
            .ok_or_else(|| BenchError::wrong("the daemon ended immediately"))?;
        let api = Api::new(Target::Unix(home.socket()));
        let mut daemon = Self {
            child,
            pid,
            api,
            ready_s: 0.0,
        };
        loop {
            if matches!(daemon.api.get_raw("/readyz").await, Ok((StatusCode::OK, _))) {
                daemon.ready_s = clock::seconds_since(started_ns);
                return Ok(daemon);
            }
            let ended = daemon.child.try_wait().doing("looking after the daemon")?;
            if ended.is_some() || clock::seconds_since(started_ns) > READY_TIMEOUT_S {
                let state = ended.map_or("not ready in time".to_owned(), |code| code.to_string());
                let log = std::fs::read_to_string(home.log()).unwrap_or_default();
                return Err(BenchError::wrong(format!(
                    "the daemon didn't start ({state}):\n{log}"
                )));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Tells it to stop, and returns at once.
    pub(crate) fn tell_to_stop(&self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| BenchError::wrong("a pid out of range"))?;
        kill_process(pid, Signal::TERM).doing("telling the daemon to stop")
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self) -> Result<()> {
        let ended = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        let status = ended.doing("waiting for the daemon's end")?;
        let status = status.doing("waiting for the daemon's end")?;
        match status.success() {
            true => Ok(()),
            false => Err(BenchError::wrong(format!(
                "the daemon was told to stop, and ended with {status}"
            ))),
        }
    }

    /// Kills it as a power failure would, and waits until it has ended.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.doing("killing the daemon")
    }
}
