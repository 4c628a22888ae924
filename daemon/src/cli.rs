//! The command line: which commands there are, and how each one ends.
//!
//! Client commands talk to a running daemon through its Unix socket and nothing else; only `serve`, `config` and what reads or
//! writes a store at rest reach into the daemon's own modules, and they do it in `daemon_side`. Exit statuses: 0 ok, 1 the daemon said no,
//! 2 usage, 3 daemon not reachable. A closed stdout (`stormhook event list | head`) is a quiet end, not a failure.

mod backup;
mod batch;
mod check;
mod client;
mod compact;
mod daemon_side;
mod delivery;
mod demo;
mod endpoint;
mod event;
mod export;
mod failure;
mod input;
mod lines;
mod listen;
mod manual;
mod pages;
mod parent;
#[cfg(test)]
mod pretend;
mod progress;
mod receiver;
mod refusal;
mod report;
mod respond;
mod screen;
mod shell;
mod signature;
mod socket;
mod stats;
mod table;
mod tail;
mod tree;
mod verify;
mod whereabouts;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use client::Client;
use failure::Failure;
use screen::Screen;

/// What every client command works with: where the daemon is, and how to show what it said.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) screen: Screen,
}

/// How long a daemon that failed waits for somebody to read why.
const SHOWN_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

const SURVEY: &str = "\
Start here:
  stormhook demo                          see it work, in a temporary folder
  stormhook serve                         run the daemon in the foreground
  stormhook endpoint add --organization org_42 \\
    --url https://partner.example/hooks --event-type 'order.*'
  stormhook event send \\
    '{\"organizationId\":\"org_42\",\"type\":\"order.created\",\"data\":{\"orderId\":1001}}'
  stormhook tail                          watch the attempts as they end

Exit status: 0 ok, 1 the daemon said no, 2 usage, 3 daemon not reachable.";

/// Deliver signed webhooks from one process, durably and with retries.
#[derive(Debug, Parser)]
#[command(name = "stormhook", version, after_help = SURVEY)]
pub struct Cli {
    /// The daemon's Unix socket [default: $STORMHOOK_SOCKET, then $RUNTIME_DIRECTORY, /run/stormhook and the data folder]
    #[arg(long, global = true, value_name = "PATH", help_heading = tree::GLOBAL)]
    socket: Option<PathBuf>,

    /// Print JSON: exactly what the API said
    #[arg(long, global = true, help_heading = tree::GLOBAL)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    #[command(
        after_help = "Example:\n  stormhook serve --config /etc/stormhook.toml\n\nSIGTERM drains and exits 0; SIGHUP reloads what can be."
    )]
    Serve(daemon_side::ServeArgs),
    /// See it work: a real daemon in a temporary folder, two receivers, a stream of orders
    #[command(
        after_help = "Examples:\n  stormhook demo           until Ctrl-C\n  stormhook demo --once    until a fixed number of orders is settled"
    )]
    Demo(demo::DemoArgs),
    /// Create, change and look at endpoints
    #[command(subcommand, visible_alias = "endpoints", after_help = endpoint::EXAMPLES)]
    Endpoint(endpoint::EndpointCommand),
    /// Send events and look at them
    #[command(subcommand, visible_alias = "events", after_help = event::EXAMPLES)]
    Event(event::EventCommand),
    /// Look at deliveries, retry and cancel them
    #[command(subcommand, visible_alias = "deliveries", after_help = delivery::EXAMPLES)]
    Delivery(delivery::DeliveryCommand),
    /// Follow attempts live
    #[command(after_help = "Example:\n  stormhook tail --endpoint ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Tail(tail::TailArgs),
    /// Counts, percentiles, service levels and the queue
    #[command(after_help = "Examples:\n  stormhook stats --window 24h\n  stormhook stats --watch")]
    Stats(stats::StatsArgs),
    /// Receive webhooks on loopback while developing: verify, print, answer as told
    #[command(after_help = listen::EXAMPLES)]
    Listen(listen::ListenArgs),
    /// Check the signature of a captured delivery, and say exactly what is wrong
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Check the store: online on a snapshot, or read-only on a stopped store
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Copy the store into a file, online or of a stopped daemon
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::BackupArgs),
    /// Export everything as NDJSON, to stdout or a file
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Compact the store of a stopped daemon
    #[command(after_help = compact::EXAMPLES)]
    Compact(compact::CompactArgs),
    /// Show the effective configuration and where each value came from
    #[command(after_help = "\
Examples:
  STORMHOOK_DELIVERY__TIMEOUT=10s stormhook config --config stormhook.toml
  stormhook config --json | jq '.settings[\"delivery.timeout\"]'")]
    Config(daemon_side::ConfigFlags),
    /// Print the completion script of a shell
    #[command(after_help = "\
Example:
  stormhook completions bash \\
    > ~/.local/share/bash-completion/completions/stormhook")]
    Completions(shell::CompletionsArgs),
    /// Print the manual page of a command, or write all of them
    #[command(after_help = manual::EXAMPLES)]
    Man(manual::ManArgs),
}

/// Reads the arguments, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let parsed =
        tree::parse(std::env::args_os()).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe under `--help | head` is nobody's failure.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * failure::USAGE);
        }
    };
    let screen = Screen::for_process(cli.json);
    let is_daemon = matches!(cli.command, Command::Serve(_));
    match run(cli, screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let status = failure.status();
            if is_daemon {
                show_briefly(failure, screen);
            } else {
                screen.failure(&failure);
            }
            ExitCode::from(status)
        }
    }
}

/// Says why the daemon failed. Nobody may be reading stderr: the process ends all the same.
fn show_briefly(failure: Failure, screen: Screen) {
    let (shown, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        screen.failure(&failure);
        let _late = shown.send(());
    });
    let _unread = wait.recv_timeout(SHOWN_WITHIN);
}

fn run(cli: Cli, screen: Screen) -> Result<(), Failure> {
    let socket = cli.socket;
    match cli.command {
        Command::Serve(args) => daemon_side::serve(args, socket.as_deref()),
        Command::Config(flags) => daemon_side::show(&flags, socket.as_deref(), &screen),
        Command::Completions(args) => shell::completions(&args, &screen),
        Command::Man(args) => manual::run(&args, &screen),
        Command::Verify(args) => verify::run(&args, &screen),
        Command::Listen(args) => alone(listen::run(args, screen)),
        Command::Demo(args) => alone(demo::run(args, screen)),
        Command::Check(args) => alone(check::run(args, socket, screen)),
        Command::Backup(args) => alone(backup::run(args, socket, screen)),
        Command::Export(args) => alone(export::run(args, socket, screen)),
        Command::Compact(args) => compact::run(&args, &screen),
        Command::Endpoint(command) => {
            connected(socket, screen, |session| endpoint::run(command, session))
        }
        Command::Event(command) => {
            connected(socket, screen, |session| event::run(command, session))
        }
        Command::Delivery(command) => {
            connected(socket, screen, |session| delivery::run(command, session))
        }
        Command::Tail(args) => connected(socket, screen, |session| tail::run(args, session)),
        Command::Stats(args) => connected(socket, screen, |session| stats::run(args, session)),
    }
}

fn connected<F, W>(socket: Option<PathBuf>, screen: Screen, work: F) -> Result<(), Failure>
where
    F: FnOnce(Session) -> W,
    W: Future<Output = Result<(), Failure>>,
{
    alone(async move {
        let sockets = socket::Surroundings::of_process(socket).candidates();
        let client = Client::find(&sockets).await?;
        work(Session { client, screen }).await
    })
}

/// Client commands wait on one socket: one thread is enough, and it starts faster.
fn alone(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("start the asynchronous runtime", &error))?;
    let result = runtime.block_on(work);
    // A thread still blocked in a read of stdin must not hold the exit up.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::{Cli, Command, tree};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        tree::parse(line.split_whitespace().map(Into::into))
            .and_then(|matches| Cli::from_arg_matches(&matches))
    }

    #[test]
    fn socket_and_json_stand_before_or_after_the_command() {
        for line in [
            "stormhook --json --socket /tmp/s delivery list",
            "stormhook delivery list --json --socket /tmp/s",
        ] {
            let cli = parse(line).unwrap();
            assert!(cli.json, "{line}");
            assert_eq!(
                cli.socket.as_deref(),
                Some(std::path::Path::new("/tmp/s")),
                "{line}"
            );
        }
    }

    #[test]
    fn event_types_are_given_together_or_one_by_one() {
        for types in [
            "--event-type a.b c.*",
            "--event-type a.b --event-type c.*",
            "--event-type a.b,c.*",
        ] {
            let cli = parse(&format!(
                "stormhook endpoint add --organization o --url https://x.example/ {types}"
            ))
            .unwrap();
            let Command::Endpoint(super::endpoint::EndpointCommand::Add(args)) = cli.command else {
                panic!("{types}")
            };
            assert_eq!(args.event_types, ["a.b", "c.*"], "{types}");
        }
    }

    #[test]
    fn an_id_that_could_change_the_path_is_a_usage_error() {
        for line in [
            "stormhook event show evt_1/../x",
            "stormhook delivery show dlv_1?x=1",
            "stormhook endpoint show %2e",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
