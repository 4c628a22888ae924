//! `stormhook token`: the admin token of a daemon.

use clap::Subcommand;
use serde::Deserialize;

use crate::Session;
use crate::failure::Failure;
use crate::terminal::plain;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook token rotate
  stormhook token rotate --server https://hooks.example:8650 \\
    --token-file admin.token

Over the socket this works even if the token is lost. The new token is only in
the file, on the machine of the daemon; the old one is refused from then on.";

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Replace the admin token, and print the path of the file with the new one
    #[command(after_help = EXAMPLES)]
    Rotate,
}

#[derive(Deserialize)]
struct Rotated {
    path: String,
}

pub(crate) async fn run(command: TokenCommand, session: Session) -> Result<(), Failure> {
    let TokenCommand::Rotate = command;
    let answer = session.client.post("/v1/token/rotate").await?;
    if session.screen.json {
        return session.screen.answer(&answer.body);
    }
    let rotated: Rotated = answer.read()?;
    session.screen.line(&plain(&rotated.path))
}

#[cfg(test)]
mod tests {
    use super::super::fake_daemon;
    use super::*;

    #[tokio::test]
    async fn rotating_asks_the_daemon_and_a_refusal_is_passed_on() {
        let daemon = fake_daemon::daemon(|request| {
            assert_eq!(request.method(), http::Method::POST);
            match request.uri().path() {
                "/v1/token/rotate" => fake_daemon::said(200, r#"{"path":"/d/admin-token"}"#),
                _ => fake_daemon::said(404, "{}"),
            }
        });
        run(TokenCommand::Rotate, daemon.session).await.unwrap();
        let daemon = fake_daemon::daemon(|_| fake_daemon::said(501, "{}"));
        let failed = run(TokenCommand::Rotate, daemon.session).await.unwrap_err();
        assert_eq!(failed.status(), super::super::failure::REFUSED);
    }
}
