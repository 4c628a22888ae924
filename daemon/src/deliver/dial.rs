//! Opens one TCP connection to one of several addresses (RFC 8305): tries start 250 ms apart, alternating between the
//! families, and the first that succeeds wins. Addresses that arrive late join the race.

use super::fault::{self, Fault};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use stormhook_engine::clock;
use tokio::time::{Instant, sleep_until};

/// How many addresses of a name are tried.
pub(super) const MAX_ADDRESSES: usize = 8;
/// How long a try runs before the next one starts in parallel (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Missed {
    /// Whose fault it is.
    pub(super) fault: Fault,
    /// What happened at each address, in plain words.
    pub(super) why: String,
}

/// Returns the addresses in the order in which they are tried: IPv6 first, then alternating.
pub(super) fn in_turn(addresses: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let longer = v6.len().max(v4.len());
    let turns = (0..longer).flat_map(|n| [v6.get(n).copied(), v4.get(n).copied()]);
    turns.flatten().collect()
}

/// Connects to the first of `addresses` that accepts a connection before `deadline`. `late` yields further addresses,
/// once; all have passed the target guard.
pub(super) async fn dial<S, C>(
    addresses: VecDeque<SocketAddr>,
    late: impl Future<Output = Vec<SocketAddr>>,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> C,
) -> Result<S, Missed>
where
    C: Future<Output = io::Result<S>>,
{
    let mut race = Race {
        waiting: addresses,
        tried: Vec::new(),
    };
    let mut running = FuturesUnordered::new();
    let mut late = std::pin::pin!(late);
    let mut awaits_late = true;
    let mut next_start = clock::deadline(Duration::ZERO);
    loop {
        if running.is_empty() || clock::deadline(Duration::ZERO) >= next_start {
            if let Some((at, address)) = race.start() {
                let connecting = connect(address);
                running.push(async move { (at, connecting.await) });
                next_start = clock::deadline(ATTEMPT_DELAY);
            } else if running.is_empty() && !awaits_late {
                return Err(race.lost(false));
            }
        }
        tokio::select! {
            Some((at, result)) = running.next() => match result {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    race.failed(at, error);
                    // The next try starts without waiting for its turn.
                    next_start = clock::deadline(Duration::ZERO);
                }
            },
            more = &mut late, if awaits_late => {
                awaits_late = false;
                race.join(more);
            }
            () = sleep_until(next_start), if race.has_more() => {}
            () = sleep_until(deadline) => return Err(race.lost(true)),
        }
    }
}

/// The addresses of a race and their results.
struct Race {
    waiting: VecDeque<SocketAddr>,
    tried: Vec<(SocketAddr, Option<io::Error>)>,
}

impl Race {
    fn has_more(&self) -> bool {
        !self.waiting.is_empty() && self.tried.len() < MAX_ADDRESSES
    }

    fn start(&mut self) -> Option<(usize, SocketAddr)> {
        if !self.has_more() {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.tried.push((address, None));
        Some((self.tried.len() - 1, address))
    }

    fn failed(&mut self, at: usize, error: io::Error) {
        if let Some((_, outcome)) = self.tried.get_mut(at) {
            *outcome = Some(error);
        }
    }

    fn join(&mut self, more: Vec<SocketAddr>) {
        let known = |address: &SocketAddr| {
            self.waiting.contains(address) || self.tried.iter().any(|(tried, _)| tried == address)
        };
        let new: Vec<_> = more.into_iter().filter(|more| !known(more)).collect();
        self.waiting = in_turn(self.waiting.drain(..).chain(new));
    }

    fn lost(self, timed_out: bool) -> Missed {
        let errors = self.tried.iter().map(|(_, error)| error.as_ref());
        let fault = fault::whose(errors, fault::has_route);
        let mut why = String::new();
        for (address, error) in &self.tried {
            let separator = if why.is_empty() { "" } else { "; " };
            let words = error
                .as_ref()
                .map_or_else(|| "did not answer in time".to_owned(), fault::words);
            // Writing to a String can't fail.
            let _ = write!(why, "{separator}{address} {words}");
        }
        if self.tried.is_empty() {
            why.push_str("no address was tried");
        }
        let left = self.waiting.len();
        if left > 0 && !timed_out {
            let _ = write!(why, "; {left} more addresses were not tried");
        }
        Missed { fault, why }
    }
}

#[cfg(test)]
mod tests;
