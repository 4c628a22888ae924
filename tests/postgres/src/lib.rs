//! A PostgreSQL server of the test's own: on a folder and a socket that nobody else uses, without a port. It ends with
//! the value that started it.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on fails"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The user that the server runs as, if the tests run as root: it refuses to.
const USER: &str = "postgres";

/// The name of the socket in its folder.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// See the module.
pub struct Server {
    folder: TempDir,
    child: Child,
}

/// Returns the folder of the server's programs: that of the newest version installed.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = versions
        .filter_map(|version| {
            let folder = version.ok()?.path();
            let number: u32 = folder.file_name()?.to_str()?.parse().ok()?;
            let programs = folder.join("bin");
            programs
                .join("postgres")
                .exists()
                .then_some((number, programs))
        })
        .max();
    newest
        .expect("PostgreSQL is installed (apt-get install postgresql)")
        .1
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns a command that runs a program of the server, as a user that may.
fn command(program: &str) -> Command {
    let program = programs().join(program);
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    // The server ends with the test, even if the test is killed.
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
    command
}

/// Gives a folder to the user that the server runs as.
fn hand_over(path: &Path) {
    if is_root() {
        let id = |flag: &str| -> u32 {
            let said = Command::new("id").args([flag, USER]).output();
            let said = said.expect("id runs").stdout;
            let said = String::from_utf8(said).expect("a number");
            said.trim().parse().expect("a number")
        };
        chown(path, Some(id("-u")), Some(id("-g"))).expect("it is handed over");
    }
}

/// Returns a cluster that no server has used, to be copied. It is made once for all tests of this user.
fn template() -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let parent = std::env::temp_dir().join(format!("stormhook-postgres-{user}"));
    std::fs::create_dir_all(&parent).expect("a folder");
    let lock = File::create(parent.join("lock")).expect("a file");
    lock.lock().expect("the lock");
    let made = parent.join("data");
    if !made.join("ready").exists() {
        let _none = std::fs::remove_dir_all(&made);
        std::fs::create_dir(&made).expect("a folder");
        hand_over(&made);
        let ran = command("initdb")
            .arg("--pgdata")
            .arg(&made)
            .args(["--username=postgres", "--auth=trust", "--no-sync"])
            .args(["--encoding=UTF8", "--locale=C", "--wal-segsize=1"])
            .output()
            .expect("initdb runs");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        File::create(made.join("ready")).expect("a file");
    }
    made
}

impl Server {
    /// Starts a server.
    pub fn start() -> Self {
        let template = template();
        let folder = tempfile::tempdir().expect("a folder");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("it can be entered");
        hand_over(folder.path());
        let copied = Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(&template)
            .arg(folder.path().join("data"))
            .status();
        assert!(copied.expect("cp runs").success());
        let child = Self::run(folder.path());
        Self { folder, child }
    }

    fn run(folder: &Path) -> Child {
        let mut child = command("postgres")
            .arg("-D")
            .arg(folder.join("data"))
            .arg("-k")
            .arg(folder)
            .args(["-c", "listen_addresses=", "-c", "max_connections=30"])
            .args(["-c", "shared_buffers=16MB", "-c", "fsync=off"])
            .args(["-c", "lc_messages=C", "-c", "log_min_messages=warning"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres starts");
        let said = BufReader::new(child.stderr.take().expect("its log"));
        let mut lines = said.lines().map_while(Result::ok);
        let mut before = Vec::new();
        for line in lines.by_ref() {
            if line.contains("database system is ready to accept connections") {
                // Whatever it says later is of no interest, but it must not wait for a reader.
                std::thread::spawn(move || lines.for_each(drop));
                return child;
            }
            before.push(line);
        }
        child.wait().expect("it has ended");
        panic!("postgres did not start: {}", before.join("\n"));
    }

    /// Returns the folder of its socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns how to connect by the socket in a folder, as the server's superuser.
    pub fn url_of(folder: &Path) -> String {
        let folder = folder.display();
        format!("host={folder} user=postgres dbname=postgres")
    }

    /// Returns the same for `store.url`.
    pub fn store_url(&self) -> String {
        let folder = self.folder().display();
        format!("postgres://postgres@/postgres?host={folder}")
    }

    /// Ends the server as a crash does, without a checkpoint.
    pub fn stop(&mut self) {
        if self.child.try_wait().expect("its status").is_none() {
            // Immediate shutdown: nothing is written.
            let _ended = kill_process(Pid::from_child(&self.child), Signal::QUIT);
            self.child.wait().expect("it ends");
        }
    }

    /// Keeps the data as it is now, for [`Server::lose`]. Nothing may be written meanwhile.
    pub fn keep(&self) {
        let said = Command::new(programs().join("psql"))
            .args([&Self::url_of(self.folder.path()), "--command", "CHECKPOINT"])
            .output();
        assert!(said.expect("psql runs").status.success());
        let kept = self.folder.path().join("kept");
        let _none = std::fs::remove_dir_all(&kept);
        let copied = Command::new("cp")
            .args(["--archive", "--reflink=auto"])
            .arg(self.folder.path().join("data"))
            .arg(&kept)
            .status();
        assert!(copied.expect("cp runs").success());
        std::fs::remove_file(kept.join("postmaster.pid")).expect("it was running");
    }

    /// Ends the server, and starts it with what was kept: it has lost every commit since.
    pub fn lose(&mut self) {
        self.stop();
        let data = self.folder.path().join("data");
        std::fs::remove_dir_all(&data).expect("it is removed");
        std::fs::rename(self.folder.path().join("kept"), data).expect("it takes its place");
        self.start_again();
    }

    /// Starts it after [`Server::stop`].
    pub fn start_again(&mut self) {
        self.child = Self::run(self.folder.path());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
