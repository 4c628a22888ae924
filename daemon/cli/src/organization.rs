//! `stormhook organization …`: deletes an organization.

use crate::Session;
use crate::client::CALL_TIMEOUT;
use crate::failure::Failure;
use crate::table::{Cell, pairs};
use crate::terminal::Tone;
use clap::{Args, Subcommand};
use http::Method;

pub(crate) const EXAMPLES: &str = "\
Example, to hand out what an organization has, and then delete it:
  stormhook export --organization org_42 --output org_42.ndjson
  stormhook organization delete org_42 --yes";

#[derive(Debug, Subcommand)]
pub(crate) enum OrganizationCommand {
    /// Delete an organization: its endpoints, API keys, events and deliveries
    #[command(after_help = "\
Example:
  stormhook organization delete org_42 --yes

From the answer on, nothing of it is shown or sent. In the background it is
removed from the store. The audit log keeps its entries. This can't be undone.")]
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The organization
    #[arg(value_name = "ORGANIZATION", value_parser = crate::input::id)]
    id: String,
    /// Do it without a question
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(command: OrganizationCommand, session: Session) -> Result<(), Failure> {
    let OrganizationCommand::Delete(args) = command;
    if !args.yes {
        return Err(Failure::Usage(format!(
            "this deletes all endpoints, API keys, events and deliveries of {}, and can't be undone: add --yes",
            args.id
        )));
    }
    let path = format!("/v1/organizations/{}", args.id);
    let call = session
        .client
        .call(Method::DELETE, &path, None, CALL_TIMEOUT);
    let answer = call.await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let value = answer.value()?;
    let rows = [
        (
            "organization",
            Cell::of(&value, "organizationId").tone(Tone::Bold),
        ),
        ("deleted endpoints", Cell::of(&value, "endpoints")),
        ("revoked API keys", Cell::of(&value, "apiKeys")),
        ("events, deliveries", Cell::text("being removed")),
    ];
    session.screen.line(&pairs(&rows, session.screen.colour))
}
