//! Generates `docs/configuration.md` from the table of keys, so that the page can't contradict the program.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Config;
use super::key::KEYS;

const HEAD: &str = "\
# Configuration

The file (`stormhook.toml`, or the one given with `--config`) overrides the built-in values, environment variables override
the file, and flags override both. `stormhook config` prints each value in effect and where it came from. An unknown key is
an error, in the file and in the environment.

A duration is an integer followed by `ms`, `s`, `m`, `h` or `d`. A size is a number of bytes, or an integer followed by `KiB`,
`MiB` or `GiB`. In the environment, a list is written as entries separated by commas, or as a TOML array.

A key marked *reload* takes a new value on SIGHUP. The others need a restart; the log names those that changed but were not applied.
`STORMHOOK_CONFIG`, `STORMHOOK_SECRET`, `STORMHOOK_SERVER`, `STORMHOOK_TOKEN_FILE` and `STORMHOOK_CA_FILE` belong to the command line; they are not configuration keys.
Variables that Kubernetes sets for a Service whose name begins with `stormhook` (`STORMHOOK_PORT=tcp://…`, `STORMHOOK_SERVICE_HOST`) are ignored.
";

/// Returns the reference page, in Markdown.
#[must_use]
pub fn reference() -> String {
    let config = Config::builtin(PathBuf::new());
    let mut page = HEAD.to_owned();
    for key in KEYS {
        let default = match key.name {
            "data_dir" => "`$STATE_DIRECTORY`, else `$XDG_STATE_HOME/stormhook`, else `~/.local/state/stormhook`".to_owned(),
            "socket" => "`$RUNTIME_DIRECTORY/stormhook.sock`, else `stormhook.sock` in the data directory".to_owned(),
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
