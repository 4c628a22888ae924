//! Collects what the sources set for each key, before any value is read: file, then environment, then flags; later
//! sources win. An unknown key is a problem that suggests the nearest known key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::{ConfigError, Origin, Problem};
use super::key::{self, KEYS};
use super::rule::Raw;

/// Every key that was set, with its raw value.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    pub(super) values: BTreeMap<&'static str, (Raw, Origin)>,
    pub(super) problems: Vec<Problem>,
}

const PREFIX: &str = "STORMHOOK_";

/// Variables with the prefix that only the command line uses.
const OTHER_VARIABLES: [&str; 5] = [
    "STORMHOOK_SECRET",
    "STORMHOOK_CONFIG",
    "STORMHOOK_SERVER",
    "STORMHOOK_TOKEN_FILE",
    "STORMHOOK_CA_FILE",
];

impl RawConfig {
    /// Adds the values in a file.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            detail: error.message().to_owned(),
        })?;
        self.add_table(path, text, "", root.into_inner());
        Ok(())
    }

    fn add_table(&mut self, path: &Path, text: &str, section: &str, table: DeTable<'_>) {
        for (name, value) in table {
            let origin = Origin::File {
                path: path.to_owned(),
                line: line_of(text, name.span().start),
            };
            let dotted = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            if let Some(key) = key::find(&dotted) {
                match owned(value) {
                    Ok(value) => drop(self.values.insert(key.name, (Raw::Toml(value), origin))),
                    Err(detail) => self.problems.push(Problem {
                        detail: format!("{dotted}: {detail}"),
                        key: dotted,
                        origin,
                    }),
                }
            } else if is_section(&dotted) {
                let line = origin;
                match value.into_inner() {
                    DeValue::Table(inner) => self.add_table(path, text, &dotted, inner),
                    _ => self.problems.push(Problem {
                        detail: format!(
                            "{dotted} is a section: write [{dotted}] and its keys below it"
                        ),
                        key: dotted,
                        origin: line,
                    }),
                }
            } else {
                let sections = KEYS
                    .iter()
                    .filter_map(|key| key.name.split_once('.').map(|(section, _)| section));
                let known = KEYS.iter().map(|key| key.name).chain(sections);
                let detail = unknown("key", &dotted, known);
                self.problems.push(Problem {
                    key: dotted,
                    origin,
                    detail,
                });
            }
        }
    }

    /// Adds the values of `STORMHOOK_…` variables; ignores all others.
    pub(super) fn add_environment(&mut self, environment: &[(OsString, OsString)]) {
        for (name, value) in environment {
            // A variable whose name is not UTF-8 may still be a misspelled one of ours.
            let name = name.to_string_lossy();
            if !name.starts_with(PREFIX) || OTHER_VARIABLES.contains(&name.as_ref()) {
                continue;
            }
            let origin = Origin::Variable(name.to_string());
            let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
                if is_service_link(&name, value) {
                    continue;
                }
                let known: Vec<String> = KEYS.iter().map(key::Key::variable).collect();
                let detail = unknown("variable", &name, known.iter().map(String::as_str));
                self.problems.push(Problem {
                    key: name.to_string(),
                    origin,
                    detail,
                });
                continue;
            };
            match value.to_str() {
                Some(text) => drop(
                    self.values
                        .insert(key.name, (Raw::Text(text.to_owned()), origin)),
                ),
                None => self.problems.push(Problem {
                    key: key.name.to_owned(),
                    origin,
                    detail: format!("the value of {name} is not UTF-8; set it to UTF-8 text"),
                }),
            }
        }
    }

    /// Adds the values of the command line: dotted keys and values.
    pub(super) fn add_flags(&mut self, flags: &[(String, String)]) {
        for (name, value) in flags {
            match key::find(name) {
                Some(key) => drop(
                    self.values
                        .insert(key.name, (Raw::Text(value.clone()), Origin::Flag)),
                ),
                None => self.problems.push(Problem {
                    key: name.clone(),
                    origin: Origin::Flag,
                    detail: unknown("key", name, KEYS.iter().map(|key| key.name)),
                }),
            }
        }
    }
}

/// Returns the variables that Kubernetes sets for a Service whose name begins with `stormhook`, which are ignored.
pub(crate) fn service_links(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let known = |name: &str| KEYS.iter().any(|key| key.variable() == name);
    let mut links: Vec<String> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| !known(name) && is_service_link(name, value))
        .map(|(name, _)| name)
        .collect();
    links.sort_unstable();
    links
}

/// Whether name and value have the form of what Kubernetes sets for each Service ("Accessing the Service" in its
/// documentation, and earlier Docker's links): `X_SERVICE_HOST`, `X_SERVICE_PORT[_NAME]`, `X_PORT`,
/// `X_PORT_8650_TCP[_PROTO|_PORT|_ADDR]`. The value must match too: `STORMHOOK_PORT=8650` is meant for stormhook.
fn is_service_link(name: &str, value: &OsString) -> bool {
    let (Some(name), Some(value)) = (name.strip_prefix(PREFIX), value.to_str()) else {
        return false;
    };
    // The Service is `stormhook`, or its name continues.
    let after = |part: &str| {
        name.strip_prefix(part)
            .or_else(|| name.split_once(&format!("_{part}")).map(|(_, rest)| rest))
    };
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_address = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    let is_url = |text: &str| {
        let protocols = ["tcp://", "udp://", "sctp://"];
        protocols.iter().any(|it| text.starts_with(it))
    };
    if let Some(rest) = after("SERVICE_") {
        return match rest {
            "HOST" => is_address(value),
            "PORT" => is_port(value),
            named => named.starts_with("PORT_") && is_port(value),
        };
    }
    let Some(rest) = after("PORT") else {
        return false;
    };
    if rest.is_empty() {
        return is_url(value);
    }
    let mut parts = rest.split('_').skip(1);
    let (port, protocol, what) = (parts.next(), parts.next(), parts.next());
    let fits = match what {
        None => is_url(value),
        Some("PROTO") => matches!(value, "tcp" | "udp" | "sctp"),
        Some("PORT") => is_port(value),
        Some("ADDR") => is_address(value),
        Some(_) => false,
    };
    fits && port.is_some_and(is_port)
        && matches!(protocol, Some("TCP" | "UDP" | "SCTP"))
        && parts.next().is_none()
}

fn is_section(dotted: &str) -> bool {
    KEYS.iter().any(|key| {
        key.name
            .split_once('.')
            .is_some_and(|(section, _)| section == dotted)
    })
}

fn owned(value: Spanned<DeValue<'_>>) -> Result<Value, String> {
    Value::deserialize(ValueDeserializer::from(value)).map_err(|error| error.message().to_owned())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let shown: String = name.chars().take(100).collect();
    let last = |dotted: &str| dotted.rsplit('.').next().unwrap_or_default().to_owned();
    // A correct name in the wrong section is nearer than any spelling.
    let closeness = |candidate: &str| {
        let same_name = last(candidate) == last(&shown);
        strsim::jaro_winkler(&shown, candidate) + if same_name { 1.0 } else { 0.0 }
    };
    let nearest = known.max_by(|a, b| closeness(a).total_cmp(&closeness(b)));
    match nearest {
        Some(nearest) => format!("unknown {what} {shown:?}; the nearest known one is {nearest:?}"),
        None => format!("unknown {what} {shown:?}"),
    }
}
