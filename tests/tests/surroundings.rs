//! What is around the daemon: its socket's file, the environment, the limit of open files, and a stderr that nobody reads.

use crate::support::{Client, Daemon, Receiver, Setup, binary, until, within};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

#[tokio::test]
async fn a_store_and_a_socket_that_do_not_belong_together_are_not_mixed_up() {
    let daemon = Daemon::start().await;
    let other = Daemon::start().await;
    let mut stopped = Daemon::start().await;
    assert!(stopped.stop().await.success());
    let socket = daemon.setup.socket().display().to_string();
    for folder in [other.setup.data_dir(), stopped.setup.data_dir()] {
        let folder = folder.display().to_string();
        for command in ["check", "export"] {
            let arguments = [command, "--data-dir", &folder, "--socket", &socket];
            let output = daemon.setup.run(&arguments).await;
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains(&folder) && said.contains(&socket), "{said}");
        }
    }
    let own = daemon.setup.data_dir().display().to_string();
    let arguments = ["check", "--data-dir", &own, "--socket", &socket];
    let output = daemon.setup.run(&arguments).await;
    assert!(output.status.success(), "{output:?}");
}
