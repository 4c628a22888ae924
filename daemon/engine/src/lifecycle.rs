//! The phase of the daemon. Everything that serves or waits asks here.

use tokio::sync::watch;

/// The phases, in order. None is entered twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Open deliveries are being read. Callers are told to retry.
    Starting,
    /// Events are accepted and delivered.
    Running,
    /// Nothing is accepted and no attempt starts. Attempts on the wire may finish, and reads are answered.
    Draining,
    /// Attempts that are still on the wire are cut and recorded as interrupted.
    Cut,
    /// Connections finish.
    Closing,
}

/// See the module.
#[derive(Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(watch::channel(Phase::Starting).0)
    }
}

impl Lifecycle {
    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Whether the daemon has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Moves on to `phase`. Does nothing if that would be a step back.
    pub fn go_on_to(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = *now < phase;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Resolves when `phase`, or a later one, is reached.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut now = self.0.subscribe();
        async move {
            // A dropped daemon has reached its end too.
            let _gone = now.wait_for(|now| *now >= phase).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_phase_that_was_passed_has_been_reached_and_none_comes_back() {
        let life = Lifecycle::default();
        let draining = life.reached(Phase::Draining);
        life.go_on_to(Phase::Closing);
        draining.await;
        life.go_on_to(Phase::Running);
        assert_eq!(life.phase(), Phase::Closing);
    }
}
