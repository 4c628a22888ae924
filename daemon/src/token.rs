//! The admin token, which callers over TCP show. With a file as the store it is this data directory's. Daemons on one
//! database share one: the daemon that made it, or replaced it last, has the file; the database has the digest, and each
//! daemon takes up a new digest as it looks at the database.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use stormhook_engine::Store;
#[cfg(feature = "postgres")]
use stormhook_postgres::Cluster;
use stormhook_store::{StoreError, hex};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The token's file in the data directory.
const TOKEN_FILE: &str = "admin-token";
const TOKEN_BYTES: usize = 32;
const TOKEN_FILE_MAX_BYTES: u64 = 4_096;

/// See the module. Never printed.
#[derive(Debug)]
pub(crate) struct Token {
    path: PathBuf,
    known: Known,
    /// Held while it is being replaced.
    turn: tokio::sync::Mutex<()>,
}

/// What a caller's token is compared with.
enum Known {
    /// That of this data directory.
    Own(RwLock<Text>),
    /// The digest of that of all daemons on the database.
    #[cfg(feature = "postgres")]
    Shared(Cluster),
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A token as it is shown.
pub(crate) struct Text(Zeroizing<String>);

/// Why there is no token to check callers by.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read or created, or holds no token.
    #[error("reading, creating or replacing the token {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Token {
    /// Returns the token of this data directory, or that of all daemons on the database. The first time it is created,
    /// with mode 0600.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(
            unused_variables,
            clippy::unused_async,
            reason = "only a database is asked"
        )
    )]
    pub(crate) async fn of(data_dir: &Path, store: &Store) -> Result<Self, TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        #[cfg(feature = "postgres")]
        if let Some(cluster) = store.cluster() {
            let known = Self::shared(&path, cluster).await?;
            return Ok(Self::known(path, known));
        }
        let (text, _) = Text::read_or_create(&path).map_err(of_file(&path))?;
        Ok(Self::known(path, Known::Own(RwLock::new(text))))
    }

    fn known(path: PathBuf, known: Known) -> Self {
        Self {
            path,
            known,
            turn: tokio::sync::Mutex::default(),
        }
    }

    #[cfg(feature = "postgres")]
    async fn shared(path: &Path, cluster: Cluster) -> Result<Known, TokenError> {
        let found = match cluster.admin_token_digest() {
            Some(_) => Text::read_if_there(path).map(|text| Some((text?, false))),
            None => Text::read_or_create(path).map(Some),
        };
        if let Some((text, is_new)) = found.map_err(of_file(path))? {
            let digest = text.digest();
            let is_known = cluster.offer_admin_token(&digest).await? == digest;
            match (is_known, is_new) {
                (true, _) => {}
                // Another daemon made one at the same time.
                (false, true) => std::fs::remove_file(path).map_err(of_file(path))?,
                (false, false) => tracing::warn!(
                    path = %path.display(),
                    "the token in this file is not that of the database, so it is refused; copy admin-token from the daemon that made it, or remove this file"
                ),
            }
        }
        Ok(Known::Shared(cluster))
    }

    /// Replaces the token by a new one: from now on the old one is refused, and the file holds the new one. Returns the
    /// file. What another token in the file is good for ends with it, so this also helps where the file was lost.
    ///
    /// The new token is on disk, under another name, before anything changes.
    pub(crate) async fn replace(&self) -> Result<&Path, TokenError> {
        let _turn = self.turn.lock().await;
        let beside = self.path.with_extension("new");
        let failed = || of_file(&self.path);
        let writing = beside.clone();
        let fresh = blocking(move || {
            let fresh = Text::fresh()?;
            fresh.write_new(&writing).map(|()| fresh)
        });
        let fresh = fresh.await.map_err(failed())?;
        match &self.known {
            Known::Own(known) => {
                // Nobody is refused the new token once it can be read.
                let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
                std::fs::rename(&beside, &self.path).map_err(failed())?;
                *known = fresh;
            }
            #[cfg(feature = "postgres")]
            Known::Shared(cluster) => {
                // If the answer is lost, the file beside may hold the token that counts: it stays.
                cluster.replace_admin_token(&fresh.digest()).await?;
                std::fs::rename(&beside, &self.path).map_err(failed())?;
            }
        }
        let path = self.path.clone();
        let synced = blocking(move || sync_folder_of(&path)).await;
        synced.map_err(failed())?;
        Ok(&self.path)
    }

    /// Whether a caller showed the token.
    pub(crate) fn matches(&self, came: &str) -> bool {
        match &self.known {
            Known::Own(known) => {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                known.0.as_bytes().ct_eq(came.as_bytes()).into()
            }
            #[cfg(feature = "postgres")]
            Known::Shared(cluster) => {
                let known = cluster.admin_token_digest();
                known.is_some_and(|known| known.ct_eq(&digest_of(came)).into())
            }
        }
    }

    /// Says where the token is.
    pub(crate) fn place(&self) -> &'static str {
        match &self.known {
            Known::Own(_) => "in `admin-token` in the data directory",
            #[cfg(feature = "postgres")]
            Known::Shared(_) => {
                "in `admin-token` in the data directory of the daemon that made it, which is one for all daemons on the database"
            }
        }
    }
}

fn of_file(path: &Path) -> impl FnOnce(io::Error) -> TokenError + use<> {
    let path = path.to_owned();
    |source| TokenError::File { path, source }
}

#[cfg(feature = "postgres")]
fn digest_of(text: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).to_vec()
}

impl Text {
    /// Reads the token, or creates it. Returns whether it was created.
    fn read_or_create(path: &Path) -> io::Result<(Self, bool)> {
        let token = Self::fresh()?;
        match token.write_as_new(path) {
            Ok(()) => Ok((token, true)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((Self::read(path)?, false)),
            Err(e) => Err(e),
        }
    }

    /// Writes the token to a file that must not exist, and waits until it is on disk.
    fn write_as_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(self.0.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// The same in place of what an interrupted replacement left.
    fn write_new(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.write_as_new(path)
    }

    #[cfg(feature = "postgres")]
    fn read_if_there(path: &Path) -> io::Result<Option<Self>> {
        match Self::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn fresh() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(io::Error::other)?;
        Ok(Self(Zeroizing::new(hex(bytes.as_ref()))))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut text = Zeroizing::new(String::new());
        let file = std::fs::File::open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(
                path = %path.display(),
                "the token is readable by users other than its owner; set its mode to 0600"
            );
        }
        file.take(TOKEN_FILE_MAX_BYTES).read_to_string(&mut text)?;
        let token = text.trim();
        if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(io::Error::other(
                "it does not hold a token of at least 16 visible characters: delete it, and the next start creates one",
            ));
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    #[cfg(feature = "postgres")]
    fn digest(&self) -> Vec<u8> {
        digest_of(&self.0)
    }
}

/// Does work on the disk apart from the serving threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
impl Token {
    /// Returns a token whose file is not read.
    pub(crate) fn of_test(text: &str) -> Self {
        let text = Text(Zeroizing::new(text.to_owned()));
        Self::known(PathBuf::from("admin-token"), Known::Own(RwLock::new(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder(folder: &Path) -> Token {
        let path = folder.join(TOKEN_FILE);
        let (text, _) = Text::read_or_create(&path).unwrap();
        Token::known(path, Known::Own(RwLock::new(text)))
    }

    fn shown(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn a_replaced_token_is_refused_and_the_new_one_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let token = in_folder(folder.path());
        let old = shown(&token.path);
        assert!(token.matches(&old));
        let path = token.replace().await.unwrap().to_owned();
        let new = shown(&path);
        assert_ne!(old, new);
        assert!(token.matches(&new) && !token.matches(&old));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(in_folder(folder.path()).matches(&new), "after a restart");
        assert!(!path.with_extension("new").exists());
    }

    #[tokio::test]
    async fn a_replacement_that_was_interrupted_or_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let token = in_folder(folder.path());
        let old = shown(&token.path);
        let beside = token.path.with_extension("new");
        std::fs::write(&beside, "half").unwrap();
        assert!(in_folder(folder.path()).matches(&old));
        token.replace().await.unwrap();
        let old = shown(&token.path);
        std::fs::create_dir(&beside).unwrap();
        let failed = token.replace().await.unwrap_err().to_string();
        assert!(failed.contains("admin-token"), "{failed}");
        assert!(token.matches(&old) && shown(&token.path) == old);
    }
}
