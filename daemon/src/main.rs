//! The `stormhook` binary: everything is decided in the library's `cli` module, but for who hands out memory (ADR 0011).

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    stormhook::cli::main()
}
