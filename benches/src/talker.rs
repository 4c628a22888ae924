//! A child process that answers each line with a line. It is killed by its own pid when its handle is dropped, however
//! the benchmark ends; a child also ends by itself when its stdin does.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::error::{BenchError, Doing, Result};

/// The time limit for a child to start or to answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A child that answers each line with a line.
pub(crate) struct Talker {
    name: &'static str,
    /// Its process id.
    pub(crate) pid: u32,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    /// Starts it.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .doing(format!("starting the {name}"))?;
        let pid = child.id().unwrap_or(0);
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) =
            pipes.ok_or_else(|| BenchError::wrong(format!("the {name} has no pipes")))?;
        Ok(Self {
            name,
            pid,
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        })
    }

    async fn say(&mut self, line: &str) -> Result<()> {
        let doing = || format!("telling the {} {line:?}", self.name);
        let line_end = format!("{line}\n");
        self.stdin
            .write_all(line_end.as_bytes())
            .await
            .doing(doing())
    }

    /// Returns its next line.
    pub(crate) async fn hear(&mut self, within: Duration) -> Result<String> {
        let name = self.name;
        let line = timeout(within, self.lines.next_line()).await;
        let line = line.doing(format!("waiting for the {name}"))?;
        match line.doing(format!("hearing the {name}"))? {
            Some(line) => Ok(line),
            None => {
                let ended = self
                    .child
                    .wait()
                    .await
                    .doing(format!("waiting for the {name}"))?;
                Err(BenchError::wrong(format!(
                    "the {name} ended ({ended}); its stderr is above"
                )))
            }
        }
    }

    /// Returns its answer to a line, which is JSON.
    pub(crate) async fn ask(&mut self, line: &str, within: Duration) -> Result<Value> {
        self.say(line).await?;
        let answer = self.hear(within).await?;
        serde_json::from_str(&answer)
            .doing(format!("reading the {}'s answer {answer:?}", self.name))
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        let doing = format!("waiting for the {}'s end", self.name);
        self.child.wait().await.doing(doing).map(drop)
    }

    /// Kills it, and waits until it has ended.
    pub(crate) async fn kill(mut self) -> Result<()> {
        let doing = format!("killing the {}", self.name);
        self.child.kill().await.doing(doing)
    }
}
