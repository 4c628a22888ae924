//! The keys that secrets are encrypted with in the store: read from the files that the configuration names
//! (docs/adr/0030-secrets-at-rest.md).

use crate::config::Config;
use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stormhook_store::sealing::KEY_BYTES;
use stormhook_store::{Key, Keys};
use zeroize::Zeroizing;

/// The longest file that can be a key: base64 with some white space.
const FILE_BYTES: u64 = 256;

/// Why a key can't be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refuses.
    #[error("reading the key {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error(
        "{} holds no key: it must be 32 random bytes, raw or in base64, and has {bytes}. `openssl rand -out FILE 32` makes one",
        path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// What it has.
        bytes: String,
    },
    /// Two of the configured files.
    #[error(
        "secrets.key_file and secrets.previous_key_file hold the same key {0}: remove secrets.previous_key_file, or set it to the file with the key before"
    )]
    Same(stormhook_store::KeyId),
}

impl KeyFileError {
    /// Whether the system doesn't let this process read the file.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

/// Reads the keys of the secrets. Without `secrets.key_file`, the credential of systemd is used if there is one.
///
/// # Errors
/// [`KeyFileError`].
pub fn keys(config: &Config) -> Result<Arc<Keys>, KeyFileError> {
    let secrets = &config.secrets;
    let current = match (&secrets.key_file, &secrets.credential) {
        (Some(path), _) => Some(key(path)?),
        (None, Some(path)) => match key(path) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            credential => Some(credential?),
        },
        (None, None) => None,
    };
    let previous = secrets.previous_key_file.as_deref().map(key).transpose()?;
    match (&current, &previous) {
        (Some(current), Some(previous)) if current.id() == previous.id() => {
            Err(KeyFileError::Same(current.id()))
        }
        _ => Ok(Arc::new(Keys::new(current, previous))),
    }
}

/// Reads a key: 32 bytes, raw or in base64.
///
/// # Errors
/// [`KeyFileError`].
pub fn key(path: &Path) -> Result<Key, KeyFileError> {
    let failed = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(
            path = %path.display(),
            "the key of the secrets is accessible to all users; set its mode to 0600"
        );
    }
    let room = usize::try_from(FILE_BYTES).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    of_bytes(&bytes).ok_or_else(|| KeyFileError::Form {
        path: path.to_owned(),
        bytes: if bytes.len() < room {
            format!("{} bytes", bytes.len())
        } else {
            format!("more than {FILE_BYTES} bytes")
        },
    })
}

fn of_bytes(bytes: &[u8]) -> Option<Key> {
    if let Ok(raw) = bytes.try_into() {
        return Some(Key::new(raw));
    }
    let text = bytes.trim_ascii();
    let mut decoded = Zeroizing::new([0; KEY_BYTES]);
    let out = &mut *decoded;
    let is_key = decode::<Base64>(text, out)
        || decode::<Base64Unpadded>(text, out)
        || decode::<Base64Url>(text, out)
        || decode::<Base64UrlUnpadded>(text, out);
    is_key.then(|| Key::new(&decoded))
}

/// Whether `text` is this many bytes in an alphabet. Decodes in constant time.
fn decode<E: Encoding>(text: &[u8], out: &mut [u8]) -> bool {
    let most = out.len();
    E::decode(text, out).is_ok_and(|decoded| decoded.len() == most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_raw_or_in_any_base64_and_nothing_else() {
        let raw: Vec<u8> = (0..32).map(|n| 255 - n * 7).collect();
        let id = of_bytes(&raw).unwrap().id();
        let url = Base64Url::encode_string(&raw);
        for text in [
            Base64::encode_string(&raw),
            format!(" {}\n", Base64::encode_string(&raw)),
            Base64Unpadded::encode_string(&raw),
            url.clone(),
            format!("{}\r\n", url.trim_end_matches('=')),
        ] {
            assert_eq!(
                of_bytes(text.as_bytes()).map(|key| key.id()),
                Some(id),
                "{text}"
            );
        }
        let hex: String = raw.iter().map(|b| format!("{b:02x}")).collect();
        for wrong in [
            Vec::new(),
            raw[..31].to_vec(),
            [&raw[..], b"\n"].concat(),
            Base64::encode_string(&raw[..31]).into_bytes(),
            Base64::encode_string(&[&raw[..], b"x"].concat()).into_bytes(),
            hex.into_bytes(),
        ] {
            assert!(of_bytes(&wrong).is_none(), "{} bytes", wrong.len());
        }
    }

    #[test]
    fn a_file_that_holds_no_key_is_named_with_what_it_should_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "a passphrase").unwrap();
        let refused = key(&path).unwrap_err().to_string();
        assert!(
            refused.contains("must be 32 random bytes") && refused.contains("has 12 bytes"),
            "{refused}"
        );
        std::fs::write(&path, [0; 5_000]).unwrap();
        let refused = key(&path).unwrap_err().to_string();
        assert!(refused.contains("more than 256 bytes"), "{refused}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(key(&path), Err(KeyFileError::Io { .. })));
    }
}
