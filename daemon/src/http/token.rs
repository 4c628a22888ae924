//! The admin token, which callers over TCP show. With a file as the store it is this data directory's. Daemons on one
//! database share one: the daemon that made it has the file, the database has the digest, and each daemon takes up a new
//! digest as it looks at the database.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stormhook_engine::Store;
#[cfg(feature = "postgres")]
use stormhook_postgres::Cluster;
use stormhook_store::StoreError;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The token's file in the data directory.
const TOKEN_FILE: &str = "admin-token";
const TOKEN_BYTES: usize = 32;
const TOKEN_FILE_MAX_BYTES: u64 = 4_096;

/// See the module. Never printed.
pub(crate) enum Token {
    /// That of this data directory.
    Own(Text),
    /// That of all daemons on the database.
    #[cfg(feature = "postgres")]
    Shared(Cluster),
}

/// A token as it is shown.
pub(crate) struct Text(Zeroizing<String>);

/// Why there is no token to check callers by.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read or created, or holds no token.
    #[error("reading or creating the token {}: {source}", path.display())]
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
            return Self::shared(&path, cluster).await;
        }
        let made = Text::read_or_create(&path);
        made.map(|(text, _)| Self::Own(text))
            .map_err(of_file(&path))
    }

    #[cfg(feature = "postgres")]
    async fn shared(path: &Path, cluster: Cluster) -> Result<Self, TokenError> {
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
        Ok(Self::Shared(cluster))
    }

    /// Whether a caller showed the token.
    pub(super) fn matches(&self, came: &str) -> bool {
        match self {
            Self::Own(text) => text.0.as_bytes().ct_eq(came.as_bytes()).into(),
            #[cfg(feature = "postgres")]
            Self::Shared(cluster) => {
                let known = cluster.admin_token_digest();
                known.is_some_and(|known| known.ct_eq(&digest_of(came)).into())
            }
        }
    }

    /// Says where the token is.
    pub(super) fn place(&self) -> &'static str {
        match self {
            Self::Own(_) => "in `admin-token` in the data directory",
            #[cfg(feature = "postgres")]
            Self::Shared(_) => {
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
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
        {
            Ok(mut file) => {
                let token = Self::fresh()?;
                file.write_all(token.0.as_bytes())?;
                file.write_all(b"\n")?;
                file.sync_all()?;
                Ok((token, true))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((Self::read(path)?, false)),
            Err(e) => Err(e),
        }
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
        let hex = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self(Zeroizing::new(hex)))
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

    #[cfg(test)]
    pub(super) fn of_test(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}
