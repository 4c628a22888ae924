//! The headers that an endpoint may add to its deliveries: checks names and values once, when they are set. The values
//! are treated as secrets: they can't be printed by accident, and errors never contain them.

use std::collections::BTreeMap;
use std::fmt;

/// The maximum number of headers of an endpoint.
pub const MAX_HEADERS: usize = 50;
/// The maximum length of a value.
pub const MAX_VALUE_BYTES: usize = 4096;
/// The maximum length of a name.
pub const MAX_NAME_BYTES: usize = 256;

/// Names that the daemon sets itself or that change the framing of a message (RFC 9110, 7.6.1; RFC 9113, 8.2.2).
const RESERVED_NAMES: [&str; 14] = [
    "connection",
    "content-digest",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "x-stormcom-"];

/// Whether `name` (in any case) is one that deliveries set or that the connection uses.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED_NAMES.contains(&name.as_str())
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Whether `name` is a token (RFC 9110, section 5.6.2) of at most [`MAX_NAME_BYTES`].
#[must_use]
pub fn is_token(name: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(tchar)
}

/// Why an endpoint's headers are refused. Names only: a value may be a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// More than [`MAX_HEADERS`].
    #[error("an endpoint may have at most {MAX_HEADERS} headers, not {0}; send fewer")]
    TooMany(usize),
    /// Not a token, or too long.
    #[error(
        "{0:?} is not a header name: use 1 to {MAX_NAME_BYTES} of letters, digits and !#$%&'*+-.^_`|~"
    )]
    BadName(String),
    /// A reserved name.
    #[error(
        "the header {0:?} is set by stormhook itself or belongs to the connection; choose another name"
    )]
    Reserved(String),
    /// The same name twice, ignoring case.
    #[error("the header {0:?} is set twice (names ignore case); set it once")]
    Duplicate(String),
    /// Control characters, non-ASCII characters, or white space at either end.
    #[error(
        "the value of header {0:?} contains characters that are not allowed: use visible ASCII, with spaces and tabs only inside"
    )]
    BadValue(String),
    /// Over [`MAX_VALUE_BYTES`].
    #[error(
        "the value of header {name:?} has {bytes} bytes; at most {MAX_VALUE_BYTES} are allowed"
    )]
    TooLong {
        /// The header.
        name: String,
        /// The length of the value.
        bytes: usize,
    },
}

/// An endpoint's own headers, checked. Names are in lower case; `Debug` shows only names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(BTreeMap<String, String>);

impl CustomHeaders {
    /// Checks names and values. `signature_header` is the configured `delivery.signature_header`.
    ///
    /// # Errors
    /// [`HeaderError`], for the first invalid header.
    pub fn parse<I>(entries: I, signature_header: &str) -> Result<Self, HeaderError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let mut headers = BTreeMap::new();
        for (index, (name, value)) in entries.into_iter().enumerate() {
            if index >= MAX_HEADERS {
                return Err(HeaderError::TooMany(index + 1));
            }
            if !is_token(&name) {
                return Err(HeaderError::BadName(name.chars().take(80).collect()));
            }
            let name = name.to_ascii_lowercase();
            if is_reserved(&name) || name.eq_ignore_ascii_case(signature_header) {
                return Err(HeaderError::Reserved(name));
            }
            if value.len() > MAX_VALUE_BYTES {
                return Err(HeaderError::TooLong {
                    name,
                    bytes: value.len(),
                });
            }
            if !is_field_value(&value) {
                return Err(HeaderError::BadValue(name));
            }
            if headers.contains_key(&name) {
                return Err(HeaderError::Duplicate(name));
            }
            headers.insert(name, value);
        }
        Ok(Self(headers))
    }

    /// Returns names and values, for the request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns only the names, for responses that mask the values.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the map, for the store.
    #[must_use]
    pub fn into_inner(self) -> BTreeMap<String, String> {
        self.0
    }

    /// Returns the number of headers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|name| (name, "***")))
            .finish()
    }
}

/// Whether the text is a field value (RFC 9110, section 5.5) without obs-text: receivers disagree on how to read bytes
/// over 127.
fn is_field_value(value: &str) -> bool {
    let inside = value
        .bytes()
        .all(|b| b == b' ' || b == b'\t' || b.is_ascii_graphic());
    inside && value.trim_matches([' ', '\t']).len() == value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entries: &[(&str, &str)]) -> Result<CustomHeaders, HeaderError> {
        let owned = entries
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        CustomHeaders::parse(owned, "X-Partner-Signature")
    }

    #[test]
    fn names_are_kept_in_lower_case_and_values_as_given() {
        let headers = parse(&[("X-Api-Key", "a B\tc"), ("empty", "")]).unwrap();
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("empty", ""), ("x-api-key", "a B\tc")]
        );
    }

    #[test]
    fn debug_output_never_holds_a_value() {
        let shown = format!(
            "{:?}",
            parse(&[("authorization", "Bearer hunter2")]).unwrap()
        );
        assert!(
            shown.contains("authorization") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn names_the_daemon_or_the_connection_needs_are_refused_in_any_case() {
        for name in [
            "Host",
            "content-length",
            "Content-Type",
            "transfer-encoding",
            "Connection",
            "user-agent",
            "TE",
            "upgrade",
            "webhook-id",
            "Webhook-Anything",
            "content-digest",
            "x-stormcom-signature",
            "X-Stormcom-X",
            "x-partner-signature",
            "keep-alive",
            "expect",
        ] {
            assert_eq!(
                parse(&[(name, "v")]),
                Err(HeaderError::Reserved(name.to_ascii_lowercase())),
                "{name}"
            );
        }
    }

    #[test]
    fn what_could_end_a_header_line_is_refused() {
        for value in [
            "a\r\nb", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x1bb", " a", "a ", "\ta", "é",
        ] {
            assert_eq!(
                parse(&[("x-a", value)]),
                Err(HeaderError::BadValue("x-a".into())),
                "{value:?}"
            );
        }
        for name in ["", "a b", "a:", "a\r\nb", "ä", "a\0", "(a)", "a/b"] {
            assert!(
                matches!(parse(&[(name, "v")]), Err(HeaderError::BadName(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_same_name_in_another_case_is_a_duplicate() {
        assert_eq!(
            parse(&[("X-A", "1"), ("x-a", "2")]),
            Err(HeaderError::Duplicate("x-a".into()))
        );
    }

    #[test]
    fn number_and_length_are_bounded() {
        let many =
            |n: usize| CustomHeaders::parse((0..n).map(|i| (format!("x-{i}"), String::new())), "s");
        assert_eq!(many(50).unwrap().len(), 50);
        assert_eq!(many(51), Err(HeaderError::TooMany(51)));
        assert!(parse(&[("x-a", &"v".repeat(4096))]).is_ok());
        let error = parse(&[("x-a", &"v".repeat(4097))]);
        assert_eq!(
            error,
            Err(HeaderError::TooLong {
                name: "x-a".into(),
                bytes: 4097
            })
        );
        assert!(parse(&[(&"n".repeat(257), "v")]).is_err());
    }
}
