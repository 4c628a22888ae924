//! Received headers in any container. Defines how names are compared and repeated lines are joined; never copies more
//! than 4,096 bytes, and never interprets a value.

use alloc::string::String;
use alloc::vec::Vec;

/// The longest signature header that is looked at, joined.
pub(crate) const VALUE_MAX_BYTES: usize = 4096;

/// The headers of a request: pairs of name and value, or an `http::HeaderMap` with the feature `http`.
///
/// ```
/// use stormhook_verifier::Headers;
///
/// fn takes(_: &impl Headers) {}
/// takes(&[("webhook-id", "evt_1")]);
/// takes(&vec![(String::from("webhook-id"), b"evt_1".to_vec())]);
/// ```
pub trait Headers {
    /// Passes every pair to `see`, in the order received.
    fn each<'h>(&'h self, see: &mut dyn FnMut(&'h str, &'h [u8]));

    /// Passes the values of a name, in any case, to `see`, in the order received.
    fn each_named<'h>(&'h self, name: &str, see: &mut dyn FnMut(&'h [u8])) {
        self.each(&mut |found, value| {
            if found.eq_ignore_ascii_case(name) {
                see(value);
            }
        });
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn each<'h>(&'h self, see: &mut dyn FnMut(&'h str, &'h [u8])) {
        for (name, value) in self {
            see(name.as_ref(), value.as_ref());
        }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const LEN: usize> Headers for [(N, V); LEN] {
    fn each<'h>(&'h self, see: &mut dyn FnMut(&'h str, &'h [u8])) {
        self.as_slice().each(see);
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn each<'h>(&'h self, see: &mut dyn FnMut(&'h str, &'h [u8])) {
        self.as_slice().each(see);
    }
}

impl<H: Headers + ?Sized> Headers for &H {
    fn each<'h>(&'h self, see: &mut dyn FnMut(&'h str, &'h [u8])) {
        (**self).each(see);
    }

    fn each_named<'h>(&'h self, name: &str, see: &mut dyn FnMut(&'h [u8])) {
        (**self).each_named(name, see);
    }
}

#[cfg(feature = "http")]
impl Headers for http::HeaderMap {
    fn each<'h>(&'h self, see: &mut dyn FnMut(&'h str, &'h [u8])) {
        for (name, value) in self {
            see(name.as_str(), value.as_bytes());
        }
    }

    fn each_named<'h>(&'h self, name: &str, see: &mut dyn FnMut(&'h [u8])) {
        for value in self.get_all(name) {
            see(value.as_bytes());
        }
    }
}

/// The values of one name.
#[derive(Clone, Copy)]
pub(crate) enum Field<'h> {
    Absent,
    Once(&'h [u8]),
    Repeated,
}

impl<'h> Field<'h> {
    pub(crate) fn of<H: Headers + ?Sized>(headers: &'h H, name: &str) -> Self {
        let mut field = Self::Absent;
        headers.each_named(name, &mut |value| {
            field = match field {
                Self::Absent => Self::Once(value),
                Self::Once(_) | Self::Repeated => Self::Repeated,
            };
        });
        field
    }

    /// Whether it is absent or empty: both mean the same to a receiver.
    pub(crate) fn is_missing(self) -> bool {
        matches!(self, Self::Absent | Self::Once(b""))
    }
}

/// Room for a header that arrived in several lines. It is cleared only if one did: that is a large part of the cost of
/// a small body.
#[derive(Default)]
pub(crate) struct JoinBuffer(Option<[u8; VALUE_MAX_BYTES]>);

/// Joins the lines of one name with `, `, as Node and the Fetch standard do; `None` over 4,096 bytes.
pub(crate) fn joined<'b, H: Headers + ?Sized>(
    headers: &H,
    name: &str,
    buffer: &'b mut JoinBuffer,
) -> Option<&'b [u8]> {
    let buffer = buffer.0.insert([0; VALUE_MAX_BYTES]);
    let mut used = Some(0_usize);
    let mut is_first = true;
    headers.each_named(name, &mut |value| {
        let separator: &[u8] = if is_first { b"" } else { b", " };
        is_first = false;
        used = used
            .and_then(|at| put(buffer, at, separator))
            .and_then(|at| put(buffer, at, value));
    });
    buffer.get(..used?)
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
    let end = at.checked_add(bytes.len())?;
    buffer.get_mut(at..end)?.copy_from_slice(bytes);
    Some(end)
}

/// Returns a name for messages, escaped and truncated: it came from outside.
pub(crate) fn shown(text: &str) -> String {
    text.escape_debug().take(64).collect()
}
