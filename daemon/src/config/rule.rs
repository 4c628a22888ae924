//! How one value is read and shown: each rule says what it allows, takes a text (environment, flag) or a TOML value
//! (file), and gives either the parsed value or what was expected. It never looks at other keys.

mod network;

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

pub use network::without_password;
pub(super) use network::{
    Address, DatabaseUrl, HostName, HostPort, NameServer, Proxy, SIGNATURE_HEADER, SignatureHeader,
    TargetPattern,
};
use stormhook_engine::times::{duration_text, parse_duration};

/// A value as it was set.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// From the environment or a flag, where everything is text.
    Text(String),
    /// From the file.
    Toml(Value),
}

impl Raw {
    /// Returns the value as errors show it: short enough for one line.
    pub(super) fn shown(&self) -> String {
        let whole = match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Toml(value) => value.to_string(),
        };
        let whole = without_password(&whole);
        match whole.char_indices().nth(100) {
            Some((end, _)) => format!("{}…", whole.get(..end).unwrap_or_default()),
            None => whole,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Toml(value) => value.as_str(),
        }
    }
}

/// Reads and shows values of one kind.
pub(super) trait Rule<T> {
    /// Says what is allowed, as a phrase that follows "must be".
    fn allowed(&self) -> String;
    /// Returns the value, or `None` if [`Rule::allowed`] doesn't allow it.
    fn read(&self, raw: &Raw) -> Option<T>;
    /// Returns the value as it would be written in the file; `None` if it isn't set.
    fn show(&self, value: &T) -> Option<Value>;
}

/// A duration between two bounds, inclusive.
pub(super) struct Time(pub(super) &'static str, pub(super) &'static str);

impl Rule<Duration> for Time {
    fn allowed(&self) -> String {
        format!(
            "a duration from {} to {}, written as an integer and ms, s, m, h or d",
            self.0, self.1
        )
    }
    fn read(&self, raw: &Raw) -> Option<Duration> {
        let value = parse_duration(raw.text()?)?;
        (parse_duration(self.0)?..=parse_duration(self.1)?)
            .contains(&value)
            .then_some(value)
    }
    fn show(&self, value: &Duration) -> Option<Value> {
        Some(Value::String(duration_text(*value)))
    }
}

const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

fn size_from(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    match SIZE_UNITS.into_iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => number.checked_mul(bytes),
        None => unit.is_empty().then_some(number),
    }
}

fn size_value(bytes: u64) -> Value {
    let unit = SIZE_UNITS
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) => Value::String(format!("{}{name}", bytes / unit)),
        None => Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}

/// A size between two bounds, inclusive.
pub(super) struct Size(pub(super) &'static str, pub(super) &'static str);

impl<T: TryFrom<u64> + TryInto<u64> + Copy> Rule<T> for Size {
    fn allowed(&self) -> String {
        format!(
            "a size from {} to {}, written as \"256KiB\", \"4MiB\", \"1GiB\" or a number of bytes",
            self.0, self.1
        )
    }
    fn read(&self, raw: &Raw) -> Option<T> {
        let bytes = match raw {
            Raw::Toml(Value::Integer(bytes)) => u64::try_from(*bytes).ok()?,
            other => size_from(other.text()?)?,
        };
        let in_range = (size_from(self.0)?..=size_from(self.1)?).contains(&bytes);
        in_range.then(|| T::try_from(bytes).ok()).flatten()
    }
    fn show(&self, value: &T) -> Option<Value> {
        (*value).try_into().ok().map(size_value)
    }
}

/// A whole number between two bounds, inclusive.
pub(super) struct Count(pub(super) u64, pub(super) u64);

impl<T: TryFrom<u64> + TryInto<u64> + Copy> Rule<T> for Count {
    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.0, self.1)
    }
    fn read(&self, raw: &Raw) -> Option<T> {
        let number = match raw {
            Raw::Toml(value) => u64::try_from(value.as_integer()?).ok()?,
            Raw::Text(text) => text.trim().parse().ok()?,
        };
        if (self.0..=self.1).contains(&number) {
            T::try_from(number).ok()
        } else {
            None
        }
    }
    fn show(&self, value: &T) -> Option<Value> {
        let number: u64 = (*value).try_into().ok()?;
        i64::try_from(number).ok().map(Value::Integer)
    }
}

/// A number from 0 to 1.
pub(super) struct Share;

impl Rule<f64> for Share {
    fn allowed(&self) -> String {
        "a number from 0 to 1".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<f64> {
        let number = match raw {
            Raw::Toml(Value::Integer(0)) => 0.0,
            Raw::Toml(Value::Integer(1)) => 1.0,
            Raw::Toml(value) => value.as_float()?,
            Raw::Text(text) => text.trim().parse().ok()?,
        };
        (0.0..=1.0).contains(&number).then_some(number)
    }
    fn show(&self, value: &f64) -> Option<Value> {
        Some(Value::Float(*value))
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Rule<bool> for Switch {
    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<bool> {
        match raw {
            Raw::Toml(value) => value.as_bool(),
            Raw::Text(text) => text.trim().parse().ok(),
        }
    }
    fn show(&self, value: &bool) -> Option<Value> {
        Some(Value::Boolean(*value))
    }
}

/// One of a set of words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Rule<T> for Choice<T> {
    fn allowed(&self) -> String {
        let words: Vec<_> = self
            .0
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        format!("one of {}", words.join(", "))
    }
    fn read(&self, raw: &Raw) -> Option<T> {
        let text = raw.text()?;
        self.0
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
    }
    fn show(&self, value: &T) -> Option<Value> {
        let found = self.0.iter().find(|(_, known)| known == value);
        found.map(|(word, _)| Value::String((*word).to_owned()))
    }
}

/// A list whose entries follow another rule. In the environment and in flags: entries separated by commas, or a TOML
/// array.
pub(super) struct List<R> {
    pub(super) of: R,
    pub(super) min: usize,
    pub(super) max: usize,
}

impl<T, R: Rule<T>> Rule<Vec<T>> for List<R> {
    fn allowed(&self) -> String {
        format!(
            "a list of {} to {} entries, each {}",
            self.min,
            self.max,
            self.of.allowed()
        )
    }
    fn read(&self, raw: &Raw) -> Option<Vec<T>> {
        let entries: Vec<Raw> = match raw {
            Raw::Toml(Value::Array(entries)) => entries.iter().cloned().map(Raw::Toml).collect(),
            Raw::Toml(_) => return None,
            Raw::Text(text) if text.trim().is_empty() => Vec::new(),
            Raw::Text(text) if text.trim_start().starts_with('[') => {
                let mut table: toml::Table = format!("list = {text}").parse().ok()?;
                // A line break in the text could insert a second key.
                match (table.remove("list"), table.is_empty()) {
                    (Some(Value::Array(entries)), true) => {
                        entries.into_iter().map(Raw::Toml).collect()
                    }
                    _ => return None,
                }
            }
            Raw::Text(text) => text
                .split(',')
                .map(|entry| Raw::Text(entry.trim().to_owned()))
                .collect(),
        };
        if !(self.min..=self.max).contains(&entries.len()) {
            return None;
        }
        entries.iter().map(|entry| self.of.read(entry)).collect()
    }
    fn show(&self, value: &Vec<T>) -> Option<Value> {
        value
            .iter()
            .map(|entry| self.of.show(entry))
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }
}

/// A path in UTF-8.
pub(super) struct FilePath;

impl Rule<PathBuf> for FilePath {
    fn allowed(&self) -> String {
        "a path".to_owned()
    }
    fn read(&self, raw: &Raw) -> Option<PathBuf> {
        let text = raw.text()?;
        (!text.is_empty() && text.len() <= 4096 && !text.contains('\0'))
            .then(|| PathBuf::from(text))
    }
    fn show(&self, value: &PathBuf) -> Option<Value> {
        Some(Value::String(value.to_string_lossy().into_owned()))
    }
}

/// The word that disables a listener.
const OFF: &str = "off";

/// A value that may be `"off"`.
pub(super) struct OrOff<R>(pub(super) R);

impl<T, R: Rule<T>> Rule<Option<T>> for OrOff<R> {
    fn allowed(&self) -> String {
        format!("{}, or \"off\"", self.0.allowed())
    }
    fn read(&self, raw: &Raw) -> Option<Option<T>> {
        if raw.text() == Some(OFF) {
            Some(None)
        } else {
            self.0.read(raw).map(Some)
        }
    }
    fn show(&self, value: &Option<T>) -> Option<Value> {
        match value {
            Some(value) => self.0.show(value),
            None => Some(Value::String(OFF.to_owned())),
        }
    }
}

/// A value that is `None` unless it is set.
pub(super) struct Unset<R>(pub(super) R);

impl<T, R: Rule<T>> Rule<Option<T>> for Unset<R> {
    fn allowed(&self) -> String {
        self.0.allowed()
    }
    fn read(&self, raw: &Raw) -> Option<Option<T>> {
        self.0.read(raw).map(Some)
    }
    fn show(&self, value: &Option<T>) -> Option<Value> {
        value.as_ref().and_then(|value| self.0.show(value))
    }
}
