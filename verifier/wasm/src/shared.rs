//! What JavaScript and WebAssembly share: one piece of memory with a fixed address. Decides that there is one thread and one user at a time.

use core::cell::UnsafeCell;

/// A value that everything in this module works on.
pub(crate) struct Shared<T>(UnsafeCell<T>);

#[allow(
    unsafe_code,
    reason = "wasm32-unknown-unknown without atomics has one thread, so nothing is ever shared between two"
)]
// SAFETY: as the reason says.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Works on the value. No function given here may call back into JavaScript or into this one.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        #[allow(unsafe_code, reason = "the only reference there is")]
        // SAFETY: one thread, and `work` neither calls out nor nests, so no other reference lives.
        let value = unsafe { &mut *self.0.get() };
        work(value)
    }
}

/// An allocator that never has any.
#[cfg(not(feature = "explain"))]
pub(crate) struct NoMemory;

#[cfg(not(feature = "explain"))]
#[allow(unsafe_code, reason = "the trait asks for it")]
// SAFETY: null is the answer that the trait has for "none", and what was never given is never taken back.
unsafe impl core::alloc::GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}
