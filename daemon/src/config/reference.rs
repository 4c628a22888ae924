//! Writes `docs/configuration.md` from the table of keys, so that the page can't say anything else than the program does.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Config;
use super::key::KEYS;

const HEAD: &str = "\
# Configuration

Built-in values are overridden by the file (`stormhook.toml`, or the one given with `--config`), the file by environment
variables, and those by flags. `stormhook config` prints what is in effect and where each value came from. A key that
doesn't exist is an error, in the file and in the environment.

Durations are an integer and `ms`, `s`, `m`, `h` or `d`. Sizes are a number of bytes or an integer and `KiB`, `MiB` or
`GiB`. In the environment a list is written with commas between its entries, or as a TOML array.

A key marked *reload* takes a new value on SIGHUP; the others need a restart, and the log says which were left as they were.
`STORMHOOK_SECRET` and `STORMHOOK_CONFIG` belong to the command line and are no keys.
What Kubernetes sets for a Service whose name begins with `stormhook` (`STORMHOOK_PORT=tcp://…`, `STORMHOOK_SERVICE_HOST`) is passed over.
";

/// The reference page, in Markdown.
#[must_use]
pub fn reference() -> String {
    let config = Config::builtin(PathBuf::new());
    let mut page = HEAD.to_owned();
    for key in KEYS {
        let default = match key.name {
            "data_dir" => "`$STATE_DIRECTORY`, else `$XDG_STATE_HOME/stormhook`, else `~/.local/state/stormhook`".to_owned(),
            "socket" => "`$RUNTIME_DIRECTORY/stormhook.sock`, else `stormhook.sock` in the data folder".to_owned(),
            _ => (key.show)(&config).map_or_else(|| "not set".to_owned(), |value| format!("`{value}`")),
        };
        let reload = if key.reload { " · *reload*" } else { "" };
        // Writing to a String can't fail.
        let _ = write!(
            page,
            "\n## `{}`\n\n{}\n\n- default: {default}{reload}\n- must be {}\n- variable: `{}`\n",
            key.name,
            key.purpose,
            (key.allowed)(),
            key.variable(),
        );
    }
    page
}
