//! Reads the configuration for the commands that need it: the flags, the named file, and errors by key and place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::database::Database;
use super::secrets::keys_of;
use crate::failure::Failure;
use stormhook_daemon::config::{Config, ConfigError, Origin, Problem};
use stormhook_store::Keys;

/// The variable that names the configuration file if no flag does.
pub(super) const FILE_VARIABLE: &str = "STORMHOOK_CONFIG";

/// Flags that say where things are.
#[derive(Debug, Default, Args)]
pub(crate) struct PlaceFlags {
    /// The configuration file [default: $STORMHOOK_CONFIG, then stormhook.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The directory of the store and the admin token
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Flags that override file and environment.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigFlags {
    #[command(flatten)]
    places: PlaceFlags,
    /// The Unix socket to listen on, or off
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The TCP address for operators, or off
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Any other configuration key, such as delivery.timeout=15s
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!(
            "a setting has the form key=value, such as delivery.timeout=15s; got {text:?}"
        )),
    }
}

/// The configuration file that was named, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    path: PathBuf,
    by: &'static str,
}

impl Named {
    /// The flag overrides the variable; an empty variable names nothing.
    fn of(flag: Option<&Path>, variable: Option<OsString>) -> Option<Self> {
        let by_flag = flag.map(|path| Self {
            path: path.to_owned(),
            by: "--config",
        });
        by_flag.or_else(|| {
            let path = variable.filter(|value| !value.is_empty())?;
            Some(Self {
                path: path.into(),
                by: FILE_VARIABLE,
            })
        })
    }
}

/// Where things are according to the configuration.
#[derive(Debug)]
pub(crate) struct Places {
    /// The directory of the store.
    pub(crate) data_dir: PathBuf,
    /// The socket, if it is configured; an empty list if it is disabled; `None` if it is in its usual place.
    pub(crate) sockets: Option<Vec<PathBuf>>,
    /// The database that holds the store instead of a file.
    pub(crate) database: Option<Database>,
}

impl PlaceFlags {
    fn named(&self) -> Option<Named> {
        Named::of(self.config.as_deref(), std::env::var_os(FILE_VARIABLE))
    }

    /// Whether a configuration file was named.
    pub(crate) fn names_a_file(&self) -> bool {
        self.named().is_some()
    }

    /// Returns the places in the configuration.
    pub(crate) fn load(&self, socket: Option<&Path>) -> Result<Places, Failure> {
        let config = load(self.named().as_ref(), &self.dotted(socket)?)?;
        let is_named = match config.origin("socket") {
            Origin::Default => false,
            // Otherwise it is the directory from a variable, which is one of the usual places.
            Origin::Variable(name) => name == "STORMHOOK_SOCKET",
            Origin::File { .. } | Origin::Flag => true,
        };
        Ok(Places {
            database: Database::in_config(&config)?,
            sockets: is_named.then(|| config.socket.into_iter().collect()),
            data_dir: config.data_dir,
        })
    }

    /// Reads the keys of secrets that the configuration names.
    pub(crate) fn keys(&self) -> Result<Arc<Keys>, Failure> {
        keys_of(&load(self.named().as_ref(), &self.dotted(None)?)?)
    }

    fn dotted(&self, socket: Option<&Path>) -> Result<Vec<(String, String)>, Failure> {
        let places = [("data_dir", self.data_dir.as_deref()), ("socket", socket)];
        places
            .into_iter()
            .filter_map(|(key, path)| Some((key, path?)))
            .map(|(key, path)| match path.to_str() {
                Some(text) => Ok((key.to_owned(), text.to_owned())),
                None => Err(Failure::Usage(format!(
                    "{} is not UTF-8: use another path",
                    path.display()
                ))),
            })
            .collect()
    }
}

impl ConfigFlags {
    /// Returns dotted keys with their values; the last one wins.
    fn dotted(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut flags = self.places.dotted(self.socket.as_deref())?;
        if let Some(listen) = &self.listen {
            flags.push(("listen".to_owned(), listen.clone()));
        }
        flags.extend(self.settings.iter().cloned());
        Ok(flags)
    }

    /// Returns the configuration file that was named.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.places.named().map(|named| named.path)
    }

    /// Reads the keys of secrets that the configuration names.
    pub(crate) fn keys(&self) -> Result<Arc<Keys>, Failure> {
        keys_of(&self.load()?.0)
    }

    /// Returns the configuration, and how to read it again.
    pub(super) fn load(
        &self,
    ) -> Result<(Config, impl Fn() -> Result<Config, ConfigError> + use<>), Failure> {
        let flags = self.dotted()?;
        let named = self.places.named();
        let config = load(named.as_ref(), &flags)?;
        let file = named.map(|named| named.path);
        let again = move || Config::load(file.as_deref(), std::env::vars_os(), &flags);
        Ok((config, again))
    }
}

fn load(named: Option<&Named>, flags: &[(String, String)]) -> Result<Config, Failure> {
    let file = named.map(|named| named.path.as_path());
    Config::load(file, std::env::vars_os(), flags)
        .map_err(|error| Failure::Usage(refusal(&error, named)))
}

/// Words the errors of the configuration: each problem with its key, its place, and what to do.
fn refusal(error: &ConfigError, named: Option<&Named>) -> String {
    match (error, named) {
        (ConfigError::Unreadable { path, source }, Some(named)) => format!(
            "can't read the configuration file {}, which {} names: {source}",
            path.display(),
            named.by
        ),
        (ConfigError::Invalid(problems), _) => match problems.as_slice() {
            [problem] => in_words(problem),
            several => {
                let lines: Vec<String> = several.iter().map(in_words).collect();
                format!(
                    "the configuration has {} problems:\n  {}",
                    lines.len(),
                    lines.join("\n  ")
                )
            }
        },
        _ => error.to_string(),
    }
}

fn in_words(problem: &Problem) -> String {
    let Problem {
        key,
        origin,
        detail,
    } = problem;
    let place = match origin {
        Origin::Default => String::new(),
        Origin::File { path, line } => format!(" ({} line {line})", path.display()),
        Origin::Variable(name) if name == key => " (environment)".to_owned(),
        Origin::Variable(name) => format!(" (environment, {name})"),
        Origin::Flag => " (command line)".to_owned(),
    };
    // The key has been printed already.
    let detail = detail
        .strip_prefix(key.as_str())
        .filter(|rest| rest.starts_with([' ', ':']))
        .map_or(detail.as_str(), |rest| rest.trim_start_matches([' ', ':']));
    format!("{key}{place}: {detail}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A configuration of these sources.
    pub(in super::super) fn config(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let environment = [("HOME", "/home/storm")];
        let environment = environment.iter().chain(variables);
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Config::from_sources(
            Some((Path::new("stormhook.toml"), file)),
            environment.map(|(name, value)| (OsString::from(name), OsString::from(value))),
            &flags,
        )
    }

    #[test]
    fn flags_become_dotted_keys_and_settings_come_last() {
        let flags = ConfigFlags {
            places: PlaceFlags {
                config: None,
                data_dir: Some("/d".into()),
            },
            socket: Some("/s".into()),
            listen: Some("off".into()),
            settings: vec![setting("delivery.timeout = 5s").unwrap()],
        };
        let pairs = flags.dotted().unwrap();
        let expected = [
            ("data_dir", "/d"),
            ("socket", "/s"),
            ("listen", "off"),
            ("delivery.timeout", "5s"),
        ];
        assert_eq!(
            pairs,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert!(setting("nothing").is_err() && setting("=x").is_err());
    }

    #[test]
    fn the_variable_names_the_file_where_no_flag_does() {
        let by = |flag: Option<&str>, variable: Option<&str>| {
            Named::of(flag.map(Path::new), variable.map(OsString::from))
                .map(|named| (named.path.display().to_string(), named.by))
        };
        assert_eq!(by(Some("/f"), Some("/v")), Some(("/f".into(), "--config")));
        assert_eq!(by(None, Some("/v")), Some(("/v".into(), FILE_VARIABLE)));
        assert_eq!(by(None, Some("")), None);
        let missing = Named::of(None, Some("/nowhere/x.toml".into()));
        let failure = load(missing.as_ref(), &[]).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(
            failure
                .to_string()
                .contains("/nowhere/x.toml, which STORMHOOK_CONFIG names"),
            "{failure}"
        );
    }

    #[test]
    fn a_problem_names_its_key_and_where_it_stood() {
        let told = |file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]| {
            refusal(&config(file, variables, flags).unwrap_err(), None)
        };
        assert!(
            told("[delivery]\ntimeout = 5", &[], &[])
                .starts_with("delivery.timeout (stormhook.toml line 2): must be a duration")
        );
        assert!(
            told("", &[("STORMHOOK_LISTEN", "x")], &[])
                .starts_with("listen (environment, STORMHOOK_LISTEN): must be")
        );
        assert!(
            told("", &[("STORMHOOK_LISTN", "x")], &[])
                .starts_with("STORMHOOK_LISTN (environment): unknown variable")
        );
        assert!(
            told("", &[], &[("retry.jitter", "2")])
                .starts_with("retry.jitter (command line): must be")
        );
        let both = told("listn = 1", &[], &[("retry.jitter", "2")]);
        assert!(
            both.starts_with(
                "the configuration has 2 problems:\n  listn (stormhook.toml line 1): unknown key"
            ),
            "{both}"
        );
    }
}
