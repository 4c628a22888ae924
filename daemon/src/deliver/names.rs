//! Names to addresses. Attempts that need the same name share one look-up; answers are kept for their TTL, failures for some
//! seconds. The number of concurrent look-ups is bounded by class, so that names whose server doesn't answer leave room for the
//! others. A look-up ends when nobody waits for it any more, and frees its place.

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

/// How often it is looked whether the files have changed.
const FILES_CHECKED: Duration = Duration::from_secs(5);
/// From then on a look-up is slow: those of most names are answered sooner.
const SLOW_AFTER: Duration = Duration::from_millis(250);

/// Addresses of a name, in the order in which they came.
type Addresses = Arc<[IpAddr]>;

/// Why a name can't be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// This machine's own trouble, in plain words.
    Ours(String),
    /// The name's.
    Theirs(String),
}

/// What a name resolved to.
pub(super) struct Resolved {
    /// The addresses that are known by now; empty where the name has none.
    pub(super) addresses: Addresses,
    /// Where those of the other family may still come.
    late: Option<Arc<Flight>>,
}

impl Resolved {
    /// Addresses that need no look-up.
    pub(super) fn known(addresses: impl Into<Addresses>) -> Self {
        let late = None;
        Self {
            addresses: addresses.into(),
            late,
        }
    }

    /// All addresses, once those of the other family have come or are given up; none where nothing is added.
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

/// How far a look-up has come.
#[derive(Debug, Clone)]
enum Progress {
    /// It has no place yet.
    Waiting,
    /// The servers are being asked, since then.
    Asking(Instant),
    /// One family's addresses are there.
    Early(Addresses),
    /// It is over.
    Done(Result<Addresses, Unresolved>),
}

/// A look-up under way; when the last one that holds it lets go, it ends.
struct Flight(watch::Receiver<Progress>);

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    sources: Sources,
    /// How long one look-up may take.
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

/// The files and the servers they name.
struct Resolving {
    system: System,
    servers: Servers,
}

impl Resolving {
    fn read(sources: &Sources) -> Arc<Self> {
        let system = System::read(sources);
        let servers = Servers::new(&system);
        Arc::new(Self { system, servers })
    }
}

impl Names {
    /// Reads what `sources` name. A look-up may take as long as `patience`.
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

    /// The addresses of `name` before `deadline`.
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
            // The task that looks it up is gone: the runtime is stopping.
            _ => Err(Unresolved::Ours(format!("{name} was not looked up"))),
        }
    }

    /// Whose trouble it is that a name was not looked up in time: ours, if it was hardly asked for.
    fn out_of_time(&self, name: &str, progress: &Progress) -> Unresolved {
        match progress {
            Progress::Asking(since) if since.elapsed() >= self.0.patience / 2 => {
                silence(name, self.0.patience)
            }
            _ => Unresolved::Ours(format!(
                "{name} was not looked up: too many names that nobody answers for are being looked up"
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
            // Given up: all we know is that it took long.
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
        // Once one family's addresses are there, the other's are waited for even where nobody does any more: it is not for long,
        // and whoever asks meanwhile has those that are there.
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

    /// How names are looked up, by the files as they are now.
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
            (stamp != old).then(|| (stamp, Resolving::read(&sources)))
        });
        let new = read.await.ok().flatten();
        let mut state = self.0.lock();
        if let Some((stamp, system)) = new {
            tracing::info!("resolv.conf or hosts has changed; reloaded");
            state.stamp = stamp;
            state.system = system;
            state.cache.forget_answers();
        }
        state.system.clone()
    }
}

/// Waits for an answer; once that has taken as long as slow ones do, its place counts as one of theirs.
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

    /// How long it is kept.
    fn keep(&self) -> Duration {
        const SECOND: Duration = Duration::from_secs(1);
        match &self.result {
            Ok(_) if self.complete => self.ttl.clamp(SECOND, 300 * SECOND),
            // The other family may be answered for next time.
            Ok(_) => self.ttl.clamp(SECOND, 30 * SECOND),
            Err(Unknown::NoName | Unknown::NoAddress) => self.ttl.clamp(SECOND, 5 * SECOND),
            Err(Unknown::Trouble(Trouble::Said(_))) => SECOND,
            // The waiters have been told. To fail the next one immediately would make a hanging endpoint look fast.
            Err(Unknown::Trouble(_)) => Duration::ZERO,
        }
    }
}

fn silence(name: &str, patience: Duration) -> Unresolved {
    Unresolved::Theirs(format!(
        "looking up {name}: no name server answered within {patience:?}"
    ))
}

/// An outcome as it is told to those who wait.
fn explained(name: &str, outcome: &Outcome, patience: Duration) -> Result<Addresses, Unresolved> {
    let unknown = match &outcome.result {
        Ok(addresses) => return Ok(addresses.as_slice().into()),
        Err(unknown) => unknown,
    };
    Err(match unknown {
        Unknown::NoName => Unresolved::Theirs(format!("looking up {name}: there is no such name")),
        Unknown::NoAddress => {
            Unresolved::Theirs(format!("looking up {name}: the name has no address"))
        }
        Unknown::Trouble(Trouble::Silence) => silence(name, patience),
        Unknown::Trouble(Trouble::Said(what)) => {
            Unresolved::Theirs(format!("looking up {name}: the name server says: {what}"))
        }
        Unknown::Trouble(Trouble::Unreachable(what) | Trouble::Short(what)) => {
            Unresolved::Ours(format!("looking up {name}: the name server {what}"))
        }
    })
}
