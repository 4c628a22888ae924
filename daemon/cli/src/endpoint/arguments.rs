//! The arguments of `stormhook endpoint …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::settings::{self, Settings};
use super::tls::TlsArgs;
use crate::input::{self, Moment};
use crate::pages::Paging;

pub(crate) const EXAMPLES: &str = "\
Example, from a new endpoint to its deliveries:
  stormhook endpoint add --organization org_42 \\
    --url https://partner.example/hooks --event-type 'order.*'
  stormhook endpoint test ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A
  stormhook delivery list --endpoint ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Create an endpoint; its secret is shown once
    #[command(after_help = "\
Example:
  stormhook endpoint add --organization org_42 \\
    --url https://partner.example/hooks --event-type 'order.*' payment.completed")]
    Add(AddArgs),
    /// List endpoints
    #[command(
        after_help = "Example:\n  stormhook endpoint list --organization org_42 --active true"
    )]
    List(ListArgs),
    /// Show one endpoint
    #[command(
        after_help = "Examples:\n  stormhook endpoint show ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A\n  stormhook endpoint show ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A --reveal-secret"
    )]
    Show(ShowArgs),
    /// Change an endpoint
    #[command(after_help = "\
Examples:
  stormhook endpoint update ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A \\
    --rate-limit 20 --clear description
  stormhook endpoint update ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A \\
    --client-certificate client.pem --client-key client.key

--client-certificate, --client-key and --ca-certificate replace the TLS settings
as a whole; --clear tls removes them.")]
    Update(UpdateArgs),
    /// Enable an endpoint; held deliveries resume
    #[command(
        after_help = "Example:\n  stormhook endpoint enable ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A --discard-held"
    )]
    Enable(EnableArgs),
    /// Disable an endpoint; open deliveries are held
    #[command(after_help = "Example:\n  stormhook endpoint disable ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Disable(OneArgs),
    /// Rotate the secret; old ones stay valid for --overlap
    #[command(after_help = "\
Example:
  stormhook endpoint rotate-secret ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A --overlap 48h")]
    RotateSecret(RotateArgs),
    /// Send a ping now, even to an inactive endpoint, and show the result
    #[command(after_help = "\
Examples:
  stormhook endpoint test ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A
  stormhook endpoint test ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A --json |
    jq -e '.outcome == \"success\"'

Status 0 means that the ping was sent, not that it arrived; 1 that the daemon
could not send it, for example because the endpoint doesn't exist.")]
    Test(OneArgs),
    /// Send failed deliveries again, and with --missed those missed while inactive
    #[command(after_help = "\
Example:
  stormhook endpoint recover ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A \\
    --since 24h --missed --dry-run")]
    Recover(RecoverArgs),
    /// Delete an endpoint; its open deliveries end as FAILED
    #[command(after_help = "Example:\n  stormhook endpoint remove ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    Remove(OneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// Your own secret, from a file or - for stdin [default: a generated one]
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The organization whose events it receives
    #[arg(long, value_name = "ORGANIZATION")]
    pub(super) organization: String,
    /// Where deliveries are sent
    #[arg(long)]
    pub(super) url: String,
    /// Event types: exact (order.created), a prefix (order.*) or *
    #[arg(long = "event-type", value_name = "TYPE", required = true, num_args = 1.., value_delimiter = ',')]
    pub(crate) event_types: Vec<String>,
    /// Create it disabled
    #[arg(long)]
    pub(super) inactive: bool,
    /// Also sign with ed25519, so that the receiver verifies with a public key
    #[arg(long)]
    pub(super) ed25519: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this organization
    #[arg(long, value_name = "ORGANIZATION")]
    pub(super) organization: Option<String>,
    /// Only active or only inactive ones
    #[arg(long, value_name = "true|false")]
    pub(super) active: Option<bool>,
    #[command(flatten)]
    pub(super) paging: Paging,
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The endpoint
    #[arg(value_name = "ENDPOINT", value_parser = input::id)]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(super) one: OneArgs,
    /// Show its secrets instead, including earlier ones that still sign
    #[arg(long)]
    pub(super) reveal_secret: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(super) one: OneArgs,
    /// Where deliveries are sent
    #[arg(long)]
    pub(super) url: Option<String>,
    /// Event types, replacing the current ones
    #[arg(long = "event-type", value_name = "TYPE", value_delimiter = ',')]
    pub(super) event_types: Vec<String>,
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    /// Enable or disable ed25519; disabling it deletes its keys permanently
    #[arg(long, value_name = "true|false")]
    pub(super) ed25519: Option<bool>,
    /// Clear a setting
    #[arg(long, value_name = "SETTING", value_parser = settings::clearable())]
    pub(super) clear: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EnableArgs {
    #[command(flatten)]
    pub(super) one: OneArgs,
    /// Discard held deliveries instead of sending them
    #[arg(long)]
    pub(super) discard_held: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(super) one: OneArgs,
    /// How long earlier secrets keep signing, 0s to 7d [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    pub(super) overlap: Option<String>,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    pub(super) one: OneArgs,
    /// At or after this time: RFC 3339, or how long ago (24h)
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    pub(super) since: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = input::moment)]
    pub(super) until: Option<Moment>,
    /// Also recover events that it missed while inactive
    #[arg(long)]
    pub(super) missed: bool,
    /// Only count the deliveries
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn checked_duration(text: &str) -> Result<String, String> {
    input::duration(text).map(|_| text.to_owned())
}
