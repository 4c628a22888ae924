//! What the retry timer is set to.
//!
//! It has no lock of its own: it lies behind the lock that the schedule lies behind. So whoever sets the timer and whoever finds out
//! that something is due earlier see the same time, and one of them always sees what the other did.

use stormhook_store::UnixMs;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set_to: Option<UnixMs>,
}

impl Alarm {
    /// The timer now sleeps until `wake`, or until it is woken. Set under the same lock under which `wake` was found out.
    pub(super) fn set(&mut self, wake: Option<UnixMs>) -> Option<UnixMs> {
        self.set_to = wake;
        wake
    }

    /// Whether the timer must be woken, where something is due at `wake`.
    pub(super) fn is_late_for(&self, wake: UnixMs) -> bool {
        self.set_to.is_none_or(|set_to| wake < set_to)
    }
}

#[cfg(test)]
mod tests {
    //! Every order in which the threads can run.

    use super::*;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::sync::{Arc, Mutex, Notify};
    use loom::thread;

    /// What lies behind the lock of the dispatch, as far as the timer goes.
    #[derive(Default)]
    struct Inner {
        alarm: Alarm,
        due: Option<UnixMs>,
    }

    /// Something becomes due while the timer is about to sleep. Loom reports a deadlock where nobody wakes it.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let inner = Arc::new(Mutex::new(Inner::default()));
            let timer = Arc::new(Notify::new());
            let (theirs, bell) = (Arc::clone(&inner), Arc::clone(&timer));
            let pump = thread::spawn(move || {
                let inner = &mut *theirs.lock().unwrap();
                let wake = UnixMs(5);
                inner.due = Some(wake);
                if inner.alarm.is_late_for(wake) {
                    bell.notify();
                }
            });
            loop {
                let wake = {
                    let inner = &mut *inner.lock().unwrap();
                    inner.alarm.set(inner.due)
                };
                if wake.is_some() {
                    break;
                }
                timer.wait();
            }
            pump.join().unwrap();
        });
    }

    /// The time used to be stored after the lock was let go of. This is to show that the check above finds such an order.
    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_time_stored_behind_the_lock_loses_one() {
        const LAST: u64 = 1;
        loom::model(|| {
            let due = Arc::new(Mutex::new(None));
            // The time that has just passed.
            let armed = Arc::new(AtomicU64::new(LAST));
            let timer = Arc::new(Notify::new());
            let (theirs, compared, bell) =
                (Arc::clone(&due), Arc::clone(&armed), Arc::clone(&timer));
            let pump = thread::spawn(move || {
                let mut due = theirs.lock().unwrap();
                *due = Some(5);
                if 5 < compared.load(Ordering::Relaxed) {
                    bell.notify();
                }
            });
            loop {
                let wake = *due.lock().unwrap();
                armed.store(wake.unwrap_or(u64::MAX), Ordering::Relaxed);
                if wake.is_some() {
                    break;
                }
                timer.wait();
            }
            pump.join().unwrap();
        });
    }
}
