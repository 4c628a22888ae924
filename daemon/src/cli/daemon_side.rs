//! Everything the command line takes from the daemon's own modules: starting it, its configuration, its store at rest, the time.
//!
//! Client commands need none of this but the time; it is kept in one place so that the rest of `cli` knows the API and nothing else.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::screen::Screen;
use super::table::{Cell, Table};
use crate::clock;
use crate::config::{Config, ConfigError};
use stormhook_store::StoreError;

/// Flags that go over file and environment.
#[derive(Debug, Args)]
pub(crate) struct ConfigFlags {
    /// The configuration file [default: stormhook.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store and the token live
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The TCP address for operators, or off
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Any other key of the configuration, as delivery.timeout=15s
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(format!(
            "a setting is written key=value, like delivery.timeout=15s; got {text:?}"
        )),
    }
}

impl ConfigFlags {
    /// Dotted keys with their values, the later one winning.
    fn dotted(&self, socket: Option<&Path>) -> Result<Vec<(String, String)>, Failure> {
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                Failure::Usage(format!(
                    "{} is not UTF-8: give another path",
                    path.display()
                ))
            })
        };
        let mut flags = Vec::new();
        if let Some(folder) = &self.data_dir {
            flags.push(("data_dir".to_owned(), text(folder)?));
        }
        if let Some(socket) = socket {
            flags.push(("socket".to_owned(), text(socket)?));
        }
        if let Some(listen) = &self.listen {
            flags.push(("listen".to_owned(), listen.clone()));
        }
        flags.extend(self.settings.iter().cloned());
        Ok(flags)
    }

    fn load(&self, socket: Option<&Path>) -> Result<Config, Failure> {
        Config::load(
            self.config.as_deref(),
            std::env::vars_os(),
            &self.dotted(socket)?,
        )
        .map_err(|error| refused(&error))
    }
}

fn refused(error: &ConfigError) -> Failure {
    Failure::Usage(error.to_string())
}

/// The wall clock.
pub(crate) fn wall_clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(clock::wall().0)
}

/// Runs the daemon until it is told to stop.
pub(crate) fn serve(flags: &ConfigFlags, socket: Option<&Path>) -> Result<(), Failure> {
    let config = flags.load(socket)?;
    let dotted = flags.dotted(socket)?;
    let reload = || Config::load(flags.config.as_deref(), std::env::vars_os(), &dotted);
    crate::serve::serve(config, reload).map_err(|error| Failure::No(error.to_string()))
}

/// The socket and the data folder that a configuration names.
pub(crate) fn places(file: &Path) -> Result<(Option<PathBuf>, PathBuf), Failure> {
    let config =
        Config::load(Some(file), std::env::vars_os(), &[]).map_err(|error| refused(&error))?;
    Ok((config.socket, config.data_dir))
}

/// Verifies the store of a stopped daemon without writing to it.
pub(crate) fn check_stopped(folder: &Path, screen: &Screen) -> Result<(), Failure> {
    let file = folder.join(crate::serve::STORE_FILE);
    match stormhook_store::check_file(&file) {
        Ok(report) => super::check::tell(&report.damage, screen),
        Err(StoreError::Damaged { what, detail }) => {
            super::check::tell(&[format!("{what}: {detail}")], screen)
        }
        Err(error) => Err(Failure::No(error.to_string())),
    }
}

/// Prints the effective configuration and where each value came from.
pub(crate) fn config(
    flags: &ConfigFlags,
    socket: Option<&Path>,
    screen: &Screen,
) -> Result<(), Failure> {
    let described = flags.load(socket)?.describe();
    if screen.json {
        let values: Vec<_> =
            described.iter().map(|(key, value, origin)| json!({"key": key, "value": value, "origin": origin.to_string()})).collect();
        return screen.line(&serde_json::Value::Array(values).to_string());
    }
    let rows: Vec<Vec<Cell>> = described
        .iter()
        .map(|(key, value, origin)| {
            vec![
                Cell::text(key),
                Cell::text(value),
                Cell::text(&origin.to_string()),
            ]
        })
        .collect();
    screen.line(&Table::new(&["KEY", "VALUE", "FROM"], screen.colour).part(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_dotted_keys_and_settings_come_last() {
        let flags = ConfigFlags {
            config: None,
            data_dir: Some("/d".into()),
            listen: Some("off".into()),
            settings: vec![setting("delivery.timeout = 5s").unwrap()],
        };
        let pairs = flags.dotted(Some(Path::new("/s"))).unwrap();
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
}
