//! Options that several commands share: each command flattens these groups into its own.

use std::path::PathBuf;

use clap::Args;

/// The heading for these options in the help of a command that calls the daemon, after its own options.
pub(crate) const CLIENT: &str = "Client options";

/// Options of a command that calls the daemon and prints its response. They may also follow a subcommand.
#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    #[command(flatten)]
    pub(crate) daemon: DaemonOptions,
    /// Print JSON: the API's response, unchanged
    #[arg(long, global = true, help_heading = CLIENT)]
    pub(crate) json: bool,
}

/// Options of a command that calls the daemon.
#[derive(Debug, Default, Args)]
pub(crate) struct DaemonOptions {
    /// The daemon's Unix socket [default: $STORMHOOK_SOCKET, then $RUNTIME_DIRECTORY, /run/stormhook and the data directory]
    #[arg(long, global = true, value_name = "PATH", help_heading = CLIENT, conflicts_with = "server")]
    pub(crate) socket: Option<PathBuf>,
    /// A daemon on another machine instead, such as https://hooks.example:8650 [default: $STORMHOOK_SERVER]
    #[arg(long, global = true, value_name = "URL", help_heading = CLIENT)]
    pub(crate) server: Option<String>,
    /// File with the token for --server [default: $STORMHOOK_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = CLIENT)]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file with certificates to trust for --server, in addition to the system's [default: $STORMHOOK_CA_FILE]
    #[arg(long, global = true, value_name = "FILE", help_heading = CLIENT)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Options of a command that prints a result of its own.
#[derive(Debug, Args)]
pub(crate) struct JsonOption {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
