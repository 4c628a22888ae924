//! Connections kept for the next attempt, by origin. An HTTP/1.1 connection is here while it is idle; an HTTP/2 one is shared and
//! is here from the start. Idle ones are dropped when their time is over; one task sees to that, and only while there are any.

use super::connect::{Opened, Streams};
use super::line::{Body, Line};
use crate::clock;
use hyper::client::conn::http2;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How many requests share one HTTP/2 connection.
const MAX_STREAMS: usize = 100;

type Origin = Arc<str>;

/// A connection for one request.
pub(super) enum Connection {
    /// Alone for this request.
    Http1 { line: Line, home: Home },
    /// Shared.
    Http2 {
        sender: http2::SendRequest<Body>,
        share: Share,
    },
}

/// Where an HTTP/1.1 connection goes back to.
pub(super) struct Home {
    pool: Arc<Pool>,
    origin: Origin,
    opened: Instant,
}

impl Home {
    /// Keeps a connection whose answer was read to its end, at most for as long as the partner says it will.
    pub(super) fn take_back(self, line: Line, partner: Option<Duration>) {
        let kept = partner.map_or(self.pool.idle, |partner| partner.min(self.pool.idle));
        if kept.is_zero() {
            line.hang_up();
        } else if !line.is_closed() {
            self.pool
                .park(self.origin, line, clock::deadline(kept), self.opened);
        }
    }
}

/// One request's share in an HTTP/2 connection. Dropped before [`Share::finish`], no further request uses the connection:
/// a partner that stopped answering may be gone with it.
pub(super) struct Share {
    pool: Arc<Pool>,
    origin: Origin,
    id: u64,
    finished: bool,
}

impl Share {
    /// The answer came.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pool.give_up(&self.origin, self.id, self.finished);
    }
}

enum Kept {
    Http1(Line),
    Http2 {
        sender: http2::SendRequest<Body>,
        /// How many the partner takes at once.
        streams: Arc<dyn Streams>,
        requests: usize,
    },
}

struct Entry {
    id: u64,
    opened: Instant,
    /// Until when it is kept; `None` while it is in use.
    until: Option<Instant>,
    kept: Kept,
}

#[derive(Default)]
struct Entries {
    next_id: u64,
    by_origin: HashMap<Origin, Vec<Entry>>,
    /// The idle ones by the end of their time.
    idle: BTreeMap<(Instant, u64), Origin>,
    reaper_runs: bool,
}

/// The pool.
pub(super) struct Pool {
    idle: Duration,
    max_age: Duration,
    max: usize,
    entries: Mutex<Entries>,
}

impl Pool {
    /// An empty one that keeps `max` idle connections for `idle`, and none that was opened longer than `max_age` ago.
    pub(super) fn new(idle: Duration, max_age: Duration, max: usize) -> Arc<Self> {
        Arc::new(Self {
            idle,
            max_age,
            max: max.max(1),
            entries: Mutex::default(),
        })
    }

    /// Whoever panicked left the entries whole: each change is made in one go.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last, since it is the likeliest to live, or one with a share to give.
    pub(super) fn take(self: &Arc<Self>, origin: &Origin) -> Option<Connection> {
        let mut entries = self.lock();
        let Entries {
            by_origin, idle, ..
        } = &mut *entries;
        let list = by_origin.get_mut(origin)?;
        let now = clock::deadline(Duration::ZERO);
        let is_old = |opened: Instant| now.saturating_duration_since(opened) >= self.max_age;
        let mut found = None;
        let mut at = list.len();
        while found.is_none() && at > 0 {
            at -= 1;
            let Some(entry) = list.get_mut(at) else { break };
            if let Kept::Http2 {
                sender,
                streams,
                requests,
            } = &mut entry.kept
                && !sender.is_closed()
                && !(is_old(entry.opened) && *requests == 0)
            {
                // What the partner doesn't take at once would be sent later, perhaps after its attempt was given up.
                if *requests >= MAX_STREAMS.min(streams.most()) || is_old(entry.opened) {
                    continue;
                }
                *requests += 1;
                if let Some(until) = entry.until.take() {
                    idle.remove(&(until, entry.id));
                }
                found = Some(Connection::Http2 {
                    sender: sender.clone(),
                    share: self.share(origin, entry.id),
                });
                break;
            }
            let entry = list.swap_remove(at);
            if let Some(until) = entry.until {
                idle.remove(&(until, entry.id));
            }
            if let Kept::Http1(line) = entry.kept {
                if entry.until.is_none_or(|until| until <= now) || is_old(entry.opened) {
                    line.hang_up();
                } else if !line.is_closed() {
                    let home = self.home(origin, entry.opened);
                    found = Some(Connection::Http1 { line, home });
                }
            }
        }
        if list.is_empty() {
            by_origin.remove(origin);
        }
        found
    }

    /// Takes a new connection in, for a first request.
    pub(super) fn adopt(self: &Arc<Self>, opened: Opened, origin: &Origin) -> Connection {
        let now = clock::deadline(Duration::ZERO);
        match opened {
            Opened::Http1(line) => Connection::Http1 {
                line,
                home: self.home(origin, now),
            },
            Opened::Http2(sender, streams) => {
                let kept = Kept::Http2 {
                    sender: sender.clone(),
                    streams,
                    requests: 1,
                };
                let id = self.lock().add(origin.clone(), None, now, kept);
                Connection::Http2 {
                    sender,
                    share: self.share(origin, id),
                }
            }
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

    fn park(self: &Arc<Self>, origin: Origin, line: Line, until: Instant, opened: Instant) {
        let mut entries = self.lock();
        entries.make_room(self.max);
        entries.add(origin, Some(until), opened, Kept::Http1(line));
        self.see_to_reaper(&mut entries);
    }

    /// A request over a shared connection is over.
    fn give_up(self: &Arc<Self>, origin: &Origin, id: u64, finished: bool) {
        let mut entries = self.lock();
        if !finished || self.idle.is_zero() {
            entries.remove(origin, id);
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
        entries.make_room(self.max);
        entries.idle.insert((until, id), origin.clone());
        self.see_to_reaper(&mut entries);
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

    fn remove(&mut self, origin: &Origin, id: u64) {
        let Some(list) = self.by_origin.get_mut(origin) else {
            return;
        };
        if let Some(at) = list.iter().position(|entry| entry.id == id) {
            let entry = list.swap_remove(at);
            if let Some(until) = entry.until {
                self.idle.remove(&(until, id));
            }
            if let Kept::Http1(line) = entry.kept {
                line.hang_up();
            }
        }
        if list.is_empty() {
            self.by_origin.remove(origin);
        }
    }

    /// Makes room for one more idle connection among `max`.
    fn make_room(&mut self, max: usize) {
        while self.idle.len() >= max
            && let Some(((_, id), origin)) = self.idle.pop_first()
        {
            self.remove(&origin, id);
        }
    }

    /// Drops those whose time is over; when to look again, if any are left.
    fn reap(&mut self, now: Instant) -> Option<Instant> {
        while let Some(first) = self.idle.first_entry() {
            let (until, id) = *first.key();
            if until > now {
                return Some(until);
            }
            let origin = first.remove();
            self.remove(&origin, id);
        }
        self.reaper_runs = false;
        None
    }
}

/// Runs as long as anything is idle.
async fn reap(pool: Weak<Pool>) {
    while let Some(pool) = pool.upgrade() {
        let next = pool.lock().reap(clock::deadline(Duration::ZERO));
        drop(pool);
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}
