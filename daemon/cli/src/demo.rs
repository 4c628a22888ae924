//! `stormhook demo`: shows a newcomer the real thing. The real daemon runs as a child process, orders are sent through
//! its real Unix socket, and two receivers on loopback verify each delivery and keep ledgers that the daemon can't
//! change.

mod board;
mod child;
mod ledger;
mod live;
mod orders;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use stormhook_verifier::Tolerance;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Client;
use crate::failure::Failure;
use crate::receiver::{self, Received};
use crate::respond::Respond;
use crate::signature::{Checker, Demand, all_good};
use crate::stats;
use crate::terminal::{Screen, Tone};
use crate::verify;
use child::{Daemon, folder};
use ledger::{Balance, Ledger, Place, Seen};
use live::Live;
use orders::ORGANIZATION;
use stormhook_engine::clock::Moment;

/// The number of events of `--once`, and the maximum without it: the ledgers are in memory.
const ONCE_EVENTS: u64 = 40;
const MOST_EVENTS: u64 = 20_000;
const ONCE_EVERY: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_millis(300);
const REDRAW_EVERY: Duration = Duration::from_millis(120);
/// From the last event to the last delivery, including the flaky receiver's retries (1 s, then 2 s).
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Send 40 events, wait until all are settled, and exit 1 if anything is missing, duplicated or has an invalid signature
    #[arg(long)]
    once: bool,
}

/// One built-in receiver.
struct Shop {
    name: &'static str,
    about: &'static str,
    event_types: &'static [&'static str],
    flaky: bool,
}

const SHOPS: [Shop; 2] = [
    Shop {
        name: "warehouse",
        about: "steady",
        event_types: &["order.created", "inventory.*", "product.*"],
        flaky: false,
    },
    Shop {
        name: "billing",
        about: "flaky: refuses every third event once, every ninth twice, with 503",
        event_types: &["order.*", "payment.*"],
        flaky: true,
    },
];

fn names() -> [&'static str; SHOPS.len()] {
    SHOPS.each_ref().map(|shop| shop.name)
}

/// Whether a receiver is subscribed to this type. The demo decides this itself instead of asking the daemon.
fn subscribed(place: Place, event_type: &str) -> bool {
    SHOPS.get(place).is_some_and(|shop| {
        shop.event_types
            .iter()
            .any(|pattern| match pattern.strip_suffix(".*") {
                Some(prefix) => event_type
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('.')),
                None => *pattern == event_type,
            })
    })
}

/// The ledgers, and when they were opened.
#[derive(Clone)]
struct Books {
    opened: Moment,
    ledger: Arc<Mutex<Ledger>>,
}

impl Books {
    fn open() -> Self {
        Self {
            opened: Moment::now(),
            ledger: Arc::new(Mutex::new(Ledger::new(SHOPS.len()))),
        }
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Counting can't leave the ledgers half-written: the content of a poisoned lock is still valid.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn run(args: DemoArgs, screen: Screen) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let folder = folder()?;
    let books = Books::open();
    let mut daemon = tokio::select! {
        started = Daemon::start(folder.path()) => started?,
        () = stop.wait() => return Ok(()),
    };
    let result = show(
        &args,
        screen,
        &mut daemon,
        folder.path().join("log"),
        &books,
        &mut stop,
    )
    .await;
    let drained = daemon.stop().await;
    let folder_name = folder.path().display().to_string();
    drop(folder);
    result?;
    screen.line(&format!(
        "\nThe daemon {}; its directory {folder_name} has been removed.",
        if drained {
            "has drained and stopped"
        } else {
            "did not stop cleanly"
        }
    ))?;
    if drained {
        Ok(())
    } else {
        Err(Failure::No(
            "the daemon did not exit with status 0 after SIGTERM".to_owned(),
        ))
    }
}

/// Ctrl-C, SIGTERM or SIGHUP: all stop the demo.
struct Stop {
    signals: [Signal; 3],
    heard: bool,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::local("listen for signals", &error));
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self {
            signals,
            heard: false,
        })
    }

    async fn wait(&mut self) {
        if self.heard {
            return;
        }
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        self.heard = true;
    }
}

async fn show(
    args: &DemoArgs,
    screen: Screen,
    daemon: &mut Daemon,
    log: PathBuf,
    books: &Books,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let client = Client::at(daemon.socket.clone());
    introduce(&screen, daemon)?;
    open_shops(&client, books, &screen).await?;
    let mut live = Live::new(screen, books.clone());
    let sending = send(&client, args.once, books);
    tokio::pin!(sending);
    let mut redraw = tokio::time::interval(REDRAW_EVERY);
    let sent = loop {
        tokio::select! {
            sent = &mut sending => break sent,
            () = stop.wait() => break Ok(()),
            status = daemon.ended() => break Err(Failure::No(format!("the daemon stopped by itself ({status}). Its log:\n{}", child::tail_of(&log)))),
            _ = redraw.tick() => live.draw()?,
        }
    };
    sent?;
    let deadline = tokio::time::sleep(SETTLED_WITHIN);
    tokio::pin!(deadline);
    while !stop.heard && !settled(&client, books).await? {
        tokio::select! {
            () = &mut deadline => break,
            () = stop.wait() => {}
            _ = redraw.tick() => live.draw()?,
        }
    }
    live.draw()?;
    conclude(&client, &screen, books, args.once && !stop.heard).await
}

fn introduce(screen: &Screen, daemon: &Daemon) -> Result<(), Failure> {
    screen.line(&screen.paint(
        Tone::Bold,
        "stormhook demo: a real daemon, in a temporary directory, on its real socket",
    ))?;
    screen.line(&format!("  daemon     {}", daemon.ready_line))?;
    screen.line(&format!(
        "  retries    after {} (shortened for the demo; the default is 1m, 5m, 30m, 2h, 24h)",
        child::SCHEDULE.join(", ")
    ))?;
    for shop in &SHOPS {
        screen.line(&format!(
            "  receiver   {}: {}; gets {}",
            shop.name,
            shop.about,
            shop.event_types.join(", ")
        ))?;
    }
    screen.line("  events     four types, sent by POST /v1/events on the Unix socket; each response means that the event is on disk\n")
}

/// Starts the receivers and creates their endpoints.
async fn open_shops(client: &Client, books: &Books, screen: &Screen) -> Result<(), Failure> {
    for (place, shop) in SHOPS.iter().enumerate() {
        let failed = |error: std::io::Error| Failure::local("listen on loopback", &error);
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .await
            .map_err(failed)?;
        let url = format!(
            "http://{}/{}",
            listener.local_addr().map_err(failed)?,
            shop.name
        );
        let body = json!({"organizationId": ORGANIZATION, "url": url, "eventTypes": shop.event_types, "description": shop.about});
        // The secret is known only once the endpoint exists, and no event is sent before that.
        let checker = Arc::new(OnceLock::new());
        let (books, seen_by) = (books.clone(), Arc::clone(&checker));
        tokio::spawn(receiver::receive(listener, move |received| {
            take(place, shop.flaky, &received, seen_by.get(), &books)
        }));
        let endpoint = client
            .send(Method::POST, "/v1/endpoints", &body)
            .await?
            .value()?;
        let secret = endpoint.get("secret").and_then(Value::as_str);
        let secret = secret.ok_or_else(|| {
            Failure::No("the daemon created an endpoint without a secret".to_owned())
        })?;
        // Set only here: the cell can't be full.
        let _ = checker.set(Checker::of_usable(secret, Tolerance::default(), None)?);
        if !screen.terminal {
            screen.line(&format!("{} is {url}", shop.name))?;
        }
    }
    Ok(())
}

fn take(
    place: Place,
    flaky: bool,
    received: &Received,
    checker: Option<&Checker>,
    books: &Books,
) -> Respond {
    let signed = checker.is_some_and(|checker| {
        all_good(&checker.check(
            &received.headers,
            &received.body,
            verify::now_s(),
            Demand::Complete,
        ))
    });
    let event = received.header("webhook-id").unwrap_or_default();
    let status = books.lock().received(
        Seen {
            place,
            event,
            signed,
            at: books.now(),
        },
        flaky,
    );
    Respond::Status(status)
}

/// Sends events, one POST each.
async fn send(client: &Client, once: bool, books: &Books) -> Result<(), Failure> {
    let (events, every) = if once {
        (ONCE_EVENTS, ONCE_EVERY)
    } else {
        (MOST_EVENTS, EVERY)
    };
    let mut pace = tokio::time::interval(every);
    for n in 0..events {
        pace.tick().await;
        let order = orders::order(n);
        let sent_at = books.now();
        let accepted = client
            .send(Method::POST, "/v1/events", &order.body)
            .await?
            .value()?;
        let id = accepted.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| {
            Failure::No("the daemon accepted an event without giving its id".to_owned())
        })?;
        books.lock().accepted(id, order.event_type, sent_at);
    }
    Ok(())
}

/// Whether all is settled: every event has arrived by the receivers' ledgers, and the daemon has no open delivery.
async fn settled(client: &Client, books: &Books) -> Result<bool, Failure> {
    if !books.lock().all_delivered(subscribed) {
        return Ok(false);
    }
    let stats = client.get("/v1/stats?window=all").await?.value()?;
    let open = |key: &str| stats.get(key).and_then(Value::as_u64).unwrap_or(0);
    Ok(open("queue.pending") + open("queue.retrying") + open("queue.in_flight") == 0)
}

async fn conclude(
    client: &Client,
    screen: &Screen,
    books: &Books,
    judge: bool,
) -> Result<(), Failure> {
    let stats = client.get("/v1/stats?window=all").await?.value()?;
    screen.line(&format!("\n{}\n", stats::render(&stats, screen.colour)))?;
    let balances: Vec<Balance> = {
        let books = books.lock();
        (0..SHOPS.len())
            .map(|place| books.balance(place, subscribed))
            .collect()
    };
    screen.line(&screen.paint(Tone::Bold, "The receivers' own ledgers"))?;
    screen.line(&board::summary(&balances, &names(), screen.colour))?;
    let right = balances.iter().all(Balance::is_right);
    if right {
        return screen.line(&screen.paint(Tone::Good, "\nEvery event arrived exactly once at every subscribed receiver, with valid signatures of both schemes."));
    }
    if judge {
        return Err(Failure::No(
            "the ledger doesn't match: something is missing, duplicated, unexpected, or has an invalid signature"
                .to_owned(),
        ));
    }
    screen.line("\nStopped while deliveries were in progress: the schedule would have sent the missing ones.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_goes_to_those_who_asked_for_it() {
        let to = |event_type: &str| {
            (0..SHOPS.len())
                .filter(|place| subscribed(*place, event_type))
                .collect::<Vec<_>>()
        };
        assert_eq!(to("order.created"), [0, 1]);
        assert_eq!(to("payment.completed"), [1]);
        assert_eq!(to("inventory.low"), [0]);
        assert_eq!(to("product.updated"), [0]);
        assert_eq!(to("order"), Vec::<Place>::new());
        assert_eq!(to("orders.created"), Vec::<Place>::new());
    }
}
