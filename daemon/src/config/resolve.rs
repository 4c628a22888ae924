//! Turns raw values into a [`Config`]: reads each key by its rule, finds the directories that no key sets, and checks
//! rules that involve several keys.

use std::ffi::OsString;
use std::path::PathBuf;

use super::source::RawConfig;
use super::{Config, ConfigError, MAX_SOCKET_PATH_BYTES, Origin, Problem, SOCKET_FILE, key};
use stormhook_engine::times::duration_text;

/// The name of the key of the secrets among the credentials of a systemd service.
const CREDENTIAL: &str = "stormhook-key";

/// Returns the configuration of these values, or every problem found.
pub(super) fn resolve(
    raw: RawConfig,
    environment: &[(OsString, OsString)],
) -> Result<Config, ConfigError> {
    let RawConfig {
        values,
        mut problems,
    } = raw;
    let folder = if values.contains_key("data_dir") {
        None
    } else {
        state_folder(environment)
    };
    let no_folder = folder.is_none() && !values.contains_key("data_dir");
    let (folder, folder_origin) = folder.unwrap_or_default();
    let mut config = Config::builtin(folder);
    for key in key::KEYS {
        let Some((raw, origin)) = values.get(key.name) else {
            continue;
        };
        if (key.read)(&mut config, raw) {
            config.origins.insert(key.name, origin.clone());
        } else {
            let detail = format!(
                "{} must be {}; got {}",
                key.name,
                (key.allowed)(),
                raw.shown()
            );
            problems.push(Problem {
                key: key.name.to_owned(),
                origin: origin.clone(),
                detail,
            });
        }
    }
    if let Some(origin) = folder_origin {
        config.origins.insert("data_dir", origin);
    }
    if !values.contains_key("socket") {
        place_socket(&mut config, environment);
    }
    config.secrets.credential =
        folder_variable(environment, "CREDENTIALS_DIRECTORY").map(|path| path.join(CREDENTIAL));
    let mut report = |key: &str, detail: String| {
        problems.push(Problem {
            key: key.to_owned(),
            origin: config.origin(key),
            detail,
        });
    };
    if no_folder {
        let detail = "no data directory: set data_dir, or one of $STATE_DIRECTORY, $XDG_STATE_HOME and $HOME to an absolute path";
        report("data_dir", detail.to_owned());
    } else {
        check_together(&config, &mut report);
        check_keys(&config, &mut report);
    }
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Invalid(problems))
    }
}

/// Places the socket if no key does: in the runtime directory, or else in the data directory.
fn place_socket(config: &mut Config, environment: &[(OsString, OsString)]) {
    let runtime = folder_variable(environment, "RUNTIME_DIRECTORY");
    if runtime.is_some() {
        let origin = Origin::Variable("RUNTIME_DIRECTORY".to_owned());
        config.origins.insert("socket", origin);
    }
    let folder = runtime.as_ref().unwrap_or(&config.data_dir);
    config.socket = Some(folder.join(SOCKET_FILE));
}

/// Checks rules that involve several keys.
fn check_together(config: &Config, report: &mut impl FnMut(&str, String)) {
    if config.socket.is_none() && config.listen.is_none() {
        report("listen", "socket and listen are both \"off\", so the daemon would be unreachable; enable one of them".to_owned());
    }
    if let Some(path) = &config.socket {
        let bytes = path.as_os_str().len();
        if bytes > MAX_SOCKET_PATH_BYTES {
            let shown = path.display();
            report(
                "socket",
                format!(
                    "the socket path {shown} has {bytes} bytes, but a Unix socket's path may have at most {MAX_SOCKET_PATH_BYTES}; set socket to a shorter path"
                ),
            );
        }
    }
    check_listener(config, report);
    if let Some(address) = config.cluster.listen
        && config.store.url.is_some()
        && address.ip().is_unspecified()
        && config.cluster.advertise.is_none()
    {
        report(
            "cluster.listen",
            format!(
                "cluster.listen is {address}, which other daemons can't connect to as it is written; set cluster.advertise to an address of this machine"
            ),
        );
    }
    if config.proxy.credentials_file.is_some() && config.proxy.url.is_none() {
        report(
            "target.proxy_credentials_file",
            "target.proxy_credentials_file is set, but target.proxy is not; set both or neither"
                .to_owned(),
        );
    }
    if config.idempotency.ttl > config.retention.events {
        let ttl = duration_text(config.idempotency.ttl);
        let events = duration_text(config.retention.events);
        report(
            "idempotency.ttl",
            format!(
                "idempotency.ttl is {ttl}, longer than retention.events, {events}: a replayed key would find no event; shorten the first or lengthen the second"
            ),
        );
    }
}

/// Checks that callers over TCP are protected: by TLS, by a proxy, or because they are on this machine.
fn check_listener(config: &Config, report: &mut impl FnMut(&str, String)) {
    let is_half_set = match (&config.tls.certificate, &config.tls.key) {
        (Some(_), None) => Some(("tls.certificate", "tls.key")),
        (None, Some(_)) => Some(("tls.key", "tls.certificate")),
        _ => None,
    };
    if let Some((set, missing)) = is_half_set {
        report(
            set,
            format!("{set} is set, but {missing} is not; set both, or neither"),
        );
    }
    let has_tls = config.tls.certificate.is_some() || config.tls.key.is_some();
    let open_to_others = config
        .listen
        .filter(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = open_to_others
        && !has_tls
        && !config.behind_proxy
    {
        report(
            "listen",
            format!(
                "listen is {address}, which is not a loopback address, and tokens would cross the network without TLS: set tls.certificate and tls.key; or set behind_proxy = true if a proxy in front terminates TLS and only it can reach this address; or listen on 127.0.0.1 or [::1]"
            ),
        );
    }
}

/// Checks that the key before is not the only one.
fn check_keys(config: &Config, report: &mut impl FnMut(&str, String)) {
    let secrets = &config.secrets;
    if secrets.previous_key_file.is_some()
        && secrets.key_file.is_none()
        && secrets.credential.is_none()
    {
        report(
            "secrets.previous_key_file",
            "secrets.previous_key_file is set without secrets.key_file: set that to the file with the new key"
                .to_owned(),
        );
    }
}

/// Returns the data directory if none is configured, and where it came from.
fn state_folder(environment: &[(OsString, OsString)]) -> Option<(PathBuf, Option<Origin>)> {
    let places = [
        ("STATE_DIRECTORY", ""),
        ("XDG_STATE_HOME", "stormhook"),
        ("HOME", ".local/state/stormhook"),
    ];
    places.into_iter().find_map(|(name, below)| {
        let folder = folder_variable(environment, name)?;
        let folder = if below.is_empty() {
            folder
        } else {
            folder.join(below)
        };
        Some((folder, Some(Origin::Variable(name.to_owned()))))
    })
}

/// Returns the first absolute path in a variable: systemd separates several directories by colons (systemd.exec(5)),
/// and relative ones must be ignored (XDG Base Directory Specification).
fn folder_variable(environment: &[(OsString, OsString)], name: &str) -> Option<PathBuf> {
    let (_, value) = environment.iter().find(|(key, _)| key == name)?;
    let several = name.ends_with("_DIRECTORY");
    let first = if several {
        value.to_str()?.split(':').next()?
    } else {
        value.to_str()?
    };
    let path = PathBuf::from(first);
    path.is_absolute().then_some(path)
}
