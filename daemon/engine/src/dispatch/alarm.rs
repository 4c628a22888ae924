//! The time that the timer is set to.
//!
//! Protected by the lock of the schedule. So the task that sets the timer and the task that finds an earlier due time
//! see the same value, and one of them always sees what the other did.

use stormhook_store::UnixMs;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    set_to: Option<UnixMs>,
}

impl Alarm {
    /// The timer now sleeps until `wake`, or until it is notified. Called under the lock under which `wake` was
    /// computed.
    pub(super) fn set(&mut self, wake: Option<UnixMs>) -> Option<UnixMs> {
        self.set_to = wake;
        wake
    }

    /// Whether the timer must be notified because something is due at `wake`.
    pub(super) fn is_late_for(&self, wake: UnixMs) -> bool {
        self.set_to.is_none_or(|set_to| wake < set_to)
    }
}

#[cfg(test)]
mod tests {
    //! Every interleaving of the threads.

    use super::*;
    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::sync::{Arc, Mutex, Notify};
    use loom::thread;

    /// The part of the dispatch's locked state that the timer uses.
    #[derive(Default)]
    struct Inner {
        alarm: Alarm,
        due: Option<UnixMs>,
    }

    /// A delivery becomes due while the timer is about to sleep. Loom reports a deadlock if nothing wakes the timer.
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

    /// The time used to be stored after the lock was released. This shows that the test above finds such an order.
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
