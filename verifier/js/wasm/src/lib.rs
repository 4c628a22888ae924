//! The verifier for JavaScript, as functions on numbers and one shared piece of memory: no text and no object is passed, so nothing is
//! copied twice and verifying links no allocator. Decides nothing itself: every result is `stormhook_verifier`'s, as the number of its code.
//!
//! There are three builds, one for each feature, so that a receiver loads no more than it uses.

#![cfg(target_arch = "wasm32")]
#![no_std]

#[cfg(feature = "explain")]
extern crate alloc;

#[cfg(feature = "explain")]
pub mod explanation;
#[cfg(any(feature = "hmac", feature = "ed25519"))]
pub mod heads;
#[cfg(feature = "hmac")]
pub mod macs;
#[cfg(feature = "ed25519")]
pub mod points;
mod shared;

#[cfg(feature = "explain")]
#[global_allocator]
static ALLOCATOR: shared::Growing = shared::Growing;

/// Verifying needs only its own memory.
#[cfg(not(feature = "explain"))]
#[global_allocator]
static ALLOCATOR: shared::NoMemory = shared::NoMemory;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
