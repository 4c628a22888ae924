//! Landlock: files, the ports to listen on, and processes outside.
//!
//! Connections are not restricted: targets may have any port, and databases and name services may have sockets anywhere.

use super::Enforcement;
use super::rules::{Grant, Right, Surroundings, directory_of, is_shared};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, make_bitflags,
};
use std::path::{Path, PathBuf};

/// The version of Linux 6.12, with all that is used here: files and devices, TCP, signals and abstract sockets. Later ones
/// restrict connections.
const VERSION: ABI = ABI::V6;

/// Restricts the calling thread, and those that it starts.
pub(super) fn confine(grants: &[Grant], ports: &[u16], around: &Surroundings) -> Enforcement {
    let rules = grants.iter().flat_map(|grant| rules_of(grant, around));
    match restrict(rules, ports) {
        Ok(done) => judge(&done.ruleset, &done.landlock),
        Err(error) => Enforcement::NotSupported(error.to_string()),
    }
}

fn judge(ruleset: &RulesetStatus, landlock: &LandlockStatus) -> Enforcement {
    match (ruleset, landlock) {
        (RulesetStatus::FullyEnforced, _) => Enforcement::Enforced,
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            Enforcement::Partially(format!(
                "the kernel has version {effective_abi} of Landlock, not {VERSION}"
            ))
        }
        (_, LandlockStatus::NotEnabled) => {
            Enforcement::NotSupported("the kernel was started without Landlock (lsm=)".to_owned())
        }
        _ => Enforcement::NotSupported(
            "the kernel has no Landlock, or something refuses it".to_owned(),
        ),
    }
}

fn restrict(
    rules: impl Iterator<Item = (PathBuf, BitFlags<AccessFs>)>,
    ports: &[u16],
) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(VERSION))?
        .create()?;
    for (path, rights) in rules {
        // What isn't there can't be read, and what can't be found can't be granted.
        let Ok(found) = PathFd::new(&path) else {
            continue;
        };
        let rights = if path.is_dir() {
            rights
        } else {
            rights & AccessFs::from_file(VERSION)
        };
        ruleset = ruleset.add_rule(PathBeneath::new(found, rights))?;
    }
    for port in ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    ruleset.restrict_self()
}

/// Returns the rules that a right needs on this machine.
fn rules_of(grant: &Grant, around: &Surroundings) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = read | make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile});
    let listen = make_bitflags!(AccessFs::{ReadDir | MakeSock | RemoveFile});
    let path = grant.path.clone();
    match grant.right {
        Right::Read => vec![(path, read)],
        Right::ReadFile => {
            let places = places_of(&path, around);
            places.into_iter().map(|place| (place, read)).collect()
        }
        Right::Write => vec![(path, write)],
        Right::WriteBeside => {
            let real = path.canonicalize().ok();
            let directory = real.map(|file| directory_of(&file).to_owned());
            directory.into_iter().map(|path| (path, write)).collect()
        }
        Right::Listen => vec![(path, listen)],
    }
}

/// Returns what must be readable so that a file and its replacements are: the file, its directory, and that of the file
/// that it is a link to. A renewed certificate is often another target of the link.
fn places_of(file: &Path, around: &Surroundings) -> Vec<PathBuf> {
    let real = file.canonicalize().ok();
    // The file may come later.
    let named = directory_of(file).canonicalize().ok();
    let target = real.as_deref().map(|real| directory_of(real).to_owned());
    let target = target.filter(|target| Some(target) != named.as_ref());
    let directories = [named, target].into_iter().flatten();
    let own = directories.filter(|directory| !is_shared(directory, around));
    real.into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_enforced_is_told_with_what_the_kernel_lacks() {
        use RulesetStatus::{FullyEnforced, NotEnforced, PartiallyEnforced};
        let of = |effective_abi| LandlockStatus::Available {
            effective_abi,
            kernel_abi: None,
        };
        let told = |ruleset, landlock| judge(&ruleset, &landlock).to_string();
        assert_eq!(told(FullyEnforced, of(ABI::V7)), "enforced");
        assert_eq!(
            told(PartiallyEnforced, of(ABI::V3)),
            "partially enforced: the kernel has version 3 of Landlock, not 6"
        );
        assert_eq!(
            told(NotEnforced, LandlockStatus::NotEnabled),
            "not supported: the kernel was started without Landlock (lsm=)"
        );
        assert_eq!(
            told(NotEnforced, LandlockStatus::NotImplemented),
            "not supported: the kernel has no Landlock, or something refuses it"
        );
    }

    #[test]
    fn a_link_is_followed_and_both_directories_are_readable() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let [live, archive] = ["live", "archive"].map(|name| root.join(name));
        std::fs::create_dir(&live).unwrap();
        std::fs::create_dir(&archive).unwrap();
        std::fs::write(archive.join("c1.pem"), "").unwrap();
        std::os::unix::fs::symlink("../archive/c1.pem", live.join("c.pem")).unwrap();
        let places = places_of(&live.join("c.pem"), &Surroundings::default());
        assert_eq!(places, [archive.join("c1.pem"), live.clone(), archive]);
        // One that is not there yet.
        let places = places_of(&live.join("later"), &Surroundings::default());
        assert_eq!(places, [live]);
    }

    #[test]
    fn of_a_file_in_a_shared_directory_only_the_file_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let file = root.join("stormhook.toml");
        std::fs::write(&file, "").unwrap();
        let home = Surroundings {
            home: Some(root.clone()),
            ..Surroundings::default()
        };
        assert_eq!(places_of(&file, &home), std::slice::from_ref(&file));
        assert_eq!(
            places_of(&root.join("later"), &home),
            [""; 0].map(PathBuf::from)
        );
        assert_eq!(places_of(&file, &Surroundings::default()), [file, root]);
    }
}
