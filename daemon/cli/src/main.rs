//! The command line: its commands, and how each one ends.
//!
//! Client commands only talk to a running daemon, through its Unix socket or, on another machine, over TLS. Only `serve`, `config` and the commands that
//! read or write a stopped store use the daemon's own modules, and they do it in `local`. Exit statuses: 0
//! success, 1 the daemon refused, 2 usage error, 3 daemon not reachable. A closed stdout (`stormhook event list |
//! head`) ends the command quietly, without failure.

mod audit;
mod backup;
mod batch;
mod check;
mod client;
mod cluster;
mod compact;
mod delivery;
mod demo;
mod endpoint;
mod event;
mod export;
mod failure;
#[cfg(test)]
mod fake_daemon;
mod holder;
mod import;
mod input;
mod key;
mod lines;
mod listen;
mod local;
mod locate;
mod manual;
mod migrate;
mod options;
mod organization;
mod pages;
mod parent;
mod progress;
mod receiver;
mod refusal;
mod rekey;
mod remote;
mod reopen;
mod report;
mod respond;
mod session;
mod settings;
mod shell;
mod signature;
mod socket;
mod stats;
mod table;
mod tail;
mod tally;
mod terminal;
#[cfg(test)]
mod tests;
mod token;
mod verify;

/// Who hands out memory (docs/adr/0011-memory.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;
use options::{ClientOptions, DaemonOptions, JsonOption};
pub(crate) use session::Session;
use session::{alone, connected};
use terminal::Screen;

const SURVEY: &str = "\
Start here:
  stormhook demo                          see it work, in a temporary directory
  stormhook serve                         run the daemon in the foreground
  stormhook endpoint add --organization org_42 \\
    --url https://partner.example/hooks --event-type 'order.*'
  stormhook event send \\
    '{\"organizationId\":\"org_42\",\"type\":\"order.created\",\"data\":{\"orderId\":1001}}'
  stormhook tail                          watch attempts as they finish

Exit status: 0 success, 1 refused by the daemon, 2 usage error, 3 no daemon.";

/// Deliver signed webhooks from one process, durably and with retries.
#[derive(Debug, Parser)]
#[command(name = "stormhook", version, after_help = SURVEY)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    #[command(
        after_help = "Example:\n  stormhook serve --config /etc/stormhook/stormhook.toml\n\nSIGTERM drains and exits 0; SIGHUP reloads the keys that can change at run time."
    )]
    Serve(local::ServeArgs),
    /// See it work: a real daemon in a temporary directory, two receivers and a stream of orders
    #[command(
        after_help = "Examples:\n  stormhook demo           until Ctrl-C\n  stormhook demo --once    until a fixed number of orders is settled"
    )]
    Demo(demo::DemoArgs),
    /// Create, change and show endpoints
    #[command(visible_alias = "endpoints", after_help = endpoint::EXAMPLES)]
    Endpoint {
        #[command(flatten)]
        client: ClientOptions,
        #[command(subcommand)]
        command: endpoint::EndpointCommand,
    },
    /// Send and show events
    #[command(visible_alias = "events", after_help = event::EXAMPLES)]
    Event {
        #[command(flatten)]
        client: ClientOptions,
        #[command(subcommand)]
        command: event::EventCommand,
    },
    /// Show, retry and cancel deliveries
    #[command(visible_alias = "deliveries", after_help = delivery::EXAMPLES)]
    Delivery {
        #[command(flatten)]
        client: ClientOptions,
        #[command(subcommand)]
        command: delivery::DeliveryCommand,
    },
    /// Follow attempts live
    #[command(after_help = "Example:\n  stormhook tail --endpoint ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Tail {
        #[command(flatten)]
        args: tail::TailArgs,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Show counts, percentiles, service levels and the queue
    #[command(after_help = "Examples:\n  stormhook stats --window 24h\n  stormhook stats --watch")]
    Stats {
        #[command(flatten)]
        args: stats::StatsArgs,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Show the daemons that share the store
    #[command(after_help = cluster::EXAMPLES)]
    Cluster {
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Create, list and revoke API keys
    #[command(visible_alias = "keys", after_help = key::EXAMPLES)]
    Key {
        #[command(flatten)]
        client: ClientOptions,
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Delete an organization with all that it has
    #[command(visible_alias = "organizations", after_help = organization::EXAMPLES)]
    Organization {
        #[command(flatten)]
        client: ClientOptions,
        #[command(subcommand)]
        command: organization::OrganizationCommand,
    },
    /// Show who changed what
    #[command(after_help = audit::EXAMPLES)]
    Audit {
        #[command(flatten)]
        args: audit::AuditArgs,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Replace the admin token
    #[command(after_help = token::EXAMPLES)]
    Token {
        #[command(flatten)]
        client: ClientOptions,
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Receive webhooks on loopback during development: verify, print and answer them
    #[command(after_help = listen::EXAMPLES)]
    Listen {
        #[command(flatten)]
        args: listen::ListenArgs,
        /// Print one line of JSON for each delivery
        #[arg(long)]
        json: bool,
    },
    /// Verify a captured delivery and explain what is wrong with it
    #[command(after_help = verify::EXAMPLES)]
    Verify {
        #[command(flatten)]
        args: verify::VerifyArgs,
        #[command(flatten)]
        output: JsonOption,
    },
    /// Check the store, online or stopped, without changing it
    #[command(after_help = check::EXAMPLES)]
    Check {
        #[command(flatten)]
        args: check::CheckArgs,
        #[command(flatten)]
        client: ClientOptions,
    },
    /// Back up the store to a file, online or stopped
    #[command(after_help = backup::EXAMPLES)]
    Backup {
        #[command(flatten)]
        args: backup::BackupArgs,
        #[command(flatten)]
        daemon: DaemonOptions,
        #[command(flatten)]
        output: JsonOption,
    },
    /// Export everything as NDJSON, to stdout or a file
    #[command(after_help = export::EXAMPLES)]
    Export {
        #[command(flatten)]
        args: export::ExportArgs,
        #[command(flatten)]
        daemon: DaemonOptions,
    },
    /// Make a store, a file or a database, of what export --with-secrets wrote
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
    /// Use a store again that was marked as moved
    #[command(after_help = reopen::EXAMPLES)]
    Reopen(reopen::ReopenArgs),
    /// Compact the store of a stopped daemon
    #[command(after_help = compact::EXAMPLES)]
    Compact {
        #[command(flatten)]
        args: compact::CompactArgs,
        #[command(flatten)]
        output: JsonOption,
    },
    /// Encrypt the secrets of the store with another key
    #[command(after_help = rekey::EXAMPLES)]
    Rekey {
        #[command(flatten)]
        args: rekey::RekeyArgs,
        #[command(flatten)]
        daemon: DaemonOptions,
    },
    /// Prepare the database that holds the store (store.url)
    #[command(after_help = migrate::EXAMPLES)]
    Migrate(migrate::MigrateArgs),
    /// Show the effective configuration and the source of each value
    #[command(after_help = "\
Examples:
  STORMHOOK_DELIVERY__TIMEOUT=10s stormhook config --config stormhook.toml
  stormhook config --json | jq '.settings[\"delivery.timeout\"]'")]
    Config {
        #[command(flatten)]
        flags: local::ConfigFlags,
        #[command(flatten)]
        output: JsonOption,
    },
    /// Print a shell completion script
    #[command(after_help = "\
Example:
  stormhook completions bash \\
    > ~/.local/share/bash-completion/completions/stormhook")]
    Completions(shell::CompletionsArgs),
    /// Print the manual page of a command, or write all pages
    #[command(after_help = manual::EXAMPLES)]
    Man(manual::ManArgs),
}

impl Command {
    /// Whether the command prints JSON.
    fn json(&self) -> bool {
        match self {
            Self::Endpoint { client, .. }
            | Self::Event { client, .. }
            | Self::Delivery { client, .. }
            | Self::Tail { client, .. }
            | Self::Stats { client, .. }
            | Self::Cluster { client }
            | Self::Key { client, .. }
            | Self::Organization { client, .. }
            | Self::Audit { client, .. }
            | Self::Token { client, .. }
            | Self::Check { client, .. } => client.json,
            Self::Verify { output, .. }
            | Self::Backup { output, .. }
            | Self::Compact { output, .. }
            | Self::Config { output, .. } => output.json,
            Self::Listen { json, .. } => *json,
            Self::Serve(_)
            | Self::Demo(_)
            | Self::Export { .. }
            | Self::Import(_)
            | Self::Reopen(_)
            | Self::Rekey { .. }
            | Self::Migrate(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

/// Reads the arguments, runs the command, and reports how it ended.
fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            terminal::explain_usage(&error);
            return ExitCode::from(u8::from(error.use_stderr()) * failure::USAGE);
        }
    };
    let screen = Screen::for_process(command.json());
    let is_daemon = matches!(command, Command::Serve(_));
    match run(command, screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let status = failure.status();
            if is_daemon {
                screen.failure_briefly(failure);
            } else {
                screen.failure(&failure);
            }
            ExitCode::from(status)
        }
    }
}

fn run(command: Command, screen: Screen) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => local::serve(args),
        Command::Config { flags, .. } => alone(local::show(flags, screen)),
        Command::Completions(args) => shell::completions(&args, &screen),
        Command::Man(args) => manual::run(&args, &screen),
        Command::Verify { args, .. } => verify::run(&args, &screen),
        Command::Listen { args, .. } => alone(listen::run(args, screen)),
        Command::Demo(args) => alone(demo::run(args, screen)),
        Command::Migrate(args) => alone(migrate::run(args, screen)),
        Command::Import(args) => alone(import::run(args, screen)),
        Command::Reopen(args) => alone(reopen::run(args, screen)),
        Command::Rekey { args, daemon } => alone(rekey::run(args, daemon, screen)),
        Command::Compact { args, .. } => compact::run(&args, &screen),
        Command::Check { args, client } => alone(check::run(args, client.daemon, screen)),
        Command::Backup { args, daemon, .. } => alone(backup::run(args, daemon, screen)),
        Command::Export { args, daemon } => alone(export::run(args, daemon, screen)),
        Command::Endpoint { client, command } => {
            connected(client, screen, |session| endpoint::run(command, session))
        }
        Command::Event { client, command } => {
            connected(client, screen, |session| event::run(command, session))
        }
        Command::Delivery { client, command } => {
            connected(client, screen, |session| delivery::run(command, session))
        }
        Command::Tail { args, client } => {
            connected(client, screen, |session| tail::run(args, session))
        }
        Command::Token { client, command } => {
            connected(client, screen, |session| token::run(command, session))
        }
        Command::Cluster { client } => connected(client, screen, cluster::run),
        Command::Key { client, command } => {
            connected(client, screen, |session| key::run(command, session))
        }
        Command::Organization { client, command } => connected(client, screen, |session| {
            organization::run(command, session)
        }),
        Command::Audit { args, client } => {
            connected(client, screen, |session| audit::run(args, session))
        }
        Command::Stats { args, client } => {
            connected(client, screen, |session| stats::run(args, session))
        }
    }
}
