//! Reads of the file through redb, which trusts its pages: a panic on a damaged one becomes an error.

use crate::error::StoreError;
use std::cell::Cell;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

/// Raised through the engine when a page can't be read. redb would latch an I/O error and refuse every later call.
#[derive(Debug)]
pub(crate) struct DamagedPage {
    pub(crate) at: u64,
    pub(crate) detail: &'static str,
}

impl DamagedPage {
    /// Unwinds to the caller of the engine. The engine holds no lock while it reads a page, except one that the current
    /// transaction has written and reads back (docs/adr/0019-verified-pages.md), so nothing is left half done.
    pub(crate) fn refuse(at: u64, detail: &'static str) -> io::Error {
        // A second panic while unwinding would end the process.
        if !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Self { at, detail }));
        }
        io::Error::other(detail)
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function that reads the file. redb trusts its pages and may panic on a damaged one: the panic becomes an
/// ordinary error and is not printed.
pub(crate) fn guarded<T>(f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                others(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        if let Some(DamagedPage { at, detail }) = panic.downcast_ref() {
            return Err(StoreError::damaged(
                format!("the page of the file at byte {at}"),
                *detail,
            ));
        }
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(StoreError::damaged(
            "a page of the file",
            format!("the engine gave up on it: {said}"),
        ))
    })
}
