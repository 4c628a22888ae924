//! A PostgreSQL server of the test's own: on a folder and a socket that nobody else uses, and over TCP only if the test
//! asks for it. It ends with the value that started it.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that can't go on fails"
)]

mod certificates;

pub use certificates::{Authority, Issued};

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// The user that the server runs as, if the tests run as root: it refuses to.
const USER: &str = "postgres";

/// The name of the socket in its folder.
pub const SOCKET: &str = ".s.PGSQL.5432";

/// What all servers are started with.
const OF_ALL: &[&str] = &[
    "listen_addresses=",
    "lc_messages=C",
    "log_min_messages=warning",
];
/// What those of tests are started with: small and fast.
const OF_TESTS: &[&str] = &["max_connections=30", "shared_buffers=16MB", "fsync=off"];

/// See the module.
pub struct Server {
    /// Has the socket, whose path must be short.
    folder: TempDir,
    data: PathBuf,
    /// The folder of the data, if it is not in `folder`.
    _disk: Option<TempDir>,
    /// The network that it is in, if that is another one than the test's.
    network: Option<PathBuf>,
    /// As in `postgresql.conf`; a later one takes precedence.
    settings: Vec<String>,
    child: Option<Child>,
}

/// Returns a loopback address that no other test uses, so that servers can all have the same port.
pub fn unused_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let number = (std::process::id() << 2).wrapping_add(count);
    let [_, a, b, c] = number.to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
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

/// Makes a cluster.
fn init(data: &Path, more: &[&str]) {
    let ran = command("initdb")
        .arg("--pgdata")
        .arg(data)
        .args(["--username=postgres", "--auth=trust", "--no-sync"])
        .args(["--encoding=UTF8", "--locale=C"])
        .args(more)
        .output()
        .expect("initdb runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
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
        // Small segments: a cluster is copied for each test.
        init(&made, &["--wal-segsize=1"]);
        File::create(made.join("ready")).expect("a file");
    }
    made
}

/// Returns a new folder that the server's user may write to.
fn private_folder(parent: &Path) -> TempDir {
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("it can be entered");
    hand_over(folder.path());
    folder
}

/// Copies a folder with its owners.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["--archive", "--reflink=auto"])
        .args([from, to])
        .status();
    assert!(copied.expect("cp runs").success());
}

impl Server {
    /// Starts a server.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more settings, such as `max_connections=10`.
    pub fn start_with(settings: &[&str]) -> Self {
        let mut server = Self::prepare();
        server.set(settings);
        server.start_again();
        server
    }

    /// Starts a server that listens over TCP too, and has TLS if a certificate is given. `access` is its `pg_hba.conf`,
    /// and `clients` the authority whose certificates it accepts of clients.
    pub fn start_over_tcp(
        address: Ipv4Addr,
        certificate: Option<&Issued>,
        access: &str,
        clients: Option<&Authority>,
    ) -> Self {
        let mut server = Self::prepare();
        server.set(&[&format!("listen_addresses={address}")]);
        server.set(&[&format!("hba_file={}", server.file("access", access))]);
        if let Some(issued) = certificate {
            let [certificate, key] = [("tls.pem", &issued.certificate), ("tls.key", &issued.key)]
                .map(|(name, text)| server.file(name, text));
            server.set(&[
                "ssl=on",
                &format!("ssl_cert_file={certificate}"),
                &format!("ssl_key_file={key}"),
            ]);
        }
        if let Some(clients) = clients {
            let file = server.file("clients.pem", clients.pem());
            server.set(&[&format!("ssl_ca_file={file}")]);
        }
        server.start_again();
        server
    }

    /// Starts a server in another network, which is named as in `/proc/PID/ns/net`. It trusts whoever reaches it there.
    pub fn start_in(network: PathBuf) -> Self {
        let mut server = Self::prepare();
        server.network = Some(network);
        let access = server.file("access", "local all all trust\nhost all all all trust\n");
        server.set(&["listen_addresses=*", &format!("hba_file={access}")]);
        server.start_again();
        server
    }

    /// Starts a server with its data on the disk that has this folder, and its write-ahead log on another if one is given.
    /// The server's user may write to both from now on.
    pub fn start_on(disk: &Path, log: Option<&Path>) -> Self {
        hand_over(disk);
        let mut server = Self::prepare();
        let data = disk.join("data");
        copy(&server.data, &data);
        std::fs::remove_dir_all(&server.data).expect("it is removed");
        server.data = data;
        if let Some(log) = log {
            hand_over(log);
            let (from, to) = (server.data.join("pg_wal"), log.join("pg_wal"));
            copy(&from, &to);
            std::fs::remove_dir_all(&from).expect("it is removed");
            std::os::unix::fs::symlink(to, from).expect("a link");
        }
        server.start_again();
        server
    }

    fn prepare() -> Self {
        let template = template();
        let folder = private_folder(&std::env::temp_dir());
        let data = folder.path().join("data");
        copy(&template, &data);
        let mut server = Self {
            folder,
            data,
            _disk: None,
            network: None,
            settings: Vec::new(),
            child: None,
        };
        server.set(OF_ALL);
        server.set(OF_TESTS);
        server
    }

    /// Starts a server with these settings, and with its data in a new folder of `parent`.
    pub fn start_with_data_in(parent: &Path, settings: &[&str]) -> Self {
        let disk = private_folder(parent);
        let data = disk.path().join("data");
        init(&data, &[]);
        let mut server = Self {
            folder: private_folder(&std::env::temp_dir()),
            data,
            _disk: Some(disk),
            network: None,
            settings: Vec::new(),
            child: None,
        };
        server.set(OF_ALL);
        server.set(settings);
        server.start_again();
        server
    }

    fn set(&mut self, settings: &[&str]) {
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        self.settings.extend(settings);
    }

    /// Makes a file that only the server can read, and returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("it is the server's");
        hand_over(&path);
        path.display().to_string()
    }

    fn run(&self) -> Child {
        let settings = self.settings.iter().flat_map(|setting| ["-c", setting]);
        let mut command = command("postgres");
        if let Some(network) = &self.network {
            let inner = command;
            command = Command::new("nsenter");
            command.arg(format!("--net={}", network.display()));
            command.arg("--").arg(inner.get_program());
            command.args(inner.get_args());
        }
        let mut child = command
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(self.folder.path())
            .args(settings)
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

    /// Returns the process that the others of a running server belong to.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Returns the same for `store.url`.
    pub fn store_url(&self) -> String {
        self.store_url_of("postgres")
    }

    /// Returns the same for another database of this server.
    pub fn store_url_of(&self, database: &str) -> String {
        let folder = self.folder().display();
        format!("postgres://postgres@/{database}?host={folder}")
    }

    /// Runs statements as the server's superuser, and returns the rows, one a line.
    pub fn sql(&self, statements: &str) -> String {
        let ran = Command::new(programs().join("psql"))
            .arg(Self::url_of(self.folder()))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["-v", "ON_ERROR_STOP=1", "-c", statements])
            .stdin(Stdio::null())
            .output()
            .expect("psql runs");
        let error = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{statements}: {error}");
        let rows = String::from_utf8(ran.stdout).expect("text");
        rows.trim().to_owned()
    }

    /// Ends the server as a crash does, without a checkpoint.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        if child.try_wait().expect("its status").is_none() {
            // Immediate shutdown: nothing is written.
            let _ended = kill_process(Pid::from_child(&child), Signal::QUIT);
            child.wait().expect("it ends");
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
        copy(&self.data, &kept);
        std::fs::remove_file(kept.join("postmaster.pid")).expect("it was running");
    }

    /// Ends the server, and starts it with what was kept: it has lost every commit since.
    pub fn lose(&mut self) {
        self.stop();
        std::fs::remove_dir_all(&self.data).expect("it is removed");
        std::fs::rename(self.folder.path().join("kept"), &self.data).expect("it takes its place");
        self.start_again();
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.try_wait().expect("its status").is_none())
    }

    /// Starts it after [`Server::stop`], or after it has ended.
    pub fn start_again(&mut self) {
        self.child = Some(self.run());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
