//! Resolves names to addresses. Attempts that need the same name share one look-up; answers are kept for their TTL,
//! failures for some seconds. The number of concurrent look-ups is bounded by class, so that names whose server doesn't
//! answer leave room for the others. A look-up ends when no attempt waits for it any more, and frees its slot.

mod ask;
mod cache;
mod places;
mod system;
#[cfg(test)]
pub(super) mod tests;

use ask::{LATE, Outcome, Servers, Trouble, Unknown};
use cache::{Cache, Class};
use hickory_resolver::proto::rr::Name;
use places::{Place, Places};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_engine::clock;
pub(super) use system::Sources;
use system::{Stamp, System};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// How often the files are checked for changes.
const FILES_CHECKED: Duration = Duration::from_secs(5);
/// After this time a look-up is slow: most names are answered sooner.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// The addresses of a name, in the order of the answer.
type Addresses = Arc<[IpAddr]>;

/// Why a name can't be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// This machine's fault, in plain words.
    Ours(String),
    /// The name's fault, in plain words.
    Theirs(String),
}

/// The result of resolving a name.
pub(super) struct Resolved {
    /// The addresses that are known so far; empty if the name has none.
    pub(super) addresses: Addresses,
    /// The look-up from which addresses of the other family may still come.
    late: Option<Arc<Flight>>,
}

impl Resolved {
    /// Returns addresses that need no look-up.
    pub(super) fn known(addresses: impl Into<Addresses>) -> Self {
        let late = None;
        Self {
            addresses: addresses.into(),
            late,
        }
    }

    /// Waits for the other family and returns all addresses; `None` if nothing is added.
    pub(super) async fn late(self) -> Option<Addresses> {
        let flight = self.late?;
        let mut progress = flight.0.clone();
        let done = progress.wait_for(|progress| matches!(progress, Progress::Done(_)));
        let done = timeout(2 * LATE, done).await.ok()?.ok()?;
        match &*done {
            Progress::Done(Ok(all)) => Some(all.clone()),
            _ => None,
        }
    }
}

/// The progress of a look-up.
#[derive(Debug, Clone)]
enum Progress {
    /// It has no slot yet.
    Waiting,
    /// The servers have been asked since this time.
    Asking(Instant),
    /// The addresses of one family have arrived.
    Early(Addresses),
    /// It is over.
    Done(Result<Addresses, Unresolved>),
}

/// A look-up in progress. It ends when the last holder drops it.
struct Flight(watch::Receiver<Progress>);

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    sources: Sources,
    /// The time limit of one look-up.
    patience: Duration,
    places: Places,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    system: Arc<Resolving>,
    stamp: [Option<Stamp>; 2],
    check_files: Instant,
}

/// The files and the servers that they name.
struct Resolving {
    system: System,
    servers: Servers,
}

impl Resolving {
    fn read(sources: &Sources) -> Arc<Self> {
        Self::of(System::read(sources))
    }

    fn of(system: System) -> Arc<Self> {
        let servers = Servers::new(&system);
        Arc::new(Self { system, servers })
    }
}

impl Names {
    /// Reads the files in `sources`. A look-up may take as long as `patience`.
    pub(super) fn new(sources: Sources, patience: Duration) -> Self {
        let state = State {
            cache: Cache::default(),
            system: Resolving::read(&sources),
            stamp: sources.stamp(),
            check_files: clock::deadline(FILES_CHECKED),
        };
        Self(Arc::new(Inner {
            sources,
            patience,
            places: Places::default(),
            state: Mutex::new(state),
        }))
    }

    /// Returns the addresses of `name` before `deadline`.
    pub(super) async fn look_up(
        &self,
        name: &str,
        deadline: Instant,
    ) -> Result<Resolved, Unresolved> {
        let flight = {
            let mut state = self.0.lock();
            match state.cache.kept(name, clock::deadline(Duration::ZERO)) {
                Some(kept) => {
                    let late = None;
                    return kept.map(|addresses| Resolved { addresses, late });
                }
                None => match state.cache.flight(name) {
                    Some(flight) => flight,
                    None => self.start(name, &mut state),
                },
            }
        };
        let mut progress = flight.0.clone();
        let there = progress.wait_for(|p| matches!(p, Progress::Early(_) | Progress::Done(_)));
        let there = match timeout_at(deadline, there).await {
            Ok(Ok(there)) => Some(there.clone()),
            Ok(Err(_)) => None,
            Err(_) => return Err(self.out_of_time(name, &flight.0.borrow())),
        };
        match there {
            Some(Progress::Early(addresses)) => {
                let late = Some(flight);
                Ok(Resolved { addresses, late })
            }
            Some(Progress::Done(result)) => result.map(|addresses| {
                let late = None;
                Resolved { addresses, late }
            }),
            // The task that looks it up has ended: the runtime is stopping.
            _ => Err(Unresolved::Ours(format!(
                "{name} was not looked up: the daemon is stopping"
            ))),
        }
    }

    /// Returns whose fault it is that a name was not looked up in time: ours, if it had hardly been asked for.
    fn out_of_time(&self, name: &str, progress: &Progress) -> Unresolved {
        match progress {
            Progress::Asking(since) if since.elapsed() >= self.0.patience / 2 => {
                silence(name, self.0.patience)
            }
            _ => Unresolved::Ours(format!(
                "{name} was not looked up: too many look-ups are waiting for name servers that don't answer"
            )),
        }
    }

    fn start(&self, name: &str, state: &mut State) -> Arc<Flight> {
        let name: Arc<str> = name.into();
        let (told, progress) = watch::channel(Progress::Waiting);
        let flight = Arc::new(Flight(progress));
        let class = state.cache.start(&name, &flight);
        tokio::spawn(self.clone().fly(name, class, told));
        flight
    }

    async fn fly(self, name: Arc<str>, class: Class, told: watch::Sender<Progress>) {
        let mut asked_at = None;
        let done = {
            let work = self.resolve(&name, class, &told, &mut asked_at);
            tokio::select! {
                biased;
                outcome = work => Some(outcome),
                () = told.closed() => None,
            }
        };
        let took = asked_at.map(|at: Instant| at.elapsed());
        let now = clock::deadline(Duration::ZERO);
        let mut state = self.0.lock();
        let Some(outcome) = done else {
            // Given up: all that is known is that it took long.
            let class = match took {
                Some(took) if took >= SLOW_AFTER => Some(Class::Slow),
                _ => None,
            };
            state.cache.abandoned(&name, class);
            return;
        };
        let result = explained(&name, &outcome, self.0.patience);
        let silent = outcome.result == Err(Unknown::Trouble(Trouble::Silence));
        let class = match took {
            _ if silent => Class::Slow,
            Some(took) if took >= SLOW_AFTER * 4 => Class::Slow,
            _ => Class::Known,
        };
        let until = now + outcome.keep();
        state.cache.landed(&name, class, result.clone(), until);
        drop(state);
        told.send_replace(Progress::Done(result));
    }

    async fn resolve(
        &self,
        text: &str,
        class: Class,
        told: &watch::Sender<Progress>,
        asked_at: &mut Option<Instant>,
    ) -> Outcome {
        let resolving = self.resolving().await;
        let Ok(name) = Name::from_ascii(text) else {
            return Outcome::without(Unknown::NoName);
        };
        if let Some(local) = resolving.system.local(&name) {
            return Outcome::local(local);
        }
        let place = self.0.places.take(class).await;
        let now = clock::deadline(Duration::ZERO);
        *asked_at = Some(now);
        told.send_replace(Progress::Asking(now));
        let candidates = resolving.system.candidates(&name);
        // Once one family's addresses have arrived, wait for the other's even if no attempt does: it isn't for long,
        // and later attempts get what has arrived.
        let mut held = None;
        let early = |found: &[IpAddr]| {
            held = self.0.lock().cache.flight(text);
            told.send_replace(Progress::Early(found.into()));
        };
        let asking = resolving.servers.look_up(&candidates, early);
        let asking = timeout(self.0.patience, asking);
        let silence = || Outcome::without(Unknown::Trouble(Trouble::Silence));
        grown(asking, place).await.unwrap_or_else(|_| silence())
    }

    /// Returns how names are looked up, according to the current files.
    async fn resolving(&self) -> Arc<Resolving> {
        let now = clock::deadline(Duration::ZERO);
        let old = {
            let mut state = self.0.lock();
            if now < state.check_files {
                return state.system.clone();
            }
            state.check_files = now + FILES_CHECKED;
            state.stamp
        };
        let sources = self.0.sources.clone();
        let read = tokio::task::spawn_blocking(move || {
            let stamp = sources.stamp();
            (stamp != old).then(|| (stamp, System::read_again(&sources).map(Resolving::of)))
        });
        let new = read.await.ok().flatten();
        let mut state = self.0.lock();
        if let Some((stamp, system)) = new {
            state.stamp = stamp;
            if let Some(system) = system {
                tracing::info!("resolv.conf or hosts has changed; reloaded");
                state.system = system;
                state.cache.forget_answers();
            }
        }
        state.system.clone()
    }
}

/// Waits for an answer. Once that takes as long as slow ones do, its slot counts as theirs.
async fn grown<T>(asking: impl Future<Output = T>, mut place: Place) -> T {
    let mut asking = std::pin::pin!(asking);
    match timeout(SLOW_AFTER, &mut asking).await {
        Ok(answer) => answer,
        Err(_) => {
            place.grow();
            asking.await
        }
    }
}

impl Inner {
    /// Each change is a single step, so a panic leaves it consistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    fn without(unknown: Unknown) -> Self {
        Self {
            result: Err(unknown),
            ttl: Duration::ZERO,
            complete: true,
        }
    }

    fn local(addresses: Vec<IpAddr>) -> Self {
        Self {
            result: Ok(addresses),
            ttl: FILES_CHECKED,
            complete: true,
        }
    }

    /// Returns how long it is kept.
    fn keep(&self) -> Duration {
        const SECOND: Duration = Duration::from_secs(1);
        match &self.result {
            Ok(_) if self.complete => self.ttl.clamp(SECOND, 300 * SECOND),
            // The other family may be answered next time.
            Ok(_) => self.ttl.clamp(SECOND, 30 * SECOND),
            Err(Unknown::NoName | Unknown::NoAddress) => self.ttl.clamp(SECOND, 5 * SECOND),
            Err(Unknown::Trouble(Trouble::Said(_))) => SECOND,
            // The waiters have been told. Failing the next one immediately would make a hanging endpoint look fast.
            Err(Unknown::Trouble(_)) => Duration::ZERO,
        }
    }
}

fn silence(name: &str, patience: Duration) -> Unresolved {
    Unresolved::Theirs(format!(
        "looking up {name}: no name server answered within {patience:?}"
    ))
}

/// Returns an outcome for those who wait.
fn explained(name: &str, outcome: &Outcome, patience: Duration) -> Result<Addresses, Unresolved> {
    let unknown = match &outcome.result {
        Ok(addresses) => return Ok(addresses.as_slice().into()),
        Err(unknown) => unknown,
    };
    Err(match unknown {
        Unknown::NoName => {
            Unresolved::Theirs(format!("looking up {name}: the name does not exist"))
        }
        Unknown::NoAddress => {
            Unresolved::Theirs(format!("looking up {name}: the name has no address"))
        }
        Unknown::Trouble(Trouble::Silence) => silence(name, patience),
        Unknown::Trouble(Trouble::Said(what)) => Unresolved::Theirs(format!(
            "looking up {name}: the name server answered: {what}"
        )),
        Unknown::Trouble(Trouble::Unreachable(what) | Trouble::Short(what)) => {
            Unresolved::Ours(format!("looking up {name}: the name server {what}"))
        }
    })
}
