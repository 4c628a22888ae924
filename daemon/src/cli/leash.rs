//! What ties the demo's daemon to the demo: a pipe on the daemon's stdin, whose other end closes when the demo ends, be it by
//! `kill -9`. A pipe is closed by the system itself, so nothing has to be asked for in time as with a signal of the parent's death.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::process::{Signal, getpid, kill_process};

use super::failure::Failure;

/// Waits on a thread of its own for stdin to end; then removes this folder and ends the process as SIGTERM does.
pub(crate) fn hold(folder: PathBuf) -> Result<(), Failure> {
    std::thread::Builder::new()
        .name("leash".to_owned())
        .spawn(move || {
            until_cut(io::stdin().lock(), &folder, || {
                // A process may always send itself a signal.
                let _ = kill_process(getpid(), Signal::TERM);
            });
        })
        .map(drop)
        .map_err(|error| Failure::local("start a thread", &error))
}

fn until_cut(mut leash: impl Read, folder: &Path, end: impl FnOnce()) {
    // An error ends it as well: nobody can hold it any more.
    let _ = io::copy(&mut leash, &mut io::sink());
    // Before the end, since afterwards nobody would be left to do it. Files that are open live on until they are closed.
    let _ = std::fs::remove_dir_all(folder);
    end();
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_daemon_ends_and_its_folder_goes_when_the_other_end_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo");
        std::fs::create_dir_all(path.join("data")).unwrap();
        let (demo, daemon) = UnixStream::pair().unwrap();
        let (ended, end) = mpsc::channel();
        let theirs = path.clone();
        let thread = std::thread::spawn(move || {
            until_cut(daemon, &theirs, || ended.send(()).unwrap());
        });
        assert_eq!(end.try_recv(), Err(mpsc::TryRecvError::Empty));
        assert!(path.exists());
        drop(demo);
        end.recv().unwrap();
        thread.join().unwrap();
        assert!(!path.exists());
    }
}
