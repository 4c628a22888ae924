//! Networks and disks of a test's own, in namespaces of Linux that end with the test. They need root and iproute2.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Set in the test that runs in its own namespaces.
const ENTERED: &str = "TESTED_IN_NAMESPACES";

/// Whether the test is in namespaces of its own, where it may change networks and mounts. If not, it is run there, and the
/// caller has nothing more to do. `name` is that of the test, with its modules.
pub(crate) fn entered(name: &str) -> bool {
    if std::env::var_os(ENTERED).is_some() {
        return true;
    }
    let new = ["--net", "--mount"];
    let probe = "ip link set lo up && ip link add name a type veth peer name b && mount -t tmpfs tmpfs /mnt";
    let can = Command::new("unshare")
        .args(new)
        .args(["sh", "-c", probe])
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: namespaces of networks and mounts need root and iproute2");
        return false;
    }
    let run = r#"ip link set lo up && exec "$@""#;
    let ran = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(new)
        .args(["sh", "-c", run, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(ENTERED, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    eprintln!("{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{name} failed in its namespaces");
    assert!(said.contains("1 passed"), "there is no test {name}");
    false
}

/// A network beside the test's, with a cable to it for each number that is used.
pub(crate) struct Network {
    /// Keeps it alive.
    holder: Child,
}

impl Network {
    pub(crate) fn new() -> Self {
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare", "--net"])
            .args([
                "sh",
                "-c",
                "ip link set lo up && echo up && exec sleep infinity",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut network = Self {
            holder: holder.unwrap(),
        };
        let mut up = [0; 2];
        let said = network.holder.stdout.as_mut().unwrap();
        std::io::Read::read_exact(said, &mut up).unwrap();
        network
    }

    /// Returns the file that names it.
    pub(crate) fn file(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// Lays a cable, and returns the address of its far end.
    pub(crate) fn lay(&self, number: usize) -> String {
        let (near, far) = (format!("near{number}"), format!("far{number}"));
        let ip = |arguments: &str| ip(&mut Command::new("ip"), arguments);
        ip(&format!("link add name {near} type veth peer name {far}"));
        ip(&format!("link set {far} netns {}", self.holder.id()));
        ip(&format!("addr add 10.99.{number}.1/24 dev {near}"));
        ip(&format!("link set {near} up"));
        self.inside(&format!("addr add 10.99.{number}.2/24 dev {far}"));
        self.inside(&format!("link set {far} up"));
        format!("10.99.{number}.2")
    }

    /// Cuts a cable: what is sent on it is lost, and nobody is told.
    pub(crate) fn cut(&self, number: usize) {
        self.inside(&format!("link set far{number} down"));
    }

    pub(crate) fn mend(&self, number: usize) {
        self.inside(&format!("link set far{number} up"));
    }

    fn inside(&self, arguments: &str) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.file().display()));
        ip(command.args(["--", "ip"]), arguments);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

fn ip(command: &mut Command, arguments: &str) {
    let ran = command.args(arguments.split(' ')).output().unwrap();
    assert!(ran.status.success(), "ip {arguments}: {ran:?}");
}
