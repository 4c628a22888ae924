//! The memory that JavaScript and WebAssembly share, at a fixed address. Assumes one thread and one user at a time.

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

    /// Works on the value. No function given here may call back into JavaScript, or into this one for the same value.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        #[allow(unsafe_code, reason = "the only reference there is")]
        // SAFETY: one thread, and `work` neither calls out nor comes back for the same value, so no other reference lives.
        let value = unsafe { &mut *self.0.get() };
        work(value)
    }
}

/// An allocator that never has memory.
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

/// An allocator that only grows: JavaScript creates an instance for each explanation and drops it with all of its memory.
#[cfg(feature = "explain")]
pub(crate) struct Growing;

#[cfg(feature = "explain")]
static FREE: Shared<(usize, usize)> = Shared::new((0, 0));

#[cfg(feature = "explain")]
const PAGE_BYTES: usize = 64 << 10;

#[cfg(feature = "explain")]
#[allow(unsafe_code, reason = "the trait asks for it")]
// SAFETY: each piece is aligned, lies in pages that were asked for here, and overlaps none that was given before.
unsafe impl core::alloc::GlobalAlloc for Growing {
    unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
        FREE.with(|(at, end)| {
            let start = at.next_multiple_of(layout.align());
            let needed = (start + layout.size()).saturating_sub(*end);
            if needed > 0 {
                let pages = needed.div_ceil(PAGE_BYTES) + 1;
                let grown = core::arch::wasm32::memory_grow::<0>(pages);
                if grown == usize::MAX {
                    return core::ptr::null_mut();
                }
                // The first pages begin behind everything that the module came with; later ones follow each other.
                if *end == 0 {
                    *at = grown * PAGE_BYTES;
                }
                *end = (grown + pages) * PAGE_BYTES;
            }
            let start = at.next_multiple_of(layout.align());
            *at = start + layout.size();
            start as *mut u8
        })
    }

    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {}
}
