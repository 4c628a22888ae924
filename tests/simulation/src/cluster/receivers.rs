//! Simulated receivers, which all daemons send to: how each handles a request, and when.

use super::daemon::Clock;
use super::oracle::Observed;
use super::stage::{Shared, with};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::outcome::{Failure, Reply};
use stormhook_engine::transport::{AttemptRequest, Attempted, Attempting, Destination, Transport};
use stormhook_store::endpoint::Settings;
use stormhook_testkit::random::Random;
use tokio::time::{sleep, timeout};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Fast,
    /// Accepts everything, after up to twice the time that an attempt may take.
    Slow,
    /// Reads requests and never answers.
    Hanging,
    Failing,
    /// Fails every other request.
    Erratic,
    /// Refuses connections.
    Dead,
}

const MANNERS: [Manner; 8] = [
    Manner::Fast,
    Manner::Fast,
    Manner::Slow,
    Manner::Slow,
    Manner::Hanging,
    Manner::Failing,
    Manner::Erratic,
    Manner::Dead,
];

/// See the module.
pub(crate) struct Receivers {
    manners: Vec<Manner>,
    random: Random,
}

impl Receivers {
    pub(crate) fn new(count: u64, mut random: Random) -> Self {
        let manners = (0..count).map(|_| draw(&mut random)).collect();
        Self { manners, random }
    }

    /// Changes the behaviour of one receiver.
    pub(crate) fn change(&mut self) {
        let at = self.random.below(self.manners.len() as u64);
        self.manners[usize::try_from(at).unwrap()] = draw(&mut self.random);
    }

    /// Makes all receivers healthy.
    pub(crate) fn heal(&mut self) {
        self.manners.fill(Manner::Fast);
    }

    /// Returns how long the connection takes, and whether it is made; and when the answer comes, and which.
    fn script(&mut self, host: &str, timeout: Duration) -> (u64, bool, Option<(u64, u16)>) {
        let at = host.strip_prefix('p').and_then(|rest| {
            let number = rest.split('.').next()?;
            number.parse::<usize>().ok()
        });
        let manner = self.manners[at.expect("a receiver's host")];
        let connects_ms = self.random.below(30);
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap();
        let soon_ms = 1 + self.random.below(70);
        let late_ms = self.random.below(2 * timeout_ms);
        let fails = self.random.one_in(2);
        match manner {
            Manner::Fast => (connects_ms, true, Some((soon_ms, 204))),
            Manner::Slow => (connects_ms, true, Some((late_ms, 204))),
            Manner::Hanging => (connects_ms, true, None),
            Manner::Failing => (connects_ms, true, Some((soon_ms, 500))),
            Manner::Erratic => (
                connects_ms,
                true,
                Some((soon_ms, if fails { 503 } else { 204 })),
            ),
            Manner::Dead => (connects_ms, false, None),
        }
    }
}

fn draw(random: &mut Random) -> Manner {
    MANNERS[usize::try_from(random.below(MANNERS.len() as u64)).unwrap()]
}

/// The transport of one life of a daemon.
pub(crate) struct Network {
    pub(crate) shared: Shared,
    pub(crate) life: u64,
    pub(crate) clock: Clock,
    /// How long an attempt may take.
    pub(crate) timeout: Duration,
}

/// The way from a daemon to a receiver.
struct Way {
    shared: Shared,
    life: u64,
    clock: Clock,
    timeout: Duration,
    host: String,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl Transport for Network {
    fn destination(&self, endpoint: &Settings) -> Result<Arc<dyn Destination>, String> {
        let uri = endpoint.url.parse::<http::Uri>();
        let uri = uri.map_err(|_| "invalid URL".to_owned())?;
        Ok(Arc::new(Way {
            shared: Arc::clone(&self.shared),
            life: self.life,
            clock: self.clock,
            timeout: self.timeout,
            host: uri.host().unwrap_or_default().to_owned(),
        }))
    }
}

impl Destination for Way {
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a> {
        Box::pin(async move {
            let begun_ms = self.clock.now_ms();
            let script =
                |stage: &mut super::stage::Stage| stage.receivers.script(&self.host, self.timeout);
            let (connects_ms, is_made, answer) = with(&self.shared, script);
            let saw = Observed::of(self.life, &request.headers);
            let sent = async {
                sleep(Duration::from_millis(connects_ms)).await;
                if !is_made {
                    let failed = Reply::Failed(Failure::Connect, "refused".to_owned());
                    return Attempted::from(failed);
                }
                if !(request.still_wanted)() {
                    return Attempted::NotSent;
                }
                let _handled = self.arrived(saw, begun_ms, answer);
                match answer {
                    Some((after_ms, code)) => {
                        sleep(Duration::from_millis(after_ms)).await;
                        Attempted::from(Reply::Status {
                            code,
                            retry_after: None,
                            excerpt: Vec::new(),
                        })
                    }
                    None => std::future::pending().await,
                }
            };
            let late = Reply::Failed(Failure::Timeout, "no answer in time".to_owned());
            let sent = timeout(self.timeout, sent).await;
            sent.unwrap_or_else(|_| Attempted::from(late))
        })
    }
}

impl Way {
    /// The receiver has read the request. It is done with it when it answers, when the attempt's time is over, or when the
    /// connection is closed.
    fn arrived(&self, saw: Observed, begun_ms: u64, answer: Option<(u64, u16)>) -> Handled<'_> {
        let now_ms = self.clock.now_ms();
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap();
        let answers_ms = answer.map_or(u64::MAX, |(after_ms, _)| now_ms + after_ms);
        let done_ms = answers_ms.min(begun_ms + timeout_ms);
        let accepts = answer.is_some_and(|(_, code)| code < 300);
        with(&self.shared, |stage| {
            let tables = &stage.database.tables;
            stage
                .oracle
                .requested(tables, saw, now_ms, done_ms, accepts);
        });
        Handled {
            shared: &self.shared,
            saw,
        }
    }
}

/// A request that a receiver handles.
struct Handled<'a> {
    shared: &'a Shared,
    saw: Observed,
}

impl Drop for Handled<'_> {
    fn drop(&mut self) {
        with(self.shared, |stage| stage.oracle.closed(self.saw));
    }
}
