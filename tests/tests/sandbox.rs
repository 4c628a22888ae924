//! The daemon's own sandbox, from the inside: a library in the daemon's process tries what an attacker would try who can
//! run code there (`sandbox/probe.c`), and what the daemon needs must still work.

use crate::broken_disk::can_trace;
use crate::support::{Daemon, Receiver, Setup, binary, namespaces, until};
use rustix::process::{Signal, geteuid};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const PROBE: &str = include_str!("sandbox/probe.c");

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ENOSYS: i32 = 38;

/// What must work where the system has it.
const ALLOWED_IF_THERE: &[&str] = &[
    "read resolv.conf",
    "read hosts",
    "read nsswitch.conf",
    "list the system's certificates",
];

/// What must work.
const ALLOWED: &[&str] = &[
    "start a thread",
    "write to the data directory",
    "sync",
    "shorten",
    "rename in the data directory",
    "link a file in the data directory",
    "remove in the data directory",
    "read the configuration",
    "read an entry of sandbox_read",
    "list the libraries",
    "ask for routes",
    "connect to any port",
    "look a name up",
];

/// What Landlock refuses, and since which of its versions. Everything else is refused by seccomp.
const BY_LANDLOCK: &[(&str, i32, u32)] = &[
    ("read a secret of the system", EACCES, 1),
    ("read another directory's file", EACCES, 1),
    ("list another directory", EACCES, 1),
    ("list the root", EACCES, 1),
    ("read another process's variables", EACCES, 1),
    ("write into /etc", EACCES, 1),
    ("write into another directory", EACCES, 1),
    ("overwrite another directory's file", EACCES, 1),
    ("shorten another directory's file", EACCES, 3),
    ("make a directory elsewhere", EACCES, 1),
    ("link elsewhere", EACCES, 1),
    ("make a pipe elsewhere", EACCES, 1),
    ("rename elsewhere", EACCES, 1),
    ("remove elsewhere", EACCES, 1),
    ("overwrite the configuration", EACCES, 1),
    ("write beside the socket", EACCES, 1),
    ("make a directory in the data directory", EACCES, 1),
    ("link in the data directory", EACCES, 1),
    ("use a device", EACCES, 1),
    ("listen on another port", EACCES, 4),
    ("reach an abstract socket outside", EPERM, 6),
    ("send a signal outside", EPERM, 6),
];
/// Refused as a link between devices, which is how Landlock refuses to move a file between directories.
const BETWEEN_DIRECTORIES: &str = "bring a file in";
const EXDEV: i32 = 18;

/// At least this many attempts are made.
const ATTEMPTS: usize = 120;

/// What the probe finds where it looks, and the probe itself.
struct Around {
    folder: TempDir,
    _abstract: UnixListener,
    probe: PathBuf,
}

impl Around {
    /// `None` if there is no C compiler, or the daemon can't have a library loaded.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("probe.c");
        let probe = folder.path().join("probe.so");
        std::fs::write(&source, PROBE).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
            .args([&probe, &source])
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no C compiler here");
            return None;
        }
        for directory in ["other", "extra"] {
            let directory = folder.path().join(directory);
            std::fs::create_dir(&directory).unwrap();
            for file in ["there", "renamed", "removed"] {
                std::fs::write(directory.join(file), "secret").unwrap();
            }
        }
        let name = folder.path().to_str().unwrap();
        let name = SocketAddr::from_abstract_name(name).unwrap();
        Some(Self {
            _abstract: UnixListener::bind_addr(&name).unwrap(),
            folder,
            probe,
        })
    }

    fn text(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// The probe is in the process, and knows where to look.
    fn setup(&self, setup: Setup, receiver: &Receiver) -> Setup {
        let data = setup.data_dir().to_str().unwrap().to_owned();
        let config = setup.config_path().to_str().unwrap().to_owned();
        let folder = setup.folder().to_str().unwrap().to_owned();
        let url: http::Uri = receiver.url("/").parse().unwrap();
        let extra = self.text("extra");
        setup
            .set("listen", r#""off""#)
            .set("sandbox_read", &format!("[{extra:?}]"))
            .env("LD_PRELOAD", self.probe.to_str().unwrap())
            .env("PROBE_DATA", &data)
            .env("PROBE_CONFIG", &config)
            .env("PROBE_FOLDER", &folder)
            .env("PROBE_OTHER", &self.text("other"))
            .env("PROBE_SECRET", &self.text("other/there"))
            .env("PROBE_EXTRA", &extra)
            .env("PROBE_ABSTRACT", self.folder.path().to_str().unwrap())
            .env("PROBE_PORT", &url.port_u16().unwrap().to_string())
            .env("PROBE_PARENT", &std::process::id().to_string())
    }
}

/// Lets the probe try everything, and returns the error of each attempt.
async fn tried(daemon: &Daemon) -> BTreeMap<String, i32> {
    daemon.signal(Signal::USR2);
    let report = daemon.setup.data_dir().join("probe.txt");
    let text = until("the probe has tried everything", async || {
        std::fs::read_to_string(&report).ok()
    })
    .await;
    let line = |line: &str| {
        let (name, error) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), error.parse().unwrap())
    };
    text.lines().map(line).collect()
}

/// Returns the version of Landlock in force up to 6, which has all that is used; 0 if there is none.
fn landlock(log: &str) -> u32 {
    let (_, told) = log.split_once(" landlock=").expect("the log tells");
    if told.starts_with("enforced") || told.contains(" threads of libraries ") {
        return 6;
    }
    let (_, version) = told
        .split_once("the kernel has version ")
        .unwrap_or(("", "0"));
    version.split(' ').next().unwrap().parse().unwrap()
}

fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

#[tokio::test]
async fn code_in_the_daemon_reaches_nothing_that_the_daemon_does_not_need() {
    let Some(around) = Around::new() else { return };
    let receiver = Receiver::start().await;
    let setup = around.setup(Setup::new(), &receiver);
    let daemon = setup.env("PROBE_CONFINED", "1").start().await;
    let tried = tried(&daemon).await;
    assert!(tried.len() >= ATTEMPTS, "only {} attempts", tried.len());
    let counts = ["threads", "reached", "restricted"].map(|count| tried[count]);
    let log = daemon.log();
    let version = landlock(&log);
    eprintln!("version {version} of Landlock, counts of threads: {counts:?}");
    let mut wrong = Vec::new();
    for (name, error) in &tried {
        let by_landlock = BY_LANDLOCK.iter().find(|(of, _, _)| of == name);
        let expected = match (name.as_str(), by_landlock) {
            ("threads" | "reached" | "restricted", _) => continue,
            (name, _) if ALLOWED_IF_THERE.contains(&name) && *error == ENOENT => continue,
            (name, _) if ALLOWED_IF_THERE.contains(&name) => 0,
            (name, _) if ALLOWED.contains(&name) => 0,
            (_, Some((_, _, since))) if *since > version => continue,
            (_, Some((_, error, _))) => *error,
            (BETWEEN_DIRECTORIES, _) if version == 0 => continue,
            (BETWEEN_DIRECTORIES, _) => EXDEV,
            ("clone3", _) => ENOSYS,
            _ => EPERM,
        };
        if *error != expected {
            wrong.push(format!("{name}: error {error} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let needed = ALLOWED.iter().chain(ALLOWED_IF_THERE);
    for name in needed.chain(BY_LANDLOCK.iter().map(|(name, _, _)| name)) {
        assert!(tried.contains_key(*name), "not tried: {name}");
    }
    // The main thread, the log's, the writer's, and those that serve.
    assert!(counts[0] >= 4, "{counts:?}");
    assert_eq!(counts[0], counts[1], "all threads were reached");
    if version > 0 {
        assert_eq!(counts[0], counts[2], "all threads are restricted");
    }
    assert_eq!(status(daemon.pid(), "NoNewPrivs"), "1");
    assert_eq!(status(daemon.pid(), "Seccomp"), "2");
    daemon.client().get("/healthz").await.expect_ok();
}

#[tokio::test]
async fn without_the_sandbox_all_of_that_is_possible() {
    let own = std::process::id();
    if !geteuid().is_root() || status(own, "Seccomp") != "0" || status(own, "NoNewPrivs") != "0" {
        eprintln!("skipped: needs root, and a process that is not restricted itself");
        return;
    }
    let Some(around) = Around::new() else { return };
    let receiver = Receiver::start().await;
    let setup = around.setup(Setup::new(), &receiver);
    let daemon = setup.set("sandbox", "false").start().await;
    let tried = tried(&daemon).await;
    let refused = |error: i32| [EPERM, EACCES, EXDEV].contains(&error);
    let refused: Vec<_> = tried
        .iter()
        .filter(|(name, error)| !name.ends_with("ed") && refused(**error))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(tried["restricted"], 0);
    assert_eq!(status(daemon.pid(), "NoNewPrivs"), "0");
    assert_eq!(status(daemon.pid(), "Seccomp"), "0");
    assert!(daemon.log().contains("the sandbox is off"));
}

#[tokio::test]
async fn what_the_sandbox_enforces_is_one_line_of_the_log() {
    let mut daemon = Daemon::start().await;
    assert!(daemon.stop().await.success());
    let log = daemon.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("landlock="))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(" seccomp=enforced"), "{}", lines[0]);
    assert!(log.find("landlock=") < log.find("stormhook ready"), "{log}");
}

/// Replaces a file, as administrators and their tools do: by renaming.
fn replace(path: &str, text: &str) {
    let fresh = format!("{path}.new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

#[tokio::test]
async fn a_daemon_of_root_goes_on_with_the_hosts_that_it_read_when_they_are_replaced() {
    let name =
        "sandbox::a_daemon_of_root_goes_on_with_the_hosts_that_it_read_when_they_are_replaced";
    if !namespaces::entered(name) {
        return;
    }
    // Only this test sees this copy.
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status().unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    };
    let copy = folder.path().join("etc");
    let copy = copy.to_str().unwrap();
    run("cp", &["-a", "/etc", copy]);
    run("mount", &["--bind", copy, "/etc"]);
    replace("/etc/hosts", "127.0.0.1 first.test\n");
    let setup = Setup::new().set("delivery.pool_idle", r#""0s""#);
    let daemon = setup.start().await;
    if landlock(&daemon.log()) == 0 {
        eprintln!("skipped: no Landlock here");
        return;
    }
    let receiver = Receiver::start().await;
    let api = daemon.client();
    let url = receiver.url("/").replace("127.0.0.1", "first.test");
    api.endpoint(&url, &["a"]).await;
    let event = api.event("a", json!(1)).await;
    api.delivery_when(&event, "SUCCESS").await;
    replace("/etc/hosts", "127.0.0.1 second.test\n");
    until("it is told", async || {
        api.event("a", json!(2)).await;
        let told = "its former contents are used until a restart";
        daemon.log().contains(told).then_some(())
    })
    .await;
    let event = api.event("a", json!(3)).await;
    let delivery = api.delivery_when(&event, "SUCCESS").await;
    assert_eq!(delivery["attempt"], 1, "{delivery}");
}

#[tokio::test]
async fn a_thread_that_was_there_before_the_sandbox_is_told() {
    let Some(around) = Around::new() else { return };
    let receiver = Receiver::start().await;
    let setup = around.setup(Setup::new(), &receiver);
    let daemon = setup.env("PROBE_THREAD", "1").start().await;
    let tried = tried(&daemon).await;
    let log = daemon.log();
    if landlock(&log) > 0 {
        assert_eq!(tried["restricted"] + 1, tried["threads"], "{tried:?}");
        let told = "landlock=partially enforced: 1 threads of libraries";
        assert!(log.contains(told), "{log}");
    }
}

/// Returns a program that runs the daemon on a kernel that answers calls of the sandbox so.
fn on_another_kernel(setup: &Setup, answers: &[&str]) -> PathBuf {
    let path = setup.folder().join("traced");
    let inject: String = answers.iter().map(|a| format!("-e inject={a} ")).collect();
    let script = format!(
        "#!/bin/sh\nexec strace -D -f -qq -o /dev/null {inject} {:?} \"$@\"\n",
        binary()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn a_kernel_that_can_do_less_starts_the_daemon_and_the_log_tells_what_is_missing() {
    if !can_trace() {
        eprintln!("skipped: no strace here, or it may not trace");
        return;
    }
    let kernels: [(&[&str], &str, bool); 3] = [
        (
            &[
                "landlock_create_ruleset:error=ENOSYS",
                "seccomp:error=EINVAL",
            ],
            "the sandbox is incomplete landlock=not supported: the kernel has no Landlock, or something refuses it seccomp=not supported: ",
            false,
        ),
        (
            &["landlock_create_ruleset:error=EOPNOTSUPP"],
            "landlock=not supported: the kernel was started without Landlock (lsm=) seccomp=enforced",
            true,
        ),
        (
            &["landlock_create_ruleset:retval=3:when=1"],
            "in a sandbox landlock=partially enforced: the kernel has version 3 of Landlock, not 6 seccomp=enforced",
            true,
        ),
    ];
    for (answers, told, has_seccomp) in kernels {
        let mut setup = Setup::new();
        setup.program = Some(on_another_kernel(&setup, answers));
        let mut daemon = setup.start().await;
        daemon.client().event("a", json!(1)).await;
        assert_eq!(status(daemon.pid(), "NoNewPrivs"), "1", "{told}");
        let mode = if has_seccomp { "2" } else { "0" };
        assert_eq!(status(daemon.pid(), "Seccomp"), mode, "{told}");
        assert!(daemon.stop().await.success());
        let log = daemon.log();
        assert!(log.contains(told), "{told} in {log}");
    }
}

#[tokio::test]
async fn an_entry_of_sandbox_read_that_is_not_there_is_told() {
    let setup = Setup::new().set("sandbox_read", r#"["/nowhere/certificates"]"#);
    let mut daemon = setup.start().await;
    assert!(daemon.stop().await.success());
    let log = daemon.log();
    let told = "an entry of sandbox_read has no effect";
    let line = log.lines().find(|line| line.contains(told)).unwrap();
    assert!(line.contains("path=/nowhere/certificates"), "{line}");
}

#[tokio::test]
async fn a_key_that_the_sandbox_hides_is_refused_with_what_to_do() {
    let elsewhere = tempfile::tempdir().unwrap();
    let key = elsewhere.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let body = json!({"newKeyFile": &key});
    let mut daemon = Daemon::start().await;
    if landlock(&daemon.log()) > 0 {
        let refused = daemon
            .client()
            .post("/v1/secrets/rekey", body.clone())
            .await;
        let problem = refused.problem_in(400, "invalid_field", "newKeyFile");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.contains("name its directory in sandbox_read"),
            "{detail}"
        );
    }
    assert!(daemon.stop().await.success());
    let listed = format!("[{:?}]", elsewhere.path());
    let daemon = daemon
        .into_setup()
        .set("sandbox_read", &listed)
        .start()
        .await;
    daemon
        .client()
        .post("/v1/secrets/rekey", body)
        .await
        .expect(202);
}

fn link(to: impl AsRef<Path>, at: impl AsRef<Path>) {
    let _none = std::fs::remove_file(&at);
    std::os::unix::fs::symlink(to, at).unwrap();
}

#[tokio::test]
async fn a_configuration_that_is_replaced_through_a_link_is_read_again() {
    let setup = Setup::new();
    // As Kubernetes mounts it: names lead through `..data`, which is replaced.
    let root = setup.folder().to_owned();
    for directory in ["..1", "..2"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    link("..1", root.join("..data"));
    link("..data/stormhook.toml", setup.config_path());
    let mut daemon = setup.start().await;
    link("..2", root.join("..data"));
    daemon.change("limits.event_bytes", r#""1KiB""#);
    daemon.signal(Signal::HUP);
    until("it is read again", async || {
        daemon
            .log()
            .contains("configuration reloaded")
            .then_some(())
    })
    .await;
    let long = json!({"organizationId": "o", "type": "a", "data": "x".repeat(1_024)});
    let refused = daemon.client().post("/v1/events", long).await;
    refused.problem(413, "event_too_large");
}

#[tokio::test]
async fn a_store_behind_a_link_is_written() {
    let mut daemon = Daemon::start().await;
    assert!(daemon.stop().await.success());
    let disk = tempfile::tempdir().unwrap();
    let (store, real) = (
        daemon.setup.data_dir().join("stormhook.redb"),
        disk.path().join("s.redb"),
    );
    std::fs::copy(&store, &real).unwrap();
    link(&real, &store);
    daemon.start_again().await;
    let event = daemon.client().event("a", json!(1)).await;
    assert!(daemon.stop().await.success());
    daemon.start_again().await;
    let path = format!("/v1/events/{event}");
    assert_eq!(daemon.client().get(&path).await.expect(200)["data"], 1);
}
