//! The `stormhook` binary: the library's `cli` module decides everything except the memory allocator (ADR 0011).

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    stormhook::cli::main()
}
