//! The options that several commands share: groups that each command flattens into its own.

use std::path::PathBuf;

use clap::Args;

/// The heading under which a command that asks the daemon lists these options, after its own.
pub(crate) const CLIENT: &str = "Client options";

/// Of a command that asks the daemon and prints its answer. They may also follow a subcommand.
#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    #[command(flatten)]
    pub(crate) daemon: SocketOption,
    /// Print JSON: the API's response, unchanged
    #[arg(long, global = true, help_heading = CLIENT)]
    pub(crate) json: bool,
}

/// Of a command that asks the daemon.
#[derive(Debug, Args)]
pub(crate) struct SocketOption {
    /// The daemon's Unix socket [default: $STORMHOOK_SOCKET, then $RUNTIME_DIRECTORY, /run/stormhook and the data folder]
    #[arg(long, global = true, value_name = "PATH", help_heading = CLIENT)]
    pub(crate) socket: Option<PathBuf>,
}

/// Of a command that prints a result of its own.
#[derive(Debug, Args)]
pub(crate) struct JsonOption {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
