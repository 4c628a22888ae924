//! The `stormhook` binary: everything is decided in the library's `cli` module.

use std::process::ExitCode;

fn main() -> ExitCode {
    stormhook::cli::main()
}
