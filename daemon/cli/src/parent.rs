//! Ties the demo's daemon to the demo: a pipe on the daemon's stdin, whose other end closes when the demo ends, even by
//! `kill -9`. The system closes the pipe, so nothing must be set up in time, unlike a parent-death signal.

use std::io::{self, Read};

use rustix::process::{Signal, getpid, kill_process};

use crate::failure::Failure;

/// Waits for stdin to end, in a separate thread; then ends the process as SIGTERM does.
pub(crate) fn end_with_stdin() -> Result<(), Failure> {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            until_closed(io::stdin().lock());
            // A process may always send itself a signal.
            let _ = kill_process(getpid(), Signal::TERM);
        })
        .map(drop)
        .map_err(|error| Failure::local("start a thread", &error))
}

fn until_closed(mut pipe: impl Read) {
    // An error ends it as well: nobody can hold it open any more.
    let _ = io::copy(&mut pipe, &mut io::sink());
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn it_ends_when_the_other_end_closes_and_not_when_something_is_written() {
        let (mut demo, daemon) = UnixStream::pair().unwrap();
        let (ended, end) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            until_closed(daemon);
            ended.send(()).unwrap();
        });
        demo.write_all(b"line\n").unwrap();
        assert_eq!(end.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(demo);
        end.recv().unwrap();
        thread.join().unwrap();
    }
}
