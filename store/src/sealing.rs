//! Secrets at rest: with which key the private parts of a store are encrypted, and the encryption itself
//! (docs/adr/0030-secrets-at-rest.md). It reads no file and draws no random numbers: keys and nonces are arguments.
//!
//! The store says in which form it keeps them, the configuration only which keys there are. So a store is never read or
//! written with a key that is not its own.

use crate::error::StoreError;
use crate::ids::KeyId;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The length of a key.
pub const KEY_BYTES: usize = 32;

/// Never used twice with a key: random, and long enough for that.
pub type Nonce = [u8; 24];

/// A key. Wiped when dropped, and never printed.
///
/// On the heap, so that moving it leaves no copy behind.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    bytes: Box<Zeroizing<[u8; KEY_BYTES]>>,
}

impl Key {
    /// Returns the key of these bytes.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut id = [0; 4];
        for (to, from) in id.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        let mut kept = Box::new(Zeroizing::new([0; KEY_BYTES]));
        kept.copy_from_slice(bytes);
        Self {
            id: KeyId(id),
            bytes: kept,
        }
    }

    /// Returns its id, which is not secret.
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&**self.bytes).into())
    }

    /// Encrypts `plain`. It can be decrypted only with the same `bound`.
    pub(crate) fn encrypt(
        &self,
        nonce: &Nonce,
        bound: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let payload = Payload {
            msg: plain,
            aad: bound,
        };
        let encrypted = self.cipher().encrypt(&XNonce::from(*nonce), payload);
        encrypted.map_err(|_| StoreError::damaged("secrets to be encrypted", "they are too long"))
    }

    /// Decrypts the output of [`Key::encrypt`]; `None` if it, the nonce or `bound` was changed.
    pub(crate) fn decrypt(
        &self,
        nonce: &Nonce,
        bound: &[u8],
        encrypted: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload {
            msg: encrypted,
            aad: bound,
        };
        let plain = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        plain.ok().map(Zeroizing::new)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// The keys that there are.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// That which the store is to be encrypted with.
    current: Option<Key>,
    /// Others that it may still be encrypted with.
    others: Vec<Key>,
}

impl Keys {
    /// Returns these keys. The store is to be encrypted with `current`, if there is one.
    pub fn new(current: Option<Key>, previous: Option<Key>) -> Self {
        let others = previous.into_iter().collect();
        Self { current, others }
    }

    /// Returns these keys and another one.
    #[must_use]
    pub fn with(&self, key: Key) -> Self {
        let mut keys = self.clone();
        if keys.get(key.id).is_none() {
            keys.others.push(key);
        }
        keys
    }

    /// Returns the key with this id.
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        let mut all = self.current.iter().chain(&self.others);
        all.find(|key| key.id == id)
    }

    /// Returns the form that the store is to have by these keys.
    pub fn form(&self) -> Form {
        let current = self.current.as_ref();
        current.map_or(Form::Plain, |key| Form::Encrypted(key.id))
    }

    /// Returns how to write a private part in this form. `nonce` is asked only if one is needed.
    ///
    /// # Errors
    /// Its key is missing.
    pub fn seal(&self, form: Form, nonce: impl FnOnce() -> Nonce) -> Result<Seal<'_>, StoreError> {
        match form {
            Form::Plain => Ok(Seal::Plain),
            Form::Encrypted(id) => match self.get(id) {
                Some(key) => Ok(Seal::With(key, nonce())),
                None => Err(AtRest::of(form).key_missing(id, self, "the store")),
            },
        }
    }

    /// Says which keys there are, as part of a sentence.
    fn in_words(&self) -> String {
        let ids: Vec<String> = self
            .current
            .iter()
            .chain(&self.others)
            .map(|key| key.id.to_string())
            .collect();
        match ids.as_slice() {
            [] => "no key is configured".to_owned(),
            [one] => format!("the configured key is {one}"),
            several => format!("the configured keys are {}", several.join(" and ")),
        }
    }
}

/// How one private part is written.
#[derive(Clone, Copy, Debug)]
pub enum Seal<'k> {
    /// As it is.
    Plain,
    /// The same, in the layout of version 2 of the row: for programs that read no later one.
    PlainV2,
    /// Encrypted with this key and nonce.
    With(&'k Key, Nonce),
}

/// Writes private parts in one form, outside of a batch.
#[derive(Debug)]
pub struct Sealing {
    keys: Arc<Keys>,
    form: Form,
    random: ChaCha8Rng,
}

impl Sealing {
    /// Begins. `random` makes nonces differ.
    pub fn new(keys: Arc<Keys>, form: Form, random: u128) -> Self {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&random.to_le_bytes());
        let random = ChaCha8Rng::from_seed(seed);
        Self { keys, form, random }
    }

    /// Writes them as they are.
    pub fn plain() -> Self {
        Self::new(Arc::default(), Form::Plain, 0)
    }

    /// Returns the form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Returns the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns how to write the next one.
    ///
    /// # Errors
    /// Its key is missing.
    pub fn seal(&mut self) -> Result<Seal<'_>, StoreError> {
        let Self { keys, form, random } = self;
        keys.seal(*form, || {
            let mut nonce = Nonce::default();
            random.fill_bytes(&mut nonce);
            nonce
        })
    }
}

/// A form of private parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// Not encrypted.
    #[default]
    Plain,
    /// Encrypted with this key.
    Encrypted(KeyId),
}

impl Form {
    /// Returns the key that it is encrypted with.
    pub fn key(self) -> Option<KeyId> {
        match self {
            Self::Plain => None,
            Self::Encrypted(id) => Some(id),
        }
    }

    /// Parses what is displayed.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "plain" => Some(Self::Plain),
            id => KeyId::parse(id).map(Self::Encrypted),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Encrypted(id) => id.fmt(f),
        }
    }
}

/// In which form a store keeps the private parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtRest {
    /// The form in which they are written.
    pub form: Form,
    /// The form that some still have, while all are rewritten.
    pub before: Option<Form>,
}

impl AtRest {
    /// Returns the state of a store in which all have this form.
    pub fn of(form: Form) -> Self {
        Self { form, before: None }
    }

    /// Whether a private part may have this form.
    pub fn has(self, form: Form) -> bool {
        form == self.form || Some(form) == self.before
    }

    /// Refuses a store without the keys that it needs. `what` is the store.
    ///
    /// # Errors
    /// [`StoreError::KeyMissing`].
    pub fn expect_keys(self, keys: &Keys, what: &str) -> Result<(), StoreError> {
        let wanted = [Some(self.form), self.before].into_iter().flatten();
        let mut wanted = wanted.filter_map(Form::key);
        match wanted.find(|id| keys.get(*id).is_none()) {
            Some(wanted) => Err(self.key_missing(wanted, keys, what)),
            None => Ok(()),
        }
    }

    /// Returns the error that one of the keys that it needs is not there.
    pub(crate) fn key_missing(self, wanted: KeyId, keys: &Keys, what: &str) -> StoreError {
        let do_this = match (self.form, self.before) {
            (Form::Encrypted(new), Some(Form::Encrypted(old))) => format!(
                "the change from key {old} to key {new} is not finished; set secrets.key_file to the file with key {new} and secrets.previous_key_file to the one with key {old}"
            ),
            (Form::Plain, _) => format!(
                "decrypting them is not finished; set secrets.key_file to the file with key {wanted}"
            ),
            _ => format!("set secrets.key_file to the file with key {wanted}"),
        };
        StoreError::KeyMissing {
            what: what.to_owned(),
            wanted,
            found: keys.in_words(),
            do_this,
        }
    }

    /// Returns the form that all private parts are to be brought to, if any may have another. What was begun is finished
    /// first. Without a current key nothing is decrypted: the setting may have been lost.
    pub fn next(self, keys: &Keys) -> Option<Form> {
        if self.before.is_some() {
            return Some(self.form);
        }
        let current = keys.current.as_ref();
        let form = current.map(|key| Form::Encrypted(key.id));
        form.filter(|form| *form != self.form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::new(&[n; KEY_BYTES])
    }

    fn encrypted(n: u8) -> Form {
        Form::Encrypted(key(n).id())
    }

    #[test]
    fn a_key_is_named_by_its_sha256_and_not_printed() {
        // sha256sum of 32 zero bytes.
        assert_eq!(key(0).id().to_string(), "66687aad");
        assert_eq!(KeyId::parse("66687aad"), Some(key(0).id()));
        for form in [Form::Plain, encrypted(0)] {
            assert_eq!(Form::parse(&form.to_string()), Some(form));
        }
        for bad in [
            "",
            "66687aa",
            "66687aadf",
            "66687AAD",
            "+6687aad",
            "66687aag",
        ] {
            assert_eq!(KeyId::parse(bad), None, "{bad}");
        }
        let keys = Keys::new(Some(Key::new(&[0xA7; 32])), Some(key(1)));
        let shown = format!("{keys:?}");
        assert!(!shown.contains("167") && !shown.contains("a7, "), "{shown}");
    }

    #[test]
    fn what_is_encrypted_needs_its_key_its_nonce_and_what_it_is_bound_to() {
        let (nonce, bound, plain) = ([9; 24], b"record 7".as_slice(), b"whsec_x".as_slice());
        let sealed = key(1).encrypt(&nonce, bound, plain).unwrap();
        assert!(!sealed.windows(plain.len()).any(|part| part == plain));
        let open = |with: Key, nonce: &Nonce, bound: &[u8], sealed: &[u8]| {
            let opened = with.decrypt(nonce, bound, sealed);
            opened.map(|plain| plain.to_vec())
        };
        assert_eq!(open(key(1), &nonce, bound, &sealed), Some(plain.to_vec()));
        assert_eq!(open(key(2), &nonce, bound, &sealed), None);
        assert_eq!(open(key(1), &[8; 24], bound, &sealed), None);
        assert_eq!(open(key(1), &nonce, b"record 8", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(key(1), &nonce, bound, &changed), None, "byte {at}");
        }
        assert_eq!(open(key(1), &nonce, bound, &sealed[..10]), None);
    }

    #[test]
    fn a_store_follows_the_configured_key_and_finishes_what_was_begun_first() {
        let with = |current: Option<u8>, previous: Option<u8>| {
            Keys::new(current.map(key), previous.map(key))
        };
        let unfinished = |form, before| AtRest {
            form,
            before: Some(before),
        };
        for (at_rest, keys, next) in [
            (AtRest::default(), with(None, None), None),
            (AtRest::default(), with(Some(1), None), Some(encrypted(1))),
            (AtRest::of(encrypted(1)), with(Some(1), None), None),
            (AtRest::of(encrypted(1)), with(Some(1), Some(2)), None),
            (AtRest::of(encrypted(1)), with(None, Some(1)), None),
            (
                AtRest::of(encrypted(1)),
                with(Some(2), Some(1)),
                Some(encrypted(2)),
            ),
            (
                unfinished(encrypted(2), encrypted(1)),
                with(Some(2), Some(1)),
                Some(encrypted(2)),
            ),
            (
                unfinished(encrypted(2), encrypted(1)),
                with(Some(1), Some(2)),
                Some(encrypted(2)),
            ),
            (
                unfinished(Form::Plain, encrypted(1)),
                with(Some(1), None),
                Some(Form::Plain),
            ),
        ] {
            assert!(at_rest.expect_keys(&keys, "it").is_ok(), "{at_rest:?}");
            assert_eq!(at_rest.next(&keys), next, "{at_rest:?} with {keys:?}");
        }
    }

    #[test]
    fn a_missing_key_is_named_with_what_to_do() {
        let refused = |at_rest: AtRest, keys: &Keys| {
            let refused = at_rest.expect_keys(keys, "it").unwrap_err();
            refused.to_string()
        };
        let (one, two) = (key(1).id(), key(2).id());
        assert_eq!(
            refused(AtRest::of(encrypted(1)), &Keys::default()),
            format!(
                "the secrets of it are encrypted with key {one}, and no key is configured: set secrets.key_file to the file with key {one}"
            )
        );
        assert_eq!(
            refused(AtRest::of(encrypted(1)), &Keys::new(Some(key(2)), None)),
            format!(
                "the secrets of it are encrypted with key {one}, and the configured key is {two}: set secrets.key_file to the file with key {one}"
            )
        );
        let unfinished = AtRest {
            form: encrypted(2),
            before: Some(encrypted(1)),
        };
        for (has, lacks) in [(1, two), (2, one)] {
            let refused = refused(unfinished, &Keys::new(Some(key(has)), None));
            let begins = format!("the secrets of it are encrypted with key {lacks}, and");
            assert!(refused.starts_with(&begins), "{refused}");
            let ends = format!(
                "set secrets.key_file to the file with key {two} and secrets.previous_key_file to the one with key {one}"
            );
            assert!(refused.ends_with(&ends), "{refused}");
        }
        let decrypting = AtRest {
            form: Form::Plain,
            before: Some(encrypted(1)),
        };
        let refused = refused(decrypting, &Keys::default());
        assert!(
            refused.contains("decrypting them is not finished"),
            "{refused}"
        );
    }
}
