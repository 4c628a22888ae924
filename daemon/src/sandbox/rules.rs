//! What the daemon may do with which files in the sandbox, and which TCP ports it may listen on.
//!
//! Landlock grants rights to what is below a directory, and not to names: a file that replaces another one can only be
//! read if its directory may be. That decides most of this.

use crate::config::{Config, STORE_FILE};
use std::path::{Path, PathBuf};

/// What may be done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Read what is there, and below it.
    Read,
    /// Read a file, and one that replaces it.
    ReadFile,
    /// Read and write files, create and remove them.
    Write,
    /// The same, in the directory where the file really is.
    WriteBeside,
    /// Create and remove sockets.
    Listen,
}

/// A right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) path: PathBuf,
    pub(super) right: Right,
}

fn grant(path: impl Into<PathBuf>, right: Right) -> Grant {
    let path = path.into();
    Grant { path, right }
}

/// What the rules depend on apart from the configuration.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Whether permissions of files restrict the process.
    pub(super) is_root: bool,
    /// Its user's home directory.
    pub(super) home: Option<PathBuf>,
    /// The program, whose symbols a backtrace names.
    pub(super) program: Option<PathBuf>,
    /// Where the system's certificates are.
    pub(super) certificates: Vec<PathBuf>,
}

/// Libraries that look names up, certificates that links lead to, and directories of those who write `resolv.conf`.
const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/dev/urandom",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/var/lib/ca-certificates",
    "/etc/ca-certificates",
    "/etc/pki/ca-trust",
];

/// Files in `/etc`.
const ETC: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/passwd",
    "/etc/ld.so.cache",
];

/// Directories of the system and of all users. Reading a file in one is no reason to read everything below it.
const SHARED: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
    "/var/tmp",
];

/// Whether a directory holds much more than the files of one program.
pub(super) fn is_shared(directory: &Path, surroundings: &Surroundings) -> bool {
    let is_home = surroundings.home.as_deref() == Some(directory);
    is_home || SHARED.iter().any(|shared| Path::new(shared) == directory)
}

/// Returns the rights to files.
pub(super) fn grants(config: &Config, surroundings: &Surroundings) -> Vec<Grant> {
    // Permissions protect what is secret there, but not from root. It gets the files alone, so it doesn't see those that
    // replace them.
    let etc = (!surroundings.is_root).then(|| PathBuf::from("/etc"));
    let read = SYSTEM
        .iter()
        .map(PathBuf::from)
        .chain(etc)
        .chain(surroundings.certificates.iter().cloned())
        .chain(surroundings.program.clone())
        .chain(config.sandbox_read.iter().cloned());
    let files = ETC.iter().map(PathBuf::from).chain(named_files(config));
    let mut grants: Vec<Grant> = read
        .map(|path| grant(path, Right::Read))
        .chain(files.map(|path| grant(path, Right::ReadFile)))
        .collect();
    grants.push(grant(&config.data_dir, Right::Write));
    if config.store.url.is_none() {
        let store = config.data_dir.join(STORE_FILE);
        grants.push(grant(store, Right::WriteBeside));
    }
    if let Some(socket) = &config.socket {
        grants.push(grant(directory_of(socket), Right::Listen));
    }
    grants
}

/// Returns the directory of a file: the working directory if it is named without one.
pub(super) fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Returns the files that the configuration names, which are read at the start, on SIGHUP or later.
fn named_files(config: &Config) -> Vec<PathBuf> {
    let (tls, secrets) = (&config.tls, &config.secrets);
    let optional = [
        &config.file,
        &tls.certificate,
        &tls.key,
        &secrets.key_file,
        &secrets.previous_key_file,
        &secrets.credential,
        &config.proxy.credentials_file,
    ];
    let mut files: Vec<PathBuf> = optional.into_iter().flatten().cloned().collect();
    files.extend(tls.extra_roots.iter().cloned());
    #[cfg(feature = "postgres")]
    files.extend(
        config
            .outboxes()
            .flat_map(|url| stormhook_postgres::files_of_url(url)),
    );
    files
}

/// Returns the ports that it may listen on. Port 0 allows those that the system picks for it.
pub(super) fn ports(config: &Config) -> Vec<u16> {
    let others = config.cluster.listen.filter(|_| config.store.url.is_some());
    let listeners = config.listen.into_iter().chain(others);
    listeners.map(|address| address.port()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn config(text: &str) -> Config {
        let file = Some((Path::new("/etc/stormhook/stormhook.toml"), text));
        let text = [("HOME", "/home/storm")].map(|(k, v)| (OsString::from(k), OsString::from(v)));
        Config::from_sources(file, text, &[]).unwrap()
    }

    fn rights(grants: &[Grant], path: &str) -> Vec<Right> {
        let of_path = grants.iter().filter(|grant| grant.path == Path::new(path));
        of_path.map(|grant| grant.right).collect()
    }

    #[test]
    fn what_is_configured_is_granted_and_no_more_than_is_needed() {
        let config = config(
            r#"
            data_dir = "/data"
            socket = "/run/hooks/s.sock"
            sandbox_read = ["/keys"]
            [tls]
            certificate = "/tls/c.pem"
            key = "/tls/k.pem"
            extra_roots = ["/roots/r.pem"]
            [secrets]
            key_file = "/secrets/key"
            previous_key_file = "/secrets/old"
            [target]
            proxy = "http://proxy.test:3128"
            proxy_credentials_file = "/secrets/proxy"
            "#,
        );
        let surroundings = Surroundings {
            certificates: vec!["/ssl/certs".into()],
            program: Some("/bin/stormhook".into()),
            ..Surroundings::default()
        };
        let grants = grants(&config, &surroundings);
        for file in [
            "/etc/stormhook/stormhook.toml",
            "/tls/c.pem",
            "/tls/k.pem",
            "/roots/r.pem",
            "/secrets/key",
            "/secrets/old",
            "/secrets/proxy",
        ] {
            assert_eq!(rights(&grants, file), [Right::ReadFile], "{file}");
        }
        assert_eq!(rights(&grants, "/keys"), [Right::Read]);
        assert_eq!(rights(&grants, "/ssl/certs"), [Right::Read]);
        assert_eq!(rights(&grants, "/bin/stormhook"), [Right::Read]);
        assert_eq!(rights(&grants, "/run/hooks"), [Right::Listen]);
        let writable: Vec<_> = grants
            .iter()
            .filter(|grant| matches!(grant.right, Right::Write | Right::WriteBeside))
            .map(|grant| grant.path.display().to_string())
            .collect();
        assert_eq!(writable, ["/data", "/data/stormhook.redb"]);
    }

    #[test]
    fn root_is_granted_only_what_is_needed_in_etc() {
        let config = config("");
        let of = |is_root| {
            let surroundings = Surroundings {
                is_root,
                ..Surroundings::default()
            };
            grants(&config, &surroundings)
        };
        assert_eq!(rights(&of(false), "/etc"), [Right::Read]);
        assert_eq!(rights(&of(true), "/etc"), []);
        assert_eq!(rights(&of(true), "/etc/hosts"), [Right::ReadFile]);
    }

    #[test]
    fn only_the_directory_of_one_program_is_readable_because_of_a_file_in_it() {
        let surroundings = Surroundings {
            home: Some("/home/storm".into()),
            ..Surroundings::default()
        };
        for shared in ["/", "/etc", "/tmp", "/home/storm", "/var/lib"] {
            assert!(is_shared(Path::new(shared), &surroundings), "{shared}");
        }
        for own in ["/etc/stormhook", "/tls", "/home/storm/hooks", "/home/other"] {
            assert!(!is_shared(Path::new(own), &surroundings), "{own}");
        }
        assert_eq!(directory_of(Path::new("stormhook.toml")), Path::new("."));
    }

    #[test]
    fn the_ports_of_the_listeners_are_granted() {
        assert_eq!(ports(&config("")), [8650]);
        assert_eq!(ports(&config("listen = \"off\"")), [0; 0]);
        let shared = "[store]\nurl = \"postgres://u@h/d\"\n[cluster]\nlisten = \"127.0.0.1:7\"";
        assert_eq!(ports(&config(shared)), [8650, 7]);
        assert_eq!(
            ports(&config("[cluster]\nlisten = \"127.0.0.1:7\"")),
            [8650]
        );
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn the_files_of_databases_are_granted() {
        let store = r#"url = "postgres://u@h/d?sslmode=verify-full&sslrootcert=/pg/ca.pem""#;
        let outbox = r#"url = "postgres://u@h/o?sslmode=verify-full&sslrootcert=/pg/o.pem""#;
        let config = config(&format!("[store]\n{store}\n[outbox]\n{outbox}"));
        let grants = grants(&config, &Surroundings::default());
        assert_eq!(rights(&grants, "/pg/ca.pem"), [Right::ReadFile]);
        assert_eq!(rights(&grants, "/pg/o.pem"), [Right::ReadFile]);
        let written = grants.iter().any(|grant| grant.right == Right::WriteBeside);
        assert!(!written, "there is no file of the store");
    }
}
