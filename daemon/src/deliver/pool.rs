//! Connections kept for later attempts, by origin and TLS settings: HTTP/1.1 connections while idle, shared HTTP/2 connections from the
//! start. One task closes idle connections when they expire. It runs only while there are any.

use super::connect::Opened;
use super::http1::Http1;
use super::manners::Manners;
use super::streams::Streams;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use stormhook_engine::clock;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

/// How many requests share one HTTP/2 connection.
const MAX_STREAMS: usize = 100;
/// How long closing a connection may take: to tell the receiver, and for the receiver to read what it was sent.
const GOODBYE: Duration = Duration::from_secs(2);

/// The pool key of a target: its origin and, if it has any, its TLS settings.
type Origin = Arc<str>;

/// A connection for one request.
pub(super) struct Connection {
    pub(super) kind: Kind,
    /// Whether a request was sent over it earlier.
    pub(super) reused: bool,
}

pub(super) enum Kind {
    /// Exclusive to this request.
    Http1 { line: Http1, home: Home },
    /// Shared.
    Http2 { streams: Streams, share: Share },
}

/// Where an HTTP/1.1 connection is returned to.
pub(super) struct Home {
    pool: Arc<Pool>,
    origin: Origin,
    opened: Instant,
}

impl Home {
    /// Keeps a connection whose response was read to its end, for no longer than the receiver says it will.
    pub(super) fn take_back(self, line: Http1, partner: Option<Duration>) {
        let kept = partner.map_or(self.pool.idle, |partner| partner.min(self.pool.idle));
        if kept.is_zero() {
            self.pool.hang_up(line, false);
        } else {
            let until = clock::deadline(kept);
            self.pool.park(self.origin, line, until, self.opened);
        }
    }

    /// Closes a connection that can't be kept. The receiver can still read all that it was sent.
    pub(super) fn part(self, line: Http1) {
        self.pool.hang_up(line, true);
    }

    /// Records that a reused connection ended without a byte of a response.
    pub(super) fn ended_silently(&self) {
        let now = clock::deadline(Duration::ZERO);
        let mut entries = self.pool.lock();
        entries.manners.ended_silently(&self.origin, now);
    }
}

/// A share of an HTTP/2 connection. Dropped before [`Share::finish`], it ends reuse: the receiver may not answer.
pub(super) struct Share {
    pool: Arc<Pool>,
    origin: Origin,
    id: u64,
    finished: bool,
}

impl Share {
    /// Records that the response arrived.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }

    /// Records that the receiver asked for HTTP/1.1: no request to it uses HTTP/2 for a while.
    pub(super) fn wants_http1(&self) {
        let now = clock::deadline(Duration::ZERO);
        let mut entries = self.pool.lock();
        entries.manners.wants_http1(&self.origin, now);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.give_up(&self.origin, self.id, self.finished);
    }
}

enum Kept {
    Http1(Http1),
    Http2 { streams: Streams, requests: usize },
}

struct Entry {
    id: u64,
    opened: Instant,
    /// When it expires; `None` while in use.
    until: Option<Instant>,
    kept: Kept,
}

#[derive(Default)]
struct Entries {
    next_id: u64,
    by_origin: HashMap<Origin, Vec<Entry>>,
    /// The idle connections, by expiry.
    idle: BTreeMap<(Instant, u64), Origin>,
    reaper_runs: bool,
    manners: Manners,
}

/// The pool.
pub(super) struct Pool {
    idle: Duration,
    max_age: Duration,
    max: usize,
    entries: Mutex<Entries>,
    /// Limits connections that are being closed gracefully.
    goodbyes: Arc<Semaphore>,
}

impl Pool {
    /// Returns an empty pool that keeps up to `max` idle connections for `idle` each, and none older than `max_age`.
    pub(super) fn new(idle: Duration, max_age: Duration, max: usize) -> Arc<Self> {
        Arc::new(Self {
            idle,
            max_age,
            max: max.max(1),
            entries: Mutex::default(),
            goodbyes: Arc::new(Semaphore::new(max.max(1))),
        })
    }

    /// A panic leaves the entries consistent: each change is a single step.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most recently used connection, which is the most likely to be open, or one with a free share.
    pub(super) fn take(self: &Arc<Self>, origin: &Origin) -> Option<Connection> {
        let mut entries = self.lock();
        let Entries {
            by_origin,
            idle,
            manners,
            ..
        } = &mut *entries;
        let list = by_origin.get_mut(origin)?;
        let now = clock::deadline(Duration::ZERO);
        let is_old = |opened: Instant| now.saturating_duration_since(opened) >= self.max_age;
        let needs_fresh = manners.needs_fresh(origin, now);
        let needs_http1 = manners.needs_http1(origin, now);
        let mut found = None;
        let mut at = list.len();
        while found.is_none() && at > 0 {
            at -= 1;
            let Some(entry) = list.get_mut(at) else { break };
            if let Kept::Http2 { streams, requests } = &mut entry.kept
                && !needs_http1
                && !streams.is_closed()
                && !(is_old(entry.opened) && *requests == 0)
            {
                // Beyond this, a request would be sent later, perhaps after the attempt has been given up.
                if *requests >= MAX_STREAMS.min(streams.most()) || is_old(entry.opened) {
                    continue;
                }
                *requests += 1;
                if let Some(until) = entry.until.take() {
                    idle.remove(&(until, entry.id));
                }
                found = Some(Kind::Http2 {
                    streams: streams.clone(),
                    share: self.share(origin, entry.id),
                });
                break;
            }
            let entry = list.swap_remove(at);
            if let Some(until) = entry.until {
                idle.remove(&(until, entry.id));
            }
            if let Kept::Http1(line) = entry.kept {
                let is_over = entry.until.is_none_or(|until| until <= now);
                if needs_fresh || is_over || is_old(entry.opened) {
                    self.hang_up(line, false);
                } else {
                    let home = self.home(origin, entry.opened);
                    found = Some(Kind::Http1 { line, home });
                }
            }
        }
        if list.is_empty() {
            by_origin.remove(origin);
        }
        found.map(|kind| Connection { kind, reused: true })
    }

    /// Adds a new connection and returns it for its first request.
    pub(super) fn adopt(self: &Arc<Self>, opened: Opened, origin: &Origin) -> Connection {
        let now = clock::deadline(Duration::ZERO);
        let kind = match opened {
            Opened::Http1(line) => Kind::Http1 {
                line,
                home: self.home(origin, now),
            },
            Opened::Http2(streams) => {
                let kept = Kept::Http2 {
                    streams: streams.clone(),
                    requests: 1,
                };
                let id = self.lock().add(origin.clone(), None, now, kept);
                Kind::Http2 {
                    streams,
                    share: self.share(origin, id),
                }
            }
        };
        Connection {
            kind,
            reused: false,
        }
    }

    /// Whether HTTP/2 must not be offered to this origin.
    pub(super) fn needs_http1(&self, origin: &Origin) -> bool {
        let now = clock::deadline(Duration::ZERO);
        self.lock().manners.needs_http1(origin, now)
    }

    /// Closes a connection. If there may be unread input, or TLS can't signal its end immediately, it gets a moment for
    /// that, unless too many are doing so.
    fn hang_up(&self, mut line: Http1, unread: bool) {
        if line.shut_down_now() && !unread {
            return;
        }
        if let Ok(place) = self.goodbyes.clone().try_acquire_owned() {
            tokio::spawn(async move {
                let _ = timeout(GOODBYE, line.linger()).await;
                drop(place);
            });
        }
    }

    fn home(self: &Arc<Self>, origin: &Origin, opened: Instant) -> Home {
        Home {
            pool: self.clone(),
            origin: origin.clone(),
            opened,
        }
    }

    fn share(self: &Arc<Self>, origin: &Origin, id: u64) -> Share {
        Share {
            pool: self.clone(),
            origin: origin.clone(),
            id,
            finished: false,
        }
    }

    fn park(self: &Arc<Self>, origin: Origin, line: Http1, until: Instant, opened: Instant) {
        let mut entries = self.lock();
        if entries
            .manners
            .needs_fresh(&origin, clock::deadline(Duration::ZERO))
        {
            drop(entries);
            self.hang_up(line, false);
            return;
        }
        self.make_room(&mut entries);
        entries.add(origin, Some(until), opened, Kept::Http1(line));
        self.see_to_reaper(&mut entries);
    }

    /// Records that a request over a shared connection is over.
    fn give_up(self: &Arc<Self>, origin: &Origin, id: u64, finished: bool) {
        let mut entries = self.lock();
        if !finished || self.idle.is_zero() {
            let _ = entries.remove(origin, id);
            return;
        }
        let list = entries.by_origin.get_mut(origin);
        let Some(entry) = list.and_then(|list| list.iter_mut().find(|entry| entry.id == id)) else {
            return;
        };
        if let Kept::Http2 { requests, .. } = &mut entry.kept {
            *requests = requests.saturating_sub(1);
            if *requests > 0 {
                return;
            }
        }
        let until = clock::deadline(self.idle);
        entry.until = Some(until);
        self.make_room(&mut entries);
        entries.idle.insert((until, id), origin.clone());
        self.see_to_reaper(&mut entries);
    }

    /// Makes room for one more idle connection.
    fn make_room(&self, entries: &mut Entries) {
        while entries.idle.len() >= self.max
            && let Some(((_, id), origin)) = entries.idle.pop_first()
        {
            self.close(entries.remove(&origin, id));
        }
    }

    fn close(&self, kept: Option<Kept>) {
        // An HTTP/2 connection ends with its last user.
        if let Some(Kept::Http1(line)) = kept {
            self.hang_up(line, false);
        }
    }

    /// Closes the expired connections. Returns when to look again, if any are left.
    fn reap(&self, now: Instant) -> Option<Instant> {
        let mut entries = self.lock();
        while let Some(first) = entries.idle.first_entry() {
            let (until, id) = *first.key();
            if until > now {
                return Some(until);
            }
            let origin = first.remove();
            self.close(entries.remove(&origin, id));
        }
        entries.reaper_runs = false;
        None
    }

    fn see_to_reaper(self: &Arc<Self>, entries: &mut Entries) {
        if !entries.reaper_runs {
            entries.reaper_runs = true;
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    /// Idle connections.
    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.lock().idle.len()
    }
}

impl Entries {
    fn add(&mut self, origin: Origin, until: Option<Instant>, opened: Instant, kept: Kept) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        if let Some(until) = until {
            self.idle.insert((until, id), origin.clone());
        }
        let list = self.by_origin.entry(origin).or_default();
        list.push(Entry {
            id,
            opened,
            until,
            kept,
        });
        id
    }

    fn remove(&mut self, origin: &Origin, id: u64) -> Option<Kept> {
        let list = self.by_origin.get_mut(origin)?;
        let at = list.iter().position(|entry| entry.id == id);
        let entry = at.map(|at| list.swap_remove(at));
        if list.is_empty() {
            self.by_origin.remove(origin);
        }
        let entry = entry?;
        if let Some(until) = entry.until {
            self.idle.remove(&(until, id));
        }
        Some(entry.kept)
    }
}

/// Runs as long as any connection is idle.
async fn reap(pool: Weak<Pool>) {
    while let Some(pool) = pool.upgrade() {
        let next = pool.reap(clock::deadline(Duration::ZERO));
        drop(pool);
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}
