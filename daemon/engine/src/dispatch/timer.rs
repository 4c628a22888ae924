//! The timer that waits for the next due time. With nothing due it sleeps until it is notified.

use super::Dispatch;
use crate::clock;
use std::sync::Arc;
use std::time::Duration;

impl Dispatch {
    pub(super) async fn run_timer(self: Arc<Self>) {
        loop {
            let notified = self.timer.notified();
            let wake = {
                let inner = &mut *self.inner();
                let may_start = self.may_start(inner);
                let wake = inner.schedule.next_wake().filter(|_| may_start);
                inner.alarm.set(wake)
            };
            let Some(wake) = wake else {
                notified.await;
                continue;
            };
            let rest_ms = wake.since_ms(self.clock.now()).max(1);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(clock::deadline(Duration::from_millis(rest_ms))) => {
                    self.pump(&mut self.inner());
                }
                () = notified => {}
            }
        }
    }
}
