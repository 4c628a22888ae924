//! Finds the store for commands about the whole store: the daemon that has it open, or the directory of a stopped one.
//!
//! A daemon elsewhere that is named is asked. Otherwise a directory that is named is tried first, then a socket that is named. Without either, the daemon is tried where it
//! usually listens; if none answers, the store that it would open is used.

use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::failure::Failure;
use crate::local::{self, PlaceFlags, Places, STORE_FILE, StoreState};
use crate::remote::{Named, Remote};
use crate::socket::Surroundings;
use crate::terminal::Screen;
use stormhook_daemon::config::SOCKET_FILE;

/// Where the store was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// This daemon has it open.
    Daemon(Client),
    /// It is not open, and in this directory.
    Stopped(PathBuf),
}

/// See the module.
pub(crate) async fn find(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    if let Some(named) = elsewhere(flags, surroundings)? {
        return Ok(Found::Daemon(Client::of_remote(Remote::of(named)?)));
    }
    match (&flags.data_dir, &surroundings.flag) {
        (Some(folder), None) => named_folder(folder, flags, surroundings, screen).await,
        (Some(folder), Some(socket)) => {
            both_named(folder, socket, flags, surroundings, screen).await
        }
        (None, _) => daemon_or_its_store(flags, surroundings, screen).await,
    }
}

/// Returns the daemon elsewhere that is meant, if one is. A directory that is named overrides `STORMHOOK_SERVER`.
pub(crate) fn elsewhere<'s>(
    flags: &PlaceFlags,
    surroundings: &'s Surroundings,
) -> Result<Option<&'s Named>, Failure> {
    match (&flags.data_dir, &surroundings.server) {
        (Some(_), Some(named)) if named.by_flag => Err(Failure::Usage(
            "--data-dir names a store on this machine and --server a daemon on another: omit one"
                .to_owned(),
        )),
        (Some(_), _) => Ok(None),
        (None, _) => surroundings.elsewhere(),
    }
}

/// Returns the directory of the store, for commands that need a store that is not open.
pub(crate) fn folder(flags: &PlaceFlags) -> Result<PathBuf, Failure> {
    flags.load(None).map(|places| places.data_dir)
}

/// Finds the store in this directory, through its daemon if one has it open.
async fn named_folder(
    folder: &Path,
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    match local::look(folder) {
        StoreState::AtRest => Ok(Found::Stopped(folder.to_owned())),
        StoreState::InUse => through_its_daemon(folder, flags, surroundings, screen).await,
        StoreState::Absent => Err(Failure::Usage(absent(folder))),
        StoreState::Unreadable(why) => Err(Failure::Usage(why)),
    }
}

/// Returns the daemon at this socket if it has the store in this directory open; otherwise the command could act on the
/// wrong store. If no daemon answers there, uses the store.
async fn both_named(
    folder: &Path,
    socket: &Path,
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    let sockets = [socket.to_owned()];
    if Client::find(&sockets).await.is_err() {
        return daemon_or_its_store(flags, surroundings, screen).await;
    }
    let in_use = match local::look(folder) {
        StoreState::AtRest => false,
        StoreState::InUse => true,
        StoreState::Absent => return Err(Failure::Usage(absent(folder))),
        StoreState::Unreadable(why) => return Err(Failure::Usage(why)),
    };
    let holder = Client::of_holder(&sockets, &folder.join(STORE_FILE)).await;
    holder.filter(|_| in_use).map(Found::Daemon).ok_or_else(|| {
        Failure::Usage(format!(
            "the daemon at {} doesn't seem to have the store in {} open: omit --socket or --data-dir",
            socket.display(),
            folder.display()
        ))
    })
}

/// Returns the daemon if one answers, else the store that it would open.
async fn daemon_or_its_store(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    let places = flags.load(surroundings.flag.as_deref());
    let sockets = sockets_of(flags, surroundings, &places)?;
    let unreachable = match Client::find(&sockets).await {
        Ok(client) => return Ok(Found::Daemon(client)),
        Err(unreachable) => unreachable,
    };
    let folder = places?.data_dir;
    let why = match local::look(&folder) {
        StoreState::AtRest => {
            screen.remark(&format!(
                "No daemon answers; reading the stopped store in {}.",
                folder.display()
            ));
            return Ok(Found::Stopped(folder));
        }
        StoreState::InUse => return through_its_daemon(&folder, flags, surroundings, screen).await,
        // A wrong path is an error even if the socket doesn't answer.
        StoreState::Absent if flags.data_dir.is_some() => {
            return Err(Failure::Usage(absent(&folder)));
        }
        StoreState::Absent => absent(&folder),
        StoreState::Unreadable(why) => why,
    };
    Err(Failure::Unreachable(format!("{unreachable}\nAlso, {why}.")))
}

/// Returns the daemon that has this store open: at the directory's own socket, or at another place if the system shows
/// that its listener holds the file. A daemon that merely answers may have another store.
async fn through_its_daemon(
    folder: &Path,
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    let in_use = format!(
        "The store in {} is open in another process",
        folder.display()
    );
    let own = [folder.join(SOCKET_FILE)];
    let client = match Client::find(&own).await {
        Ok(client) => Some(client),
        Err(_) => {
            let mut others = sockets_of(flags, surroundings, &flags.load(None))?;
            let unnamed = Surroundings {
                flag: None,
                variable: None,
                ..surroundings.clone()
            };
            others.extend(unnamed.candidates());
            Client::of_holder(&others, &folder.join(STORE_FILE)).await
        }
    };
    let Some(client) = client else {
        return Err(Failure::Unreachable(format!(
            "{in_use}, and its daemon is not reachable: name its socket with --socket PATH, or stop that process"
        )));
    };
    screen.remark(&format!(
        "{in_use}: asking the daemon at {}.",
        client.place()
    ));
    Ok(Found::Daemon(client))
}

/// Returns where the daemon may listen: the socket that the command line or the configuration names, else the usual
/// places.
fn sockets_of(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    places: &Result<Places, Failure>,
) -> Result<Vec<PathBuf>, Failure> {
    match places {
        _ if surroundings.flag.is_some() => Ok(surroundings.candidates()),
        Ok(Places {
            sockets: Some(named),
            ..
        }) => Ok(named.clone()),
        Ok(places) => {
            let surroundings = Surroundings {
                data_dir: Some(places.data_dir.clone()),
                ..surroundings.clone()
            };
            Ok(surroundings.candidates())
        }
        // A file that was named must be readable; the rest is only needed once no daemon answers.
        Err(failure) if flags.names_a_file() => Err(Failure::Usage(failure.to_string())),
        Err(_) => Ok(surroundings.candidates()),
    }
}

pub(crate) fn absent(folder: &Path) -> String {
    let shown = folder.display();
    if folder.is_dir() {
        format!("no {STORE_FILE} in {shown}: check that it is the data directory of a daemon")
    } else if folder.exists() {
        format!("{shown} is not a directory: name the one that holds {STORE_FILE}")
    } else {
        format!("no such directory: {shown}")
    }
}
