//! Which shards this daemon has: it renews its lease, looks at what the others do, and moves shards one step at a time.
//!
//! It never trusts that a claim, a load or a give was seen through: each look compares the database with memory.

mod token;

use crate::callers;
use crate::cluster::Shard;
use crate::cluster::plan::{Step, plan};
use crate::cluster::seat::{Taken, now};
use crate::cluster::view::{Member, Seat, View};
use crate::fresh;
use crate::link::Link;
use crate::load::{self, Loaded};
use crate::memory::{PARTS_KNOWN_SINCE, PURGES_KNOWN_SINCE, Shared};
use crate::outbox::Shards;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_store::{QueueEntry, Slot, StoreError, UnixMs};
use tokio::sync::{oneshot, watch};

/// How often a daemon looks at the others. A shard that was given waits at most this long.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long attempts on the wire may take to end before a shard is given away.
const RELEASE: Duration = Duration::from_secs(20);

/// A move of shards that the lane makes with its next commit.
#[derive(Debug)]
pub(crate) enum Move {
    /// Shards that were read, with their open deliveries in order of due time.
    Gained(Box<Loaded>, Vec<QueueEntry>),
    /// Shards to give.
    Give(BTreeSet<Shard>),
    /// Nothing moves: tells that every commit before has been announced.
    Reached(oneshot::Sender<()>),
}

/// What the engine does when shards move.
pub trait Moves: Send + Sync + 'static {
    /// Makes the lane commit soon.
    fn wake(&self);
    /// Starts no further attempts to these endpoints, and resolves when none is on the wire.
    fn release(&self, slots: Vec<Slot>) -> impl Future<Output = ()> + Send;
}

/// What this daemon knows of the database's daemons. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) seat: Taken,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) shared: Arc<Shared>,
    /// Whether shards are being read. They are read once.
    pub(crate) loading: Arc<AtomicBool>,
    /// Moves of shards that the lane has not made yet.
    pub(crate) moves: Arc<Mutex<Vec<Move>>>,
    pub(crate) token: Arc<[u8]>,
    /// How many daemons this one has taken over from.
    pub(crate) takeovers: Arc<AtomicU64>,
    /// How many commits were made again that the database had lost.
    pub(crate) remade: Arc<AtomicU64>,
}

/// Who decides about an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This daemon.
    Here,
    /// Another one.
    Peer(Seat, Member),
    /// None at the moment.
    Nobody,
}

impl Cluster {
    /// Moves of shards that the lane is to make.
    pub(crate) fn moves(&self) -> MutexGuard<'_, Vec<Move>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns this daemon's seat.
    #[must_use]
    pub fn seat(&self) -> i16 {
        self.seat.seat
    }

    /// Returns the shards of an outbox that this daemon takes from: those that it decides about.
    #[must_use]
    pub fn outbox_shards(&self) -> Shards {
        let memory = self.shared.memory();
        let giving = &memory.giving;
        let held = memory.shards.iter().filter(|shard| !giving.contains(shard));
        Shards::these(held.copied())
    }

    /// Returns what daemons of this database show each other.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// Returns what was last seen of all daemons.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Whether this daemon could not renew its lease, so that others may take over soon.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        !self.shared.lease.is_valid()
    }

    /// Returns who decides about the organization. What this daemon holds is nobody's while it is cut off.
    #[must_use]
    pub fn holder(&self, organization: &str) -> Holder {
        let shard = Shard::of(organization);
        {
            let memory = self.shared.memory();
            if memory.shards.contains(&shard) {
                return if memory.giving.contains(&shard) || self.is_cut_off() {
                    Holder::Nobody
                } else {
                    Holder::Here
                };
            }
        }
        let view = self.view.borrow();
        let owner = view
            .owners
            .get(&shard)
            .filter(|owner| **owner != self.seat.seat);
        let member = owner.and_then(|owner| Some((*owner, view.members.get(owner)?)));
        match member.filter(|(_, member)| !member.is_expired()) {
            Some((owner, member)) => Holder::Peer(owner, member.clone()),
            None => Holder::Nobody,
        }
    }

    /// Returns the time by the database's clock, as this daemon knows it.
    #[must_use]
    pub fn time(&self) -> UnixMs {
        self.shared.clock.now()
    }

    /// Whether the organization is this daemon's, and not read yet.
    #[must_use]
    pub fn is_coming(&self, organization: &str) -> bool {
        let shard = Shard::of(organization);
        let is_own = self.view.borrow().owners.get(&shard) == Some(&self.seat.seat);
        is_own && !self.shared.memory().shards.contains(&shard)
    }

    /// Looks at the database again: another daemon did not know itself as the owner.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn look(&self) -> Result<(), StoreError> {
        let link = self.shared.link().await?;
        let view = View::read(&link, self.shared.options.lease).await?;
        callers::look(&self.shared, &link, view.api_keys_revision).await?;
        self.saw(view);
        Ok(())
    }

    /// Keeps the lease while something is read that may take longer than it.
    pub(crate) async fn while_renewing<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut work = std::pin::pin!(work);
        let options = &self.shared.options;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(options.lease / 4) => {}
            }
            self.renew(&*self.shared.link().await?).await?;
        }
    }

    /// Renews the lease, and looks at the database's clock.
    async fn renew(&self, link: &Link) -> Result<(), StoreError> {
        let sent = now();
        let renewed = self.seat.renew(link, self.shared.options.lease).await?;
        let at = renewed.ok_or(StoreError::TakenOver)?;
        self.shared.lease.renew(sent);
        self.shared.clock.saw(at, sent);
        Ok(())
    }

    /// Keeps the lease and moves shards, until others have taken over. Returns that as an error.
    pub async fn keep(self, moves: impl Moves) -> StoreError {
        let moves = Arc::new(moves);
        let mut link: Option<Arc<Link>> = None;
        let mut trouble = false;
        loop {
            match self.turn(&mut link, &moves).await {
                Ok(moved) => {
                    if std::mem::take(&mut trouble) {
                        tracing::info!("the database answers again");
                        moves.wake();
                    }
                    if moved {
                        // What was freed or claimed is there to go on with.
                        continue;
                    }
                }
                Err(error) if error.is_taken_over() => return error,
                Err(error) => {
                    link = None;
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(%error, "the lease could not be renewed; attempts stop before it ends");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the lease, looks, and makes what is to do. Returns whether shards were freed or claimed.
    async fn turn(
        &self,
        link: &mut Option<Arc<Link>>,
        moves: &Arc<impl Moves>,
    ) -> Result<bool, StoreError> {
        let options = &self.shared.options;
        let link = match link {
            Some(link) if !link.client.is_closed() => Arc::clone(link),
            _ => Arc::clone(link.insert(Link::open(options).await?)),
        };
        if self.shared.lease.wants_renewal() {
            self.renew(&link).await?;
        }
        let view = View::read(&link, options.lease).await?;
        callers::look(&self.shared, &link, view.api_keys_revision).await?;
        let held = self.held();
        let steps = plan(self.seat.seat, &view, &held, self.shared.lease.is_healthy());
        self.saw(view);
        let mut moved = false;
        for step in steps {
            moved |= self.make(step, &link, moves).await?;
        }
        if !self.moves().is_empty() {
            moves.wake();
        }
        Ok(moved)
    }

    /// Keeps what was seen of all daemons.
    pub(crate) fn saw(&self, view: View) {
        let all_know = [fresh::KNOWN_SINCE, PARTS_KNOWN_SINCE, PURGES_KNOWN_SINCE]
            .map(|since| view.all_know(since));
        self.view.send_replace(Arc::new(view));
        let known = self.shared.memory().all_know();
        if known != all_know {
            let mut memory = self.shared.memory_mut();
            [
                memory.all_know_fresh,
                memory.all_know_parts,
                memory.all_know_purges,
            ] = all_know;
        }
    }

    /// Returns the shards in memory, and those that a move will bring there.
    fn held(&self) -> BTreeSet<Shard> {
        // The lane makes a move while it has this lock: it is seen here or there.
        let waiting = self.moves();
        let mut held = self.shared.memory().shards.clone();
        for waiting in &*waiting {
            if let Move::Gained(loaded, _) = waiting {
                held.extend(&loaded.shards);
            }
        }
        held
    }

    async fn make(
        &self,
        step: Step,
        link: &Link,
        moves: &Arc<impl Moves>,
    ) -> Result<bool, StoreError> {
        Ok(match step {
            Step::Fence(seat, incarnation) => {
                let on_wire = self.shared.options.attempt_timeout;
                let fenced = View::fence(link, seat, incarnation, on_wire).await?;
                if fenced {
                    self.takeovers.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        seat,
                        "a daemon's lease has expired; others take its shards over"
                    );
                }
                fenced
            }
            Step::Claim(most) => self.seat.claim(link, most).await? > 0,
            Step::Load(shards) => {
                self.load(shards, moves);
                false
            }
            Step::Give(shards) => {
                self.give(shards, moves);
                false
            }
        })
    }

    /// Reads shards beside everything else: there may be much to read, and the lease must be kept.
    fn load(&self, shards: Vec<Shard>, moves: &Arc<impl Moves>) {
        if self.loading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (this, moves) = (self.clone(), Arc::clone(moves));
        tokio::spawn(async move {
            let shards: BTreeSet<Shard> = shards.into_iter().collect();
            let loaded = this.read(&shards).await;
            match loaded {
                Ok((loaded, waiting)) if !loaded.shards.is_empty() => {
                    tracing::info!(
                        shards = loaded.shards.len(),
                        waiting = waiting.len(),
                        "took over shards"
                    );
                    this.moves().push(Move::Gained(Box::new(loaded), waiting));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "shards could not be read; they are read again");
                }
            }
            this.loading.store(false, Ordering::Release);
            moves.wake();
        });
    }

    async fn read(
        &self,
        shards: &BTreeSet<Shard>,
    ) -> Result<(Loaded, Vec<QueueEntry>), StoreError> {
        let link = Link::open_for_reading(&self.shared.options).await?;
        let loaded = load::shards(&link, self.seat.seat, shards).await?;
        let mut waiting = Vec::new();
        let Loaded {
            shards,
            bulks,
            fresh,
            ..
        } = &loaded;
        let push = |entry| waiting.push(entry);
        load::waiting(&link, shards, bulks, fresh, push).await?;
        Ok((loaded, waiting))
    }

    /// Gives shards once no attempt of theirs is on the wire.
    fn give(&self, shards: Vec<Shard>, moves: &Arc<impl Moves>) {
        let shards = {
            let mut memory = self.shared.memory_mut();
            let held = |shard: &Shard| memory.shards.contains(shard);
            let shards: BTreeSet<Shard> = shards.into_iter().filter(held).collect();
            if shards.is_empty() || !memory.giving.is_empty() {
                return;
            }
            memory.giving.extend(&shards);
            shards
        };
        tracing::info!(shards = shards.len(), "gives shards to other daemons");
        let (this, moves) = (self.clone(), Arc::clone(moves));
        tokio::spawn(async move {
            // A commit that is under way may still create endpoints there, and the lane ends before it answers if others
            // have taken over.
            let (reached, commits_reached) = oneshot::channel();
            this.moves().push(Move::Reached(reached));
            moves.wake();
            if commits_reached.await.is_err() {
                return;
            }
            let slots = this.shared.memory().slots_of(&shards);
            // Attempts that take longer are made again by the next owner.
            let _late = tokio::time::timeout(RELEASE, moves.release(slots)).await;
            this.moves().push(Move::Give(shards));
            moves.wake();
        });
    }
}
