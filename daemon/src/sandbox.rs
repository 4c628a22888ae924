//! Confines the process of the daemon, so that code which an attacker runs in it reaches little (ADR 0033): files by
//! Landlock, system calls by seccomp. Neither can be undone. What the kernel lacks is not enforced, and logged.

#[cfg(target_os = "linux")]
mod files;
mod rules;
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod system_calls;

use crate::config::Config;
use rules::Surroundings;
use std::fmt;
use std::path::PathBuf;

/// How far a part of it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Enforcement {
    /// All of it.
    Enforced,
    /// Less, and why.
    Partially(String),
    /// Nothing, and why.
    NotSupported(String),
}

impl Enforcement {
    /// The same, if it doesn't hold for this many threads.
    fn except(self, threads: usize) -> Self {
        match self {
            Self::Enforced if threads > 0 => Self::Partially(format!(
                "{threads} threads of libraries that were loaded into the process are not restricted"
            )),
            other => other,
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced => f.write_str("enforced"),
            Self::Partially(why) => write!(f, "partially enforced: {why}"),
            Self::NotSupported(why) => write!(f, "not supported: {why}"),
        }
    }
}

/// What was done.
#[derive(Debug)]
pub(crate) struct Sandbox {
    files: Enforcement,
    system_calls: Enforcement,
    /// Entries of `sandbox_read` that have no effect, and why.
    unused: Vec<(PathBuf, String)>,
}

/// Asks the system.
fn surroundings() -> Surroundings {
    let variable = |name| std::env::var_os(name);
    let path = |name| variable(name).map(PathBuf::from);
    let known = openssl_probe::probe();
    let named = variable("SSL_CERT_DIR");
    let named = named.iter().flat_map(|list| std::env::split_paths(list));
    let certificates = named
        .chain(known.cert_dir)
        .chain(known.cert_file)
        .chain(path("SSL_CERT_FILE"));
    Surroundings {
        is_root: rustix::process::geteuid().is_root(),
        home: path("HOME").filter(|home| home.is_absolute()),
        program: std::env::current_exe().ok(),
        certificates: certificates.collect(),
    }
}

/// Confines the calling thread and those that it starts. The data directory must be there.
pub(crate) fn confine(config: &Config) -> Sandbox {
    let surroundings = surroundings();
    let grants = rules::grants(config, &surroundings);
    let unused = config.sandbox_read.iter().filter_map(|path| {
        let error = path.metadata().err()?;
        Some((path.clone(), error.to_string()))
    });
    let unused = unused.collect();
    let others = other_threads();
    Sandbox {
        unused,
        files: confine_files(&grants, &rules::ports(config), &surroundings).except(others),
        system_calls: confine_system_calls(),
    }
}

/// Returns how many threads there are besides the calling one. The program has none; a library that was loaded into the
/// process may.
fn other_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    threads.saturating_sub(1)
}

#[cfg(target_os = "linux")]
fn confine_files(grants: &[rules::Grant], ports: &[u16], around: &Surroundings) -> Enforcement {
    files::confine(grants, ports, around)
}

#[cfg(not(target_os = "linux"))]
fn confine_files(_: &[rules::Grant], _: &[u16], _: &Surroundings) -> Enforcement {
    Enforcement::NotSupported("this is not Linux".to_owned())
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn confine_system_calls() -> Enforcement {
    system_calls::confine()
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
fn confine_system_calls() -> Enforcement {
    Enforcement::NotSupported("only on Linux on x86_64 and aarch64".to_owned())
}

impl Sandbox {
    /// Logs what is enforced.
    pub(crate) fn log(&self) {
        let (landlock, seccomp) = (&self.files, &self.system_calls);
        let lacks = |part: &Enforcement| matches!(part, Enforcement::NotSupported(_));
        if lacks(landlock) || lacks(seccomp) {
            tracing::warn!(%landlock, %seccomp, "the sandbox is incomplete");
        } else {
            tracing::info!(%landlock, %seccomp, "in a sandbox");
        }
        for (path, error) in &self.unused {
            tracing::warn!(path = %path.display(), %error, "an entry of sandbox_read has no effect: correct it, then restart");
        }
    }
}
