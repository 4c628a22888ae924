//! placeholder
use clap::Args;
use super::{failure::Failure, screen::Screen};
#[derive(Debug, Args)]
pub(crate) struct DemoArgs { #[arg(long)] once: bool }
pub(crate) async fn run(_args: DemoArgs, _screen: Screen) -> Result<(), Failure> { Ok(()) }
