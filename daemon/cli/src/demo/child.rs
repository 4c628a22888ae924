//! The demo's daemon: the real one, as a child process with its own temporary directory. Both are removed afterwards.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::failure::Failure;
use crate::terminal::plain;

/// A socket's path has at most 107 bytes; a temporary directory with a longer path leaves no room for it.
const FOLDER_BYTES: usize = 60;
const READY_WITHIN: Duration = Duration::from_secs(15);
/// The daemon drains within 10 s of SIGTERM.
const STOPPED_WITHIN: Duration = Duration::from_secs(15);
/// How much of a failed daemon's log is shown.
const LOG_BYTES: usize = 4_000;
/// The maximum length of the line that reports readiness.
const READY_LINE_BYTES: u64 = 64 * 1024;

/// The retry schedule of the demo, as it is shown.
pub(crate) const SCHEDULE: [&str; 6] = ["1s", "2s", "4s", "8s", "15s", "30s"];

/// Creates a directory for this user only, removed when it is dropped. After a `kill -9` it stays, as temporary files
/// do.
pub(crate) fn folder() -> Result<TempDir, Failure> {
    let temporary = std::env::temp_dir();
    let parent = if temporary.as_os_str().len() > FOLDER_BYTES {
        PathBuf::from("/tmp")
    } else {
        temporary
    };
    tempfile::Builder::new()
        .prefix("stormhook-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .map_err(|error| {
            Failure::local(
                &format!("create a directory in {}", parent.display()),
                &error,
            )
        })
}

/// The running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    /// While this is open, the daemon knows that the demo is running.
    _stdin: ChildStdin,
    /// Its Unix socket.
    pub(crate) socket: PathBuf,
    /// The daemon's line when it was ready.
    pub(crate) ready_line: String,
}

/// The demo's configuration.
fn configuration(folder: &Path) -> Result<String, Failure> {
    let quoted = |name: &str| {
        let path = folder.join(name);
        let text = path.to_str().ok_or_else(|| {
            Failure::Usage(format!(
                "{} is not UTF-8: set TMPDIR to another directory",
                folder.display()
            ))
        })?;
        Ok::<_, Failure>(toml::Value::String(text.to_owned()).to_string())
    };
    let schedule: Vec<String> = SCHEDULE
        .iter()
        .map(|delay| format!("\"{delay}\""))
        .collect();
    Ok(format!(
        "data_dir = {}\nsocket = {}\nlisten = \"off\"\n\n[retry]\nschedule = [{}]\n\n[target]\nallow = [\"127.0.0.0/8\"]\nallow_http = true\n",
        quoted("data")?,
        quoted("s")?,
        schedule.join(", "),
    ))
}

impl Daemon {
    /// Starts this program as `serve` and waits until it reports readiness.
    pub(crate) async fn start(folder: &Path) -> Result<Self, Failure> {
        let config = folder.join("stormhook.toml");
        let log = folder.join("log");
        let failed = |what: &str, error: &std::io::Error| Failure::local(what, error);
        fs::write(&config, configuration(folder)?)
            .map_err(|error| failed("write the demo's configuration", &error))?;
        let log_file =
            File::create(&log).map_err(|error| failed("create the demo's log", &error))?;
        let program =
            std::env::current_exe().map_err(|error| failed("find this program's file", &error))?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--until-stdin-ends")
            .current_dir(folder);
        // The user's own settings are for the user's own daemon.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("STORMHOOK_")
                || matches!(
                    text.as_ref(),
                    "RUNTIME_DIRECTORY" | "STATE_DIRECTORY" | "NOTIFY_SOCKET"
                )
            {
                command.env_remove(&name);
            }
        }
        // A process group of its own: the demo handles Ctrl-C and then stops the daemon in order.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log_file))
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| failed("start the daemon", &error))?;
        // Taken from the child, since waiting for a child closes its stdin.
        let stdin = child
            .stdin
            .take()
            .ok_or_else(|| Failure::No("the daemon has no stdin".to_owned()))?;
        let mut daemon = Self {
            child,
            _stdin: stdin,
            socket: folder.join("s"),
            ready_line: String::new(),
        };
        match tokio::time::timeout(READY_WITHIN, daemon.ready()).await {
            Ok(Some(line)) => {
                daemon.ready_line = plain(line.trim_end());
                Ok(daemon)
            }
            Ok(None) => Err(Failure::No(format!(
                "the daemon stopped before it was ready. Its log:\n{}",
                tail_of(&log)
            ))),
            Err(_) => {
                daemon.stop().await;
                Err(Failure::No(format!(
                    "the daemon was not ready within {} s. Its log:\n{}",
                    READY_WITHIN.as_secs(),
                    tail_of(&log)
                )))
            }
        }
    }

    async fn ready(&mut self) -> Option<String> {
        let stdout = self.child.stdout.take()?;
        let mut reader = BufReader::new(stdout.take(READY_LINE_BYTES));
        let mut line = String::new();
        let read = reader.read_line(&mut line).await.ok()?;
        // Nothing more is expected, but a pipe that nobody reads would block its writer.
        tokio::spawn(async move {
            let mut rest = reader.into_inner().into_inner();
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        });
        (read > 0).then_some(line)
    }

    /// Resolves if the daemon stops by itself.
    pub(crate) async fn ended(&mut self) -> String {
        self.child
            .wait()
            .await
            .map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    /// Sends SIGTERM and waits; kills a daemon that doesn't stop. Returns whether it stopped cleanly.
    pub(crate) async fn stop(mut self) -> bool {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It may have stopped by itself just now; the wait will tell.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        match tokio::time::timeout(STOPPED_WITHIN, self.child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                let _ = self.child.kill().await;
                false
            }
        }
    }
}

/// Returns the last lines of a log, safe to print.
pub(crate) fn tail_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = bytes.len().saturating_sub(LOG_BYTES);
    let text = String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned();
    let lines: Vec<String> = text
        .lines()
        .map(|line| format!("  {}", plain(line)))
        .collect();
    if lines.is_empty() {
        "  (nothing)".to_owned()
    } else {
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_configuration_is_one_the_daemon_takes() {
        let folder = folder().unwrap();
        let text = configuration(folder.path()).unwrap();
        let config = stormhook_daemon::config::Config::from_sources(
            Some((Path::new("demo.toml"), &text)),
            [],
            &[],
        )
        .unwrap();
        let shown = config.describe();
        let value = |key: &str| {
            shown
                .iter()
                .find(|(name, _, _)| *name == key)
                .map(|(_, value, _)| value.as_str())
        };
        assert_eq!(value("target.allow_http"), Some("true"));
        assert_eq!(value("listen"), Some("\"off\""));
    }

    #[test]
    fn the_folder_is_private_and_goes_away() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder().unwrap();
        let path = folder.path().to_path_buf();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        fs::write(path.join("x"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
