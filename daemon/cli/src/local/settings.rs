//! `stormhook config`: every key with the value in effect and where it came from.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::configuration::{ConfigFlags, FILE_VARIABLE};
use super::secrets::{at_rest_of, in_words};
use crate::failure::Failure;
use crate::table::{Cell, Table};
use crate::terminal::{Screen, Tone};
use stormhook_daemon::config::{Config, DEFAULT_FILE, Origin, reference};

/// One key in effect; without a value it is not set.
struct Setting {
    key: String,
    value: Option<String>,
    source: String,
}

/// Returns every key. The reference page lists them all; a configuration describes those that have a value.
fn settings(config: &Config) -> Vec<Setting> {
    let described = config.describe();
    let reference = reference();
    let keys = reference
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    keys.map(|key| {
        let known = described.iter().find(|(name, _, _)| *name == key);
        Setting {
            key: key.to_owned(),
            value: known.map(|(_, value, _)| value.clone()),
            source: config.origin(key).to_string(),
        }
    })
    .collect()
}

/// Prints the effective configuration and where each value came from.
pub(crate) async fn show(flags: ConfigFlags, screen: Screen) -> Result<(), Failure> {
    let (config, _) = flags.load()?;
    let settings = settings(&config);
    let file = flags
        .file()
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()));
    let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
    let at_rest = at_rest_of(&config).await;
    if screen.json {
        let mut json = as_json(&settings, file.as_deref());
        json["secretsKeyId"] = json!(
            at_rest
                .and_then(|at_rest| at_rest.form.key())
                .map(|id| id.to_string())
        );
        return screen.line(&json.to_string());
    }
    screen.line(&match &file {
        Some(file) => format!("Read {}.\n", file.display()),
        None => format!(
            "No file was read: {DEFAULT_FILE} doesn't exist here, and neither --config nor {FILE_VARIABLE} names a file.\n"
        ),
    })?;
    screen.line(&as_table(&settings, screen.colour))?;
    if let Some(at_rest) = at_rest {
        screen.line(&format!("\n{}.", in_words(at_rest)))?;
    }
    Ok(())
}

fn as_json(settings: &[Setting], file: Option<&Path>) -> Value {
    let values: serde_json::Map<String, Value> = settings
        .iter()
        .map(|setting| {
            let value = setting.value.as_deref().map_or(Value::Null, json_of);
            let row = json!({"value": value, "source": setting.source});
            (setting.key.clone(), row)
        })
        .collect();
    json!({"file": file.map(|file| file.display().to_string()), "settings": values})
}

/// Returns a TOML value as equivalent JSON.
fn json_of(toml: &str) -> Value {
    let table: Option<toml::Table> = toml::from_str(&format!("value = {toml}")).ok();
    table
        .and_then(|table| serde_json::to_value(table.get("value")?).ok())
        .unwrap_or_else(|| Value::String(toml.to_owned()))
}

/// The values come last: they may be long, and none is cut.
fn as_table(settings: &[Setting], colour: bool) -> String {
    let rows: Vec<Vec<Cell>> = settings
        .iter()
        .map(|setting| {
            let source = Cell::text(&setting.source);
            let is_default = setting.source == Origin::Default.to_string();
            vec![
                Cell::text(&setting.key),
                if is_default {
                    source.tone(Tone::Dim)
                } else {
                    source
                },
                match &setting.value {
                    Some(value) => Cell::text(value),
                    None => Cell::toned(Tone::Dim, "not set"),
                },
            ]
        })
        .collect();
    Table::new(&["KEY", "SOURCE", "VALUE"], colour).part(&rows)
}

#[cfg(test)]
mod tests {
    use super::super::configuration::tests::config;
    use super::*;

    #[test]
    fn json_has_real_values_the_unset_keys_and_the_file() {
        let config = config(
            "retry.jitter = 0.5",
            &[("STORMHOOK_HOST_NAMES", "a.b,c.d")],
            &[("delivery.timeout", "5s")],
        )
        .unwrap();
        let json = as_json(&settings(&config), Some(Path::new("/x/stormhook.toml")));
        assert_eq!(json["file"], "/x/stormhook.toml");
        for (key, value, source) in [
            ("retry.jitter", json!(0.5), "stormhook.toml:1"),
            ("host_names", json!(["a.b", "c.d"]), "$STORMHOOK_HOST_NAMES"),
            ("delivery.timeout", json!("5s"), "command line"),
            ("delivery.max_in_flight", json!(512), "default"),
            ("target.allow_http", json!(false), "default"),
            ("tls.key", Value::Null, "default"),
        ] {
            let expected = json!({"value": value, "source": source});
            assert_eq!(json["settings"][key], expected, "{key}");
        }
    }

    #[test]
    fn the_table_has_every_key_and_cuts_no_value() {
        let long = vec!["\"a-host-name-of-some-length.example.com\""; 20].join(", ");
        let config = config(&format!("host_names = [{long}]"), &[], &[]).unwrap();
        let text = as_table(&settings(&config), false);
        assert!(text.contains(&long), "{text}");
        for key in ["tls.certificate", "tls.key"] {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            assert!(line.ends_with("not set"), "{line}");
        }
    }
}
