//! Where a client finds the daemon: at a Unix socket, or elsewhere if a URL is named.
//!
//! If a socket is named (`--socket`, `STORMHOOK_SOCKET`), only that one is tried: falling back to another could reach
//! the wrong daemon. Otherwise the usual places are tried in order.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stormhook_daemon::config::SOCKET_FILE;
use tokio::net::UnixStream;

use crate::failure::Failure;
use crate::options::DaemonOptions;
use crate::remote::Named;

/// How long the socket may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the process knows about where things are.
#[derive(Debug, Default, Clone)]
pub(crate) struct Surroundings {
    /// `--socket`
    pub(crate) flag: Option<PathBuf>,
    /// `--server` or `STORMHOOK_SERVER`, with what belongs to it.
    pub(crate) server: Option<Named>,
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
    pub(crate) fn of_process(options: DaemonOptions) -> Self {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let by_flag = options.server.is_some();
        let server = options.server.or_else(|| text("STORMHOOK_SERVER"));
        Self {
            flag: options.socket,
            server: server.map(|url| Named {
                url,
                by_flag,
                token_file: options.token_file.or_else(|| path("STORMHOOK_TOKEN_FILE")),
                ca_file: options.ca_file.or_else(|| path("STORMHOOK_CA_FILE")),
            }),
            // In the daemon's configuration "off" disables the socket; it is not a path.
            variable: path("STORMHOOK_SOCKET").filter(|value| value != Path::new("off")),
            runtime_directory: text("RUNTIME_DIRECTORY"),
            data_dir: path("STORMHOOK_DATA_DIR"),
            state_directory: text("STATE_DIRECTORY"),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
        }
    }

    /// Returns the daemon elsewhere that is meant, if one is: a flag overrides the variables.
    pub(crate) fn elsewhere(&self) -> Result<Option<&Named>, Failure> {
        match (&self.server, &self.flag, &self.variable) {
            (Some(named), None, Some(socket)) if !named.by_flag => Err(Failure::Usage(format!(
                "STORMHOOK_SERVER names the daemon at {} and STORMHOOK_SOCKET the one at {}: unset one of them, or choose with --server or --socket",
                named.url,
                socket.display()
            ))),
            (Some(named), None, _) => Ok(Some(named)),
            _ => Ok(None),
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

/// Connects to a socket.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(path))
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the connection was not accepted within 5 s",
            ))
        })
}

/// Says why a socket could not be connected to.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => {
            "the socket exists, but nothing listens on it".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: join its group, or run as its user".to_owned()
        }
        io::ErrorKind::InvalidInput => {
            "longer than the maximum for a socket path (107 bytes)".to_owned()
        }
        _ => error.to_string(),
    }
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
    text.push_str("Start it with `stormhook serve`, or name its socket with --socket PATH or STORMHOOK_SOCKET, or another machine's daemon with --server URL.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Surroundings {
        Surroundings {
            flag: Some("/flag.sock".into()),
            server: None,
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

    fn named(by_flag: bool) -> Named {
        Named {
            url: "https://hooks.example".to_owned(),
            by_flag,
            token_file: None,
            ca_file: None,
        }
    }

    #[test]
    fn a_flag_overrides_the_variables_and_two_variables_must_not_disagree() {
        let mut around = Surroundings {
            server: Some(named(false)),
            ..Surroundings::default()
        };
        assert_eq!(around.elsewhere().unwrap(), Some(&named(false)));
        around.variable = Some("/variable.sock".into());
        let both = around.elsewhere().unwrap_err().to_string();
        assert!(both.contains("STORMHOOK_SERVER") && both.contains("/variable.sock"));
        around.flag = Some("/flag.sock".into());
        assert_eq!(around.elsewhere().unwrap(), None);
        around.flag = None;
        around.server = Some(named(true));
        assert_eq!(around.elsewhere().unwrap(), Some(&named(true)));
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
