//! Where a client finds the daemon's Unix socket.
//!
//! If a socket is named (`--socket`, `STORMHOOK_SOCKET`), only that one is tried: falling back to another could reach
//! the wrong daemon. Otherwise the usual places are tried in order.

use std::path::{Path, PathBuf};
use stormhook_daemon::config::SOCKET_FILE;

/// What the process knows about where things are.
#[derive(Debug, Default, Clone)]
pub(crate) struct Surroundings {
    /// `--socket`
    pub(crate) flag: Option<PathBuf>,
    /// `STORMHOOK_SOCKET`
    pub(crate) variable: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY`, one directory or several separated by `:` (systemd.exec(5))
    pub(crate) runtime_directory: Option<String>,
    /// `STORMHOOK_DATA_DIR`
    pub(crate) data_dir: Option<PathBuf>,
    /// `STATE_DIRECTORY`, in the same form
    pub(crate) state_directory: Option<String>,
    /// `XDG_STATE_HOME`
    pub(crate) xdg_state_home: Option<PathBuf>,
    /// `HOME`
    pub(crate) home: Option<PathBuf>,
}

impl Surroundings {
    /// Reads the environment; an empty variable counts as unset.
    pub(crate) fn of_process(flag: Option<PathBuf>) -> Self {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            flag,
            // In the daemon's configuration "off" disables the socket; it is not a path.
            variable: path("STORMHOOK_SOCKET").filter(|value| value != Path::new("off")),
            runtime_directory: text("RUNTIME_DIRECTORY"),
            data_dir: path("STORMHOOK_DATA_DIR"),
            state_directory: text("STATE_DIRECTORY"),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
        }
    }

    /// Returns the sockets to try, in order.
    pub(crate) fn candidates(&self) -> Vec<PathBuf> {
        if let Some(named) = self.flag.as_ref().or(self.variable.as_ref()) {
            return vec![named.clone()];
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        folders.extend(self.runtime_directory.as_deref().and_then(first_folder));
        folders.push(PathBuf::from("/run/stormhook"));
        folders.extend(self.data_folder());
        let mut sockets: Vec<PathBuf> = Vec::new();
        for folder in folders {
            let socket = folder.join(SOCKET_FILE);
            if !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
        sockets
    }

    /// Returns the data directory that the daemon would choose in the same environment.
    pub(crate) fn data_folder(&self) -> Option<PathBuf> {
        self.data_dir
            .clone()
            .or_else(|| self.state_directory.as_deref().and_then(first_folder))
            .or_else(|| {
                self.xdg_state_home
                    .as_ref()
                    .map(|folder| folder.join("stormhook"))
            })
            .or_else(|| {
                self.home
                    .as_ref()
                    .map(|home| home.join(".local/state/stormhook"))
            })
    }
}

fn first_folder(list: &str) -> Option<PathBuf> {
    list.split(':')
        .find(|folder| !folder.is_empty())
        .map(PathBuf::from)
}

/// Says that no daemon answered: what was tried, why each failed, and how to start one.
pub(crate) fn unreachable(tried: &[(PathBuf, String)]) -> String {
    if tried.is_empty() {
        return "no daemon is reachable: the configuration disables its socket".to_owned();
    }
    let mut text = String::from("no daemon is reachable. Tried:\n");
    for (path, why) in tried {
        text.push_str(&format!(
            "  {}: {why}\n",
            crate::terminal::plain(&path.display().to_string())
        ));
    }
    text.push_str("Start it with `stormhook serve`, or set its socket with --socket PATH or STORMHOOK_SOCKET.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Surroundings {
        Surroundings {
            flag: Some("/flag.sock".into()),
            variable: Some("/variable.sock".into()),
            runtime_directory: Some("/run/one:/run/two".into()),
            data_dir: None,
            state_directory: Some("/var/lib/stormhook".into()),
            xdg_state_home: Some("/home/u/.state".into()),
            home: Some("/home/u".into()),
        }
    }

    fn paths(surroundings: &Surroundings) -> Vec<String> {
        surroundings
            .candidates()
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn a_named_socket_is_the_only_one_tried() {
        let mut all = everything();
        assert_eq!(paths(&all), ["/flag.sock"]);
        all.flag = None;
        assert_eq!(paths(&all), ["/variable.sock"]);
    }

    #[test]
    fn without_a_name_the_usual_places_are_tried_in_order() {
        let mut all = everything();
        all.flag = None;
        all.variable = None;
        assert_eq!(
            paths(&all),
            [
                "/run/one/stormhook.sock",
                "/run/stormhook/stormhook.sock",
                "/var/lib/stormhook/stormhook.sock"
            ]
        );
    }

    #[test]
    fn the_data_folder_is_found_as_the_daemon_finds_it() {
        let mut all = everything();
        all.data_dir = Some("/srv/hooks".into());
        assert_eq!(all.data_folder(), Some("/srv/hooks".into()));
        all.data_dir = None;
        assert_eq!(all.data_folder(), Some("/var/lib/stormhook".into()));
        all.state_directory = None;
        assert_eq!(all.data_folder(), Some("/home/u/.state/stormhook".into()));
        all.xdg_state_home = None;
        assert_eq!(
            all.data_folder(),
            Some("/home/u/.local/state/stormhook".into())
        );
        all.home = None;
        assert_eq!(all.data_folder(), None);
    }

    #[test]
    fn the_runtime_folder_of_the_service_is_not_tried_twice() {
        let surroundings = Surroundings {
            runtime_directory: Some("/run/stormhook".into()),
            ..Surroundings::default()
        };
        assert_eq!(paths(&surroundings), ["/run/stormhook/stormhook.sock"]);
    }

    #[test]
    fn the_error_names_what_was_tried_and_how_to_start() {
        let text = unreachable(&[
            ("/a.sock".into(), "no such file".into()),
            ("/b.sock".into(), "refused".into()),
        ]);
        assert!(
            text.contains("/a.sock: no such file") && text.contains("/b.sock: refused"),
            "{text}"
        );
        assert!(
            text.contains("stormhook serve") && text.contains("--socket"),
            "{text}"
        );
    }
}
