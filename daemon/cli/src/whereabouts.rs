//! Where a command about the store as a whole finds it: the daemon that has it open, or the folder of one that is stopped.
//!
//! A folder that is named is looked at first, a socket that is named before any folder; without names the daemon is asked where it
//! usually listens, and where nobody answers, the store that it would open is taken.

use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::daemon_side::{self, PlaceFlags, Places, STORE_FILE, Stopped};
use crate::failure::Failure;
use crate::screen::Screen;
use crate::socket::Surroundings;
use stormhook_daemon::config::SOCKET_FILE;

/// Where it was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// This daemon has it open.
    Daemon(Client),
    /// Nobody has it open: it is in this folder.
    Stopped(PathBuf),
}

/// See the module.
pub(crate) async fn find(
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    match (&flags.data_dir, &surroundings.flag) {
        (Some(folder), None) => named_folder(folder, flags, surroundings, screen).await,
        (Some(folder), Some(socket)) => {
            both_named(folder, socket, flags, surroundings, screen).await
        }
        (None, _) => daemon_or_its_store(flags, surroundings, screen).await,
    }
}

/// The folder of the store, for what only works on one that nobody has open.
pub(crate) fn folder(flags: &PlaceFlags) -> Result<PathBuf, Failure> {
    flags.load(None).map(|places| places.data_dir)
}

/// The store in this folder, through its daemon where one has it open.
async fn named_folder(
    folder: &Path,
    flags: &PlaceFlags,
    surroundings: &Surroundings,
    screen: &Screen,
) -> Result<Found, Failure> {
    match daemon_side::look(folder) {
        Stopped::AtRest => Ok(Found::Stopped(folder.to_owned())),
        Stopped::InUse => through_its_daemon(folder, flags, surroundings, screen).await,
        Stopped::Absent => Err(Failure::Usage(absent(folder))),
        Stopped::Unreadable(why) => Err(Failure::Usage(why)),
    }
}

/// The daemon at this socket, where it is the one that has the store in this folder open: of two stores one would be taken for the
/// other. Where nobody answers there, the store is what counts.
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
    let in_use = match daemon_side::look(folder) {
        Stopped::AtRest => false,
        Stopped::InUse => true,
        Stopped::Absent => return Err(Failure::Usage(absent(folder))),
        Stopped::Unreadable(why) => return Err(Failure::Usage(why)),
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

/// The daemon where one answers, else the store that it would open.
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
    let why = match daemon_side::look(&folder) {
        Stopped::AtRest => {
            screen.remark(&format!(
                "No daemon answers; reading the stopped store in {}.",
                folder.display()
            ));
            return Ok(Found::Stopped(folder));
        }
        Stopped::InUse => return through_its_daemon(&folder, flags, surroundings, screen).await,
        // A wrong path is as wrong beside a dead socket.
        Stopped::Absent if flags.data_dir.is_some() => {
            return Err(Failure::Usage(absent(&folder)));
        }
        Stopped::Absent => absent(&folder),
        Stopped::Unreadable(why) => why,
    };
    Err(Failure::Unreachable(format!("{unreachable}\nAnd {why}.")))
}

/// The daemon that has this store open: at the folder's own socket, or at another place where the process that listens can be
/// seen to hold the file. One that merely answers may keep another store, and its word would be taken for this one's.
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
        client.socket().display()
    ));
    Ok(Found::Daemon(client))
}

/// Where the daemon may listen: the socket that was named, on the command line or by the configuration, else the usual places.
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
        // A file that was named must be right; the rest is only needed once no daemon answers.
        Err(failure) if flags.names_a_file() => Err(Failure::Usage(failure.to_string())),
        Err(_) => Ok(surroundings.candidates()),
    }
}

pub(crate) fn absent(folder: &Path) -> String {
    let shown = folder.display();
    if folder.is_dir() {
        format!("no {STORE_FILE} in {shown}: is it the data directory of a daemon?")
    } else if folder.exists() {
        format!("{shown} is not a directory: name the one that holds {STORE_FILE}")
    } else {
        format!("no such directory: {shown}")
    }
}
