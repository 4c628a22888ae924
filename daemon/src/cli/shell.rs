//! `completions`: what the shell knows of this program, made from the command tree itself.

use clap::Args;
use clap_complete::Shell;

use super::failure::Failure;
use super::screen::Screen;
use super::tree;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn completions(args: &CompletionsArgs, screen: &Screen) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree::command(), "stormhook", &mut script);
    screen.raw(&script)
}
