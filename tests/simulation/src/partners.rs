//! Simulated receivers: how each handles a request, and when. They report what they saw to the oracle.

use crate::oracle::{Observed, Oracle};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_engine::outcome::{Failure, Reply};
use stormhook_engine::transport::{AttemptRequest, Attempted, Attempting, Destination, Transport};
use stormhook_store::endpoint::Settings;
use stormhook_testkit::random::Random;
use tokio::time::{Instant, sleep, timeout_at};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Accepts everything within 100 ms.
    Fast,
    /// Accepts everything, after 1 to 14 s.
    Slow,
    /// Reads requests and never answers.
    Hanging,
    /// Refuses connections.
    Dead,
    /// Accepts everything, but two times in three the daemon lacks a resource for the connection.
    OutOfReach,
    /// Its name has no address, or the lookup takes longer than an attempt may.
    Nameless,
    /// Answers 500.
    Failing,
    /// Answers with a failure and far too much text.
    Talkative,
    /// Alternates between fast and failing, with this period in milliseconds.
    Flapping(u64),
    /// 410.
    Gone,
    /// 429 or 503 with `Retry-After`.
    Busy,
    /// Reads the request and resets the connection, every other time.
    Resetting,
    /// Any of these, drawn for each request.
    Erratic,
}

/// How much a talkative receiver sends, in bytes.
const LONG_TEXT_CHARS: usize = 50_000;

const MANNERS: [Manner; 17] = [
    Manner::Fast,
    Manner::Fast,
    Manner::Fast,
    Manner::Fast,
    Manner::Slow,
    Manner::Hanging,
    Manner::Dead,
    Manner::OutOfReach,
    Manner::Nameless,
    Manner::Failing,
    Manner::Talkative,
    Manner::Flapping(90_000),
    Manner::Flapping(5_400_000),
    Manner::Gone,
    Manner::Busy,
    Manner::Resetting,
    Manner::Erratic,
];

/// The script of one request.
struct Script {
    connects_after: Duration,
    /// Why no connection is made.
    no_connection: Option<(Failure, &'static str)>,
    /// Whether the daemon has the resources for a connection.
    in_reach: bool,
    answers_after: Duration,
    answer: Option<Reply>,
}

struct State {
    random: Random,
    manners: Vec<Manner>,
}

/// See the module.
pub(crate) struct Partners {
    state: Mutex<State>,
    oracle: Arc<Mutex<Oracle>>,
}

impl Partners {
    pub(crate) fn new(count: u64, mut random: Random, oracle: Arc<Mutex<Oracle>>) -> Self {
        let manners = (0..count).map(|_| draw(&mut random)).collect();
        let state = Mutex::new(State { random, manners });
        Self { state, oracle }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the behaviour of one receiver.
    pub(crate) fn change(&self, random: &mut Random) {
        let state = &mut *self.state();
        let at = random.below(state.manners.len() as u64);
        state.manners[usize::try_from(at).unwrap()] = draw(random);
    }

    /// Makes all receivers healthy.
    pub(crate) fn heal(&self) {
        self.state().manners.fill(Manner::Fast);
    }

    fn script(&self, host: &str, now_ms: u64, first: bool) -> Script {
        let state = &mut *self.state();
        let at: usize = host
            .strip_prefix('p')
            .and_then(|rest| rest.split('.').next()?.parse().ok())
            .unwrap_or(0);
        let manner = state.manners.get(at).copied().unwrap_or(Manner::Fast);
        script(&mut state.random, manner, now_ms, first)
    }
}

fn draw(random: &mut Random) -> Manner {
    MANNERS[usize::try_from(random.below(MANNERS.len() as u64)).unwrap()]
}

fn script(random: &mut Random, manner: Manner, now_ms: u64, first: bool) -> Script {
    let ms = |random: &mut Random, from: u64, to: u64| {
        Duration::from_millis(from + random.below(to - from))
    };
    let status = |code: u16, retry_after: Option<String>| {
        Some(Reply::Status {
            code,
            retry_after: retry_after.map(String::into_bytes),
            excerpt: if code < 300 {
                Vec::new()
            } else {
                b"no".to_vec()
            },
        })
    };
    let connects_after = if random.one_in(20) {
        ms(random, 0, 4_000)
    } else {
        ms(random, 0, 30)
    };
    let mut script = Script {
        connects_after,
        no_connection: None,
        in_reach: true,
        answers_after: ms(random, 0, 70),
        answer: status(204, None),
    };
    match manner {
        Manner::Fast => {}
        Manner::Slow => script.answers_after = ms(random, 1_000, 14_000),
        Manner::Hanging => script.answer = None,
        Manner::Dead => script.no_connection = Some((Failure::Connect, "connection refused")),
        Manner::Nameless => {
            script.no_connection = Some((Failure::Dns, "the name has no address"));
            if random.one_in(2) {
                script.connects_after = Duration::from_secs(3_600);
            }
        }
        Manner::OutOfReach => script.in_reach = random.one_in(3),
        Manner::Failing => script.answer = status(500, None),
        Manner::Talkative => {
            let much = "é".repeat(LONG_TEXT_CHARS);
            script.answer = if random.one_in(2) {
                let reply = Reply::Status {
                    code: 503,
                    retry_after: Some(much.clone().into_bytes()),
                    excerpt: much.into_bytes(),
                };
                Some(reply)
            } else {
                Some(Reply::Failed(Failure::Tls, much))
            };
        }
        Manner::Flapping(period_ms) => {
            if (now_ms / period_ms).is_multiple_of(2) {
                script.answer = status(502, None);
            }
        }
        Manner::Gone => script.answer = status(410, None),
        Manner::Busy => {
            let code = if random.one_in(2) { 429 } else { 503 };
            let seconds = [1, 90, 3_600, 200_000][usize::try_from(random.below(4)).unwrap()];
            script.answer = if random.one_in(3) {
                status(204, None)
            } else {
                status(code, Some(format!("{seconds}")))
            };
        }
        Manner::Resetting => {
            if random.one_in(2) {
                let why = "connection reset by peer".to_owned();
                script.answer = Some(Reply::Failed(Failure::Protocol, why));
            }
        }
        Manner::Erratic if first => {
            let other = draw(random);
            return self::script(random, other, now_ms, false);
        }
        Manner::Erratic => {}
    }
    script
}

/// The transport to the receivers, for one life of the daemon.
pub(crate) struct Network {
    pub(crate) partners: Arc<Partners>,
    /// How long an attempt may take.
    pub(crate) timeout: Duration,
}

/// The destination of one receiver.
struct Way {
    partners: Arc<Partners>,
    host: String,
    timeout: Duration,
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
            partners: Arc::clone(&self.partners),
            host: uri.host().unwrap_or_default().to_owned(),
            timeout: self.timeout,
        }))
    }
}

impl Destination for Way {
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>) -> Attempting<'a> {
        Box::pin(async move {
            let deadline = deadline(self.timeout);
            let saw = Observed::of(&request.headers);
            let mut flight = Oracle::started(&self.partners.oracle, saw);
            let now_ms = flight.now_ms();
            let script = self.partners.script(&self.host, now_ms, true);
            let excerpt_bytes = request.excerpt_bytes;
            if timeout_at(deadline, sleep(script.connects_after))
                .await
                .is_err()
            {
                // The stage that it reached says where the time went.
                let failure = match script.no_connection {
                    Some((Failure::Dns, _)) => Failure::Dns,
                    _ => Failure::Timeout,
                };
                return flight.answered(timed_out(failure));
            }
            if !script.in_reach {
                return flight.lacked("no descriptors");
            }
            if let Some((failure, why)) = script.no_connection {
                return flight.answered(Reply::Failed(failure, why.to_owned()));
            }
            if !(request.still_wanted)() {
                return Attempted::NotSent;
            }
            flight.arrived(&request.body).await;
            let answer = async {
                match script.answer {
                    Some(mut answer) => {
                        sleep(script.answers_after).await;
                        // As every transport does.
                        if let Reply::Status { excerpt, .. } = &mut answer {
                            excerpt.truncate(excerpt_bytes);
                        }
                        answer
                    }
                    None => std::future::pending().await,
                }
            };
            let reply = timeout_at(deadline, answer).await;
            flight.answered(reply.unwrap_or_else(|_| timed_out(Failure::Timeout)))
        })
    }
}

fn timed_out(failure: Failure) -> Reply {
    Reply::Failed(failure, "no answer in time".to_owned())
}

#[allow(
    clippy::disallowed_methods,
    reason = "the runtime's clock is the simulated one"
)]
fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}
