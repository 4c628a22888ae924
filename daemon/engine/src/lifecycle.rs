//! How far the daemon is between its first and its last moment. Whoever serves or waits asks here.

use tokio::sync::watch;

/// The phases, in their order; none comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// What waits is being read. Callers are told to come back.
    Starting,
    /// Events are taken and delivered.
    Running,
    /// Nothing is taken and no attempt starts; what is on the wire may finish, and questions are answered.
    Draining,
    /// Attempts still on the wire are cut and recorded as interrupted.
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
    /// Where it is.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes on to `phase`. Going back does nothing.
    pub fn go_on_to(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = *now < phase;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Resolves when `phase`, or a later one, has come.
    pub fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut now = self.0.subscribe();
        async move {
            // A daemon that is gone has come to its end too.
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
