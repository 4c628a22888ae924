//! The settings of an endpoint on the command line, one row each: its names here and in the API, its value, whether it
//! can be cleared, and how it is shown.

/// One setting.
pub(crate) struct Setting {
    /// Its option, without the dashes.
    pub(crate) flag: &'static str,
    /// The placeholder for its value.
    pub(crate) typed: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    /// Its name in the API.
    pub(crate) key: &'static str,
    /// Its name for `--clear`, if it can be cleared.
    pub(crate) clear: Option<&'static str>,
    /// Its label in `endpoint show`.
    pub(crate) label: &'static str,
    /// Whether it is shown even without a value.
    pub(crate) always_shown: bool,
}

/// The kind of value of a setting.
pub(crate) enum Kind {
    Text,
    Number,
    Word(&'static [&'static str]),
    /// A file of headers, which may hold credentials: arguments are visible to every process.
    HeadersFile,
}

pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        flag: "description",
        typed: "DESCRIPTION",
        help: "A description for people",
        kind: Kind::Text,
        key: "description",
        clear: Some("description"),
        label: "description",
        always_shown: false,
    },
    Setting {
        flag: "headers-file",
        typed: "FILE",
        help: "Headers to add, one 'name: value' per line, from a file or - for stdin; they are treated as secrets",
        kind: Kind::HeadersFile,
        key: "headers",
        clear: Some("headers"),
        label: "headers",
        always_shown: true,
    },
    Setting {
        flag: "rate-limit",
        typed: "NUMBER",
        help: "Maximum requests per second",
        kind: Kind::Number,
        key: "rateLimitPerSecond",
        clear: Some("rate-limit"),
        label: "rate limit /s",
        always_shown: true,
    },
    Setting {
        flag: "ordering",
        typed: "ORDERING",
        help: "Delivery order: in parallel, or one at a time by sequence",
        kind: Kind::Word(&["parallel", "fifo"]),
        key: "ordering",
        clear: None,
        label: "ordering",
        always_shown: true,
    },
];

impl Setting {
    /// Returns its name in the API, and its option.
    pub(crate) fn names(&self) -> (&'static str, &'static str) {
        (self.key, self.flag)
    }
}
