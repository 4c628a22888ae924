//! Asks the name servers: the next one if one is silent or fails, for both families in parallel, along the search list.
//! This module decides what is asked and when; hickory makes the packets.

use super::system::System;
use crate::deliver::fault;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stormhook_engine::clock;
use tokio::time::{sleep_until, timeout};

/// How long to wait for one family's answer after the other's has arrived (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long to wait for it while a connection is being opened.
pub(super) const LATE: Duration = Duration::from_secs(1);
/// How long a server may be silent before the next one is asked in parallel.
const NEXT_SERVER: Duration = Duration::from_secs(1);
/// How many addresses of one family are used. The others are neither checked nor connected to.
const MAX_OF_FAMILY: usize = 16;
/// How many questions may be open over one TCP connection to a server: more than there are look-ups.
const MAX_OVER_TCP: usize = 2_048;

/// A name server's answer for a name and a family.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// These addresses, for so many seconds.
    Found(Vec<IpAddr>, u32),
    /// No addresses, for so many seconds, and whether the name does not exist at all.
    Nothing { no_name: bool, ttl_s: u32 },
    /// Nothing usable.
    Trouble(Trouble),
}

/// Why a name could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This machine can't reach any server.
    Unreachable(String),
    /// No server answered in time.
    Silence,
    /// A server answered that it can't tell.
    Said(String),
    /// This machine lacks a resource for asking.
    Short(String),
}

/// The result of looking a name up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) result: Result<Vec<IpAddr>, Unknown>,
    /// How long the servers allow it to be kept.
    pub(super) ttl: Duration,
    /// Whether both families were answered.
    pub(super) complete: bool,
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The name does not exist.
    NoName,
    /// It has no address.
    NoAddress,
    /// No server could tell.
    Trouble(Trouble),
}

/// The name servers.
pub(super) struct Servers {
    asked: Vec<(SocketAddr, TokioResolver)>,
    attempts: usize,
    rotate: bool,
    families: &'static [RecordType],
    first: AtomicUsize,
}

impl Servers {
    pub(super) fn new(system: &System) -> Self {
        let resolver = |server: &SocketAddr| Some((*server, resolver(*server, system)?));
        Self {
            asked: system.servers.iter().filter_map(resolver).collect(),
            attempts: system.attempts,
            rotate: system.rotate,
            families: if system.no_aaaa {
                &[RecordType::A]
            } else {
                &[RecordType::AAAA, RecordType::A]
            },
            first: AtomicUsize::new(0),
        }
    }

    /// Looks `candidates` up in order until one has an address. `early` gets the addresses of one family if those of
    /// the other take longer.
    pub(super) async fn look_up(
        &self,
        candidates: &[Name],
        mut early: impl FnMut(&[IpAddr]),
    ) -> Outcome {
        let mut trouble = None;
        let mut nothing = Outcome {
            result: Err(Unknown::NoName),
            ttl: Duration::MAX,
            complete: true,
        };
        for name in candidates {
            let outcome = self.both_families(name, &mut early).await;
            match &outcome.result {
                Ok(_) => return outcome,
                Err(Unknown::Trouble(Trouble::Said(_))) => trouble = trouble.or(Some(outcome)),
                // The other servers would not answer either.
                Err(Unknown::Trouble(_)) => return outcome,
                Err(unknown) => {
                    if *unknown == Unknown::NoAddress {
                        nothing.result = Err(Unknown::NoAddress);
                    }
                    nothing.ttl = nothing.ttl.min(outcome.ttl);
                }
            }
        }
        trouble.unwrap_or(nothing)
    }

    async fn both_families(&self, name: &Name, early: &mut impl FnMut(&[IpAddr])) -> Outcome {
        let ask = |kind: &RecordType| {
            let kind = *kind;
            async move { (kind, self.ask(name, kind).await) }
        };
        let mut asking: FuturesUnordered<_> = self.families.iter().map(ask).collect();
        let mut both = Both::default();
        while let Some((kind, answer)) = asking.next().await {
            both.take(kind, answer);
            if both.is_enough() || asking.is_empty() {
                break;
            }
            if both.found.is_empty() {
                continue;
            }
            let other = match timeout(RESOLUTION_DELAY, asking.next()).await {
                Ok(other) => other,
                Err(_) => {
                    early(&both.found);
                    timeout(LATE, asking.next()).await.unwrap_or(None)
                }
            };
            match other {
                Some((kind, answer)) => both.take(kind, answer),
                None => both.complete = false,
            }
            break;
        }
        both.outcome()
    }

    /// Asks the servers in turn: the next one if one fails, or in parallel if one is silent for long.
    async fn ask(&self, name: &Name, kind: RecordType) -> Answer {
        let count = self.asked.len();
        let shift = if self.rotate {
            self.first.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let mut trouble = None;
        for _ in 0..self.attempts {
            let mut waiting = (0..count).filter_map(|n| self.asked.get((n + shift) % count));
            let mut running = FuturesUnordered::new();
            loop {
                let next = waiting.next();
                let is_last = next.is_none();
                if let Some((server, resolver)) = next {
                    let asking = resolver.lookup(name.clone(), kind);
                    running.push(async move { (*server, asking.await) });
                } else if running.is_empty() {
                    break;
                }
                let patience = clock::deadline(NEXT_SERVER);
                tokio::select! {
                    Some((server, result)) = running.next() => {
                        let records = result.map(|lookup| lookup.answers().to_vec());
                        match answer(server, name, kind, records) {
                            Answer::Trouble(new) => trouble = Some(new.or(trouble)),
                            answer => return answer,
                        }
                    }
                    () = sleep_until(patience), if !is_last => {}
                }
            }
        }
        let none = || Trouble::Unreachable("no name server is usable".to_owned());
        Answer::Trouble(trouble.unwrap_or_else(none))
    }
}

impl Trouble {
    /// Returns which of this and an earlier trouble decides: the one with the higher rank. An unreachable server says
    /// nothing if another one was asked.
    fn or(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if earlier.rank() >= self.rank() => earlier,
            _ => self,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 0,
            Self::Silence => 1,
            Self::Said(_) => 2,
            Self::Short(_) => 3,
        }
    }
}

/// The answers about both families of one name.
struct Both {
    found: Vec<IpAddr>,
    ttl_s: u32,
    no_name: bool,
    nothing: usize,
    trouble: Option<Trouble>,
    complete: bool,
}

impl Default for Both {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            ttl_s: u32::MAX,
            no_name: false,
            nothing: 0,
            trouble: None,
            complete: true,
        }
    }
}

impl Both {
    fn take(&mut self, kind: RecordType, answer: Answer) {
        match answer {
            Answer::Found(addresses, ttl_s) => {
                self.found.extend(addresses);
                self.ttl_s = self.ttl_s.min(ttl_s);
            }
            Answer::Nothing { no_name, ttl_s } => {
                self.nothing += 1;
                // Some servers say so about AAAA although there is an A (RFC 4074, section 4.2).
                self.no_name |= no_name && kind == RecordType::A;
                if self.found.is_empty() {
                    self.ttl_s = self.ttl_s.min(ttl_s);
                }
            }
            Answer::Trouble(trouble) => {
                self.complete = false;
                self.trouble = Some(trouble.or(self.trouble.take()));
            }
        }
    }

    /// Whether the other family's answer no longer matters.
    fn is_enough(&self) -> bool {
        self.no_name
    }

    fn outcome(self) -> Outcome {
        let result = if !self.found.is_empty() {
            Ok(self.found)
        } else if self.no_name {
            Err(Unknown::NoName)
        } else {
            match self.trouble {
                Some(trouble) => Err(Unknown::Trouble(trouble)),
                None => Err(Unknown::NoAddress),
            }
        };
        Outcome {
            result,
            ttl: Duration::from_secs(self.ttl_s.into()),
            complete: self.complete,
        }
    }
}

fn resolver(server: SocketAddr, system: &System) -> Option<TokioResolver> {
    let mut connections = vec![ConnectionConfig::tcp()];
    if !system.tcp_only {
        connections.insert(0, ConnectionConfig::udp());
    }
    for connection in &mut connections {
        connection.port = server.port();
    }
    let server = NameServerConfig::new(server.ip(), true, connections);
    let config = ResolverConfig::from_name_servers(vec![server]);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = system.timeout;
    // This module decides who is asked, when and how often, and caches by name.
    options.attempts = 0;
    options.cache_size = 0;
    options.num_concurrent_reqs = 1;
    options.use_hosts_file = ResolveHosts::Never;
    options.edns0 = system.edns0;
    options.max_active_requests = MAX_OVER_TCP;
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "ignored an unusable name server");
            None
        }
    }
}

fn answer(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    result: Result<Vec<Record>, NetError>,
) -> Answer {
    let error = match result {
        Ok(records) => return addresses(name, kind, &records),
        Err(error) => error,
    };
    match error {
        NetError::Dns(DnsError::NoRecordsFound(nothing)) => match nothing.response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => Answer::Nothing {
                no_name: nothing.response_code == ResponseCode::NXDomain,
                ttl_s: nothing.negative_ttl.unwrap_or(0),
            },
            code => said(code),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => said(code),
        NetError::Timeout => Answer::Trouble(Trouble::Silence),
        NetError::Busy => Answer::Trouble(Trouble::Short(
            "was not asked: too many questions are in progress".to_owned(),
        )),
        NetError::Io(error) => Answer::Trouble(unasked(&error)),
        // The library reports any socket error like this, without the error.
        NetError::NoConnections => Answer::Trouble(match fault::try_to_send(server) {
            Err(error) => unasked(&error),
            Ok(()) => Trouble::Unreachable("can't be reached from this machine".to_owned()),
        }),
        NetError::Truncated => said("an answer that is too long"),
        _ => said("an answer that can't be read"),
    }
}

/// Returns the trouble of a question that could not be sent.
fn unasked(error: &io::Error) -> Trouble {
    let words = fault::words(error);
    if fault::is_shortage(error) {
        Trouble::Short(words)
    } else {
        Trouble::Unreachable(words)
    }
}

fn said(what: impl std::fmt::Display) -> Answer {
    Answer::Trouble(Trouble::Said(what.to_string()))
}

/// Returns the addresses that `records` give `name`, following its aliases.
fn addresses(name: &Name, kind: RecordType, records: &[Record]) -> Answer {
    let mut names = vec![name];
    let mut found = Vec::new();
    let mut ttl_s = u32::MAX;
    for record in records {
        if !names.contains(&&record.name) {
            continue;
        }
        match &record.data {
            RData::CNAME(alias) if names.len() <= MAX_OF_FAMILY => names.push(&alias.0),
            data if record.record_type() == kind && found.len() < MAX_OF_FAMILY => {
                found.extend(data.ip_addr());
            }
            _ => continue,
        }
        ttl_s = ttl_s.min(record.ttl);
    }
    if found.is_empty() {
        let no_name = false;
        return Answer::Nothing { no_name, ttl_s: 0 };
    }
    Answer::Found(found, ttl_s)
}
