//! The settings of an endpoint as options: parsing, sending and showing the rows of `crate::settings`.

use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::input;
use crate::settings::{Kind, SETTINGS, Setting};
use crate::table::Cell;

/// 50 headers of 4 KiB each (the API's limit), with room for names.
const HEADERS_FILE_BYTES: u64 = 256 * 1024;

impl Setting {
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.flag)
            .long(self.flag)
            .value_name(self.typed)
            .help(self.help);
        match self.kind {
            Kind::Text => arg.value_parser(typed(|text| Ok(text.into()))),
            Kind::Number => arg.value_parser(typed(|text| {
                let number = text.parse::<serde_json::Number>();
                number.map(Value::Number).map_err(|e| e.to_string())
            })),
            Kind::Word(words) => {
                arg.value_parser(PossibleValuesParser::new(words).map(Value::String))
            }
            Kind::HeadersFile => arg
                .value_parser(typed(|file| Ok(file.into())))
                .value_hint(ValueHint::AnyPath),
        }
    }

    /// Returns the API's value for what was typed.
    fn value(&self, typed: &Value) -> Result<Value, Failure> {
        match (&self.kind, typed) {
            (Kind::HeadersFile, Value::String(file)) => {
                headers_in(Path::new(file)).map(Value::Object)
            }
            _ => Ok(typed.clone()),
        }
    }

    /// Returns the setting of an endpoint with its label; `None` if there is nothing to show.
    pub(super) fn shown(&self, endpoint: &Value) -> Option<(&'static str, Cell)> {
        let cell = match self.kind {
            Kind::HeadersFile => {
                let headers = endpoint.get(self.key).and_then(Value::as_object);
                let names = headers.map(|headers| headers.keys().cloned().collect::<Vec<_>>());
                let names = names.filter(|names| !names.is_empty());
                let shown =
                    names.map(|names| format!("{} (values are not shown)", names.join(", ")));
                Cell::text(shown.as_deref().unwrap_or("-"))
            }
            _ => Cell::of(endpoint, self.key),
        };
        let is_set = endpoint.get(self.key).is_some_and(|value| !value.is_null());
        (self.always_shown || is_set).then_some((self.label, cell))
    }
}

fn typed(
    read: impl Fn(&str) -> Result<Value, String> + Clone + Send + Sync + 'static,
) -> ValueParser {
    ValueParser::new(move |text: &str| read(text))
}

/// The settings that were typed.
#[derive(Debug)]
pub(crate) struct Settings(Vec<Option<Value>>);

impl Settings {
    /// Adds them to a body for the API.
    pub(super) fn put(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        for (setting, typed) in SETTINGS.iter().zip(&self.0) {
            if let Some(typed) = typed {
                body.insert(setting.key.to_owned(), setting.value(typed)?);
            }
        }
        Ok(())
    }

    /// Adds null for what is to be cleared, by its name for `--clear`. A setting can't be both set and cleared.
    pub(super) fn clear(
        &self,
        names: &[String],
        body: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        for (setting, typed) in SETTINGS.iter().zip(&self.0) {
            let is_named = |name: &String| setting.clear == Some(name.as_str());
            if !names.iter().any(is_named) {
                continue;
            }
            if typed.is_some() {
                return Err(Failure::Usage(format!(
                    "{} is both set and cleared: omit one of the two",
                    setting.key
                )));
            }
            body.insert(setting.key.to_owned(), Value::Null);
        }
        Ok(())
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = SETTINGS.iter().map(|setting| {
            let typed = matches.try_get_one::<Value>(setting.flag);
            typed.map(Option::<&Value>::cloned)
        });
        let all: Result<_, _> = typed.collect();
        all.map(Self)
            .map_err(|error| clap::Error::raw(ErrorKind::InvalidValue, error))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(Setting::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Returns the possible values of `--clear`.
pub(super) fn clearable() -> PossibleValuesParser {
    let of_settings = SETTINGS.iter().filter_map(|setting| setting.clear);
    PossibleValuesParser::new(of_settings.chain([super::tls::TLS]))
}

/// Returns the headers in a file.
fn headers_in(file: &Path) -> Result<Map<String, Value>, Failure> {
    let bytes = input::read_bounded(file, HEADERS_FILE_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::Usage(format!("{} is not text", file.display())))?;
    let mut headers = Map::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        // The line itself is not shown: it may hold a secret.
        let (name, value) = input::header(line).map_err(|_| {
            Failure::Usage(format!(
                "{} line {}: a header has the form 'name: value'",
                file.display(),
                number + 1
            ))
        })?;
        if headers
            .insert(name.to_ascii_lowercase(), Value::String(value))
            .is_some()
        {
            return Err(Failure::Usage(format!(
                "{} line {}: this header is set twice",
                file.display(),
                number + 1
            )));
        }
    }
    Ok(headers)
}
