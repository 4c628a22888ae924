//! The row of an endpoint: a public part, and a private part that is encrypted if the store is.
//!
//! Everything that signs or is a credential belongs in the private part, everything else in the public one: `check`,
//! lists and exports read that without a key. The private part is bound to the row's key and to its public part, so one
//! that was put into another row, or whose URL was changed, can't be decrypted.

use crate::delivery::Reason;
use crate::endpoint::{
    CustomHeaders, Endpoint, LiveSecret, Ordering, Sealed, Seed, Settings, TypePattern,
};
use crate::error::StoreError;
use crate::file::record;
use crate::file::rows::tls::{self, TlsRow};
use crate::file::tables;
use crate::ids::{EndpointId, KeyId, UnixMs};
use crate::sealing::{AtRest, Form, Keys, Nonce, Seal};
use serde::{Deserialize, Serialize};
use stormhook_verifier::Secret;
use zeroize::{Zeroize, Zeroizing};

const ENDPOINTS: &str = "endpoints";

/// The public part.
#[derive(Serialize, Deserialize)]
struct PublicRow {
    id: EndpointId,
    organization: String,
    url: String,
    event_types: Vec<TypePattern>,
    active: bool,
    disabled_reason: Option<String>,
    description: Option<String>,
    header_names: Vec<String>,
    rate_limit_per_second: Option<f64>,
    ordering: Ordering,
    ed25519: bool,
    created_at: UnixMs,
    updated_at: UnixMs,
    deleted_at: Option<UnixMs>,
    tls: Option<TlsRow>,
}

/// The private part.
#[derive(Serialize, Deserialize)]
struct PrivateRow {
    /// In the order of their names.
    header_values: Vec<String>,
    secrets: Vec<SecretRow>,
    /// The private key of the client certificate.
    client_key: Option<Vec<u8>>,
}

/// A row being written or read exists only briefly, and leaves nothing in memory.
impl Drop for PrivateRow {
    fn drop(&mut self) {
        self.header_values.zeroize();
        self.client_key.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
struct SecretRow {
    text: String,
    until: Option<UnixMs>,
    seed: Option<[u8; 32]>,
}

/// The private part as it is stored.
#[derive(Serialize, Deserialize)]
enum StoredPart {
    Plain(Vec<u8>),
    Encrypted {
        key: KeyId,
        nonce: Nonce,
        bytes: Vec<u8>,
    },
}

impl StoredPart {
    fn form(&self) -> Form {
        match self {
            Self::Plain(_) => Form::Plain,
            Self::Encrypted { key, .. } => Form::Encrypted(*key),
        }
    }
}

impl Drop for StoredPart {
    fn drop(&mut self) {
        if let Self::Plain(bytes) = self {
            bytes.zeroize();
        }
    }
}

/// Versions 1 and 2, in one part. In version 1 its marks follow.
#[derive(Serialize, Deserialize)]
struct RowV2 {
    id: EndpointId,
    organization: String,
    settings: Settings,
    secrets: Vec<SecretRow>,
    created_at: UnixMs,
    updated_at: UnixMs,
    deleted_at: Option<UnixMs>,
}

impl SecretRow {
    fn of(live: &LiveSecret) -> Self {
        Self {
            text: live.secret.expose().to_owned(),
            until: live.until,
            seed: live.seed.as_ref().map(|seed| *seed.expose()),
        }
    }

    fn read(&self, endpoint: EndpointId) -> Result<LiveSecret, StoreError> {
        let secret = Secret::parse(&self.text)
            .map_err(|e| StoreError::damaged(format!("a secret of {endpoint}"), e.to_string()))?;
        Ok(LiveSecret {
            secret,
            until: self.until,
            seed: self.seed.as_ref().map(Seed::from_random),
        })
    }
}

impl Drop for SecretRow {
    fn drop(&mut self) {
        self.text.zeroize();
        self.seed.zeroize();
    }
}

impl RowV2 {
    fn of(e: &Endpoint) -> Self {
        Self {
            id: e.id,
            organization: e.organization.clone(),
            settings: e.settings.clone(),
            secrets: e.secrets.iter().map(SecretRow::of).collect(),
            created_at: e.created_at,
            updated_at: e.updated_at,
            deleted_at: e.deleted_at,
        }
    }
}

impl PublicRow {
    fn of(e: &Endpoint) -> Self {
        Self {
            id: e.id,
            organization: e.organization.clone(),
            url: e.url.clone(),
            event_types: e.event_types.clone(),
            active: e.active,
            disabled_reason: e.disabled_reason.clone(),
            description: e.description.clone(),
            header_names: e.headers.0.keys().cloned().collect(),
            rate_limit_per_second: e.rate_limit_per_second,
            ordering: e.ordering,
            ed25519: e.signs_with_ed25519(),
            created_at: e.created_at,
            updated_at: e.updated_at,
            deleted_at: e.deleted_at,
            tls: e.tls.as_deref().map(TlsRow::of),
        }
    }

    /// Returns the endpoint without what its private part has.
    fn into_endpoint(self, key: &[u8; 4]) -> Endpoint {
        let unknown = |name| (name, String::new());
        Endpoint {
            id: self.id,
            slot: tables::slot_of(key),
            organization: self.organization,
            settings: Settings {
                url: self.url,
                event_types: self.event_types,
                active: self.active,
                disabled_reason: self.disabled_reason,
                description: self.description,
                headers: CustomHeaders(self.header_names.into_iter().map(unknown).collect()),
                rate_limit_per_second: self.rate_limit_per_second,
                ordering: self.ordering,
                tls: None,
            },
            secrets: Vec::new(),
            sealed: None,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
        }
    }
}

impl PrivateRow {
    fn of(e: &Endpoint) -> Self {
        Self {
            header_values: e.headers.0.values().cloned().collect(),
            secrets: e.secrets.iter().map(SecretRow::of).collect(),
            client_key: e.tls.as_deref().and_then(tls::client_key),
        }
    }

    fn join(&mut self, e: &mut Endpoint, tls: Option<TlsRow>) -> Result<(), StoreError> {
        if self.header_values.len() != e.headers.0.len() {
            let what = format!("the private part of {}", e.id);
            let detail = "it has not one value for each header";
            return Err(StoreError::damaged(what, detail));
        }
        let values = e.settings.headers.0.values_mut();
        for (value, stored) in values.zip(&self.header_values) {
            value.clone_from(stored);
        }
        let secrets = self.secrets.iter().map(|secret| secret.read(e.id));
        e.secrets = secrets.collect::<Result<_, _>>()?;
        let client_key = self.client_key.take();
        e.settings.tls = tls.and_then(|tls| tls.into_tls(client_key));
        Ok(())
    }
}

/// Returns what a private part is bound to.
fn bound_to(key: &[u8], public: &[u8]) -> Vec<u8> {
    [ENDPOINTS.as_bytes(), &[0], key, public].concat()
}

/// Returns the row of an endpoint.
///
/// # Errors
/// Its private part was not decrypted, so it can't be written.
pub fn write_endpoint(e: &Endpoint, seal: Seal<'_>) -> Result<Vec<u8>, StoreError> {
    if let Some(sealed) = &e.sealed {
        let at_rest = AtRest::of(Form::Encrypted(sealed.key));
        return Err(at_rest.key_missing(sealed.key, &Keys::default(), &e.id.to_string()));
    }
    let key = tables::slot_key(e.slot);
    // A row of version 2 has no place for TLS settings. Daemons that read no other must not lose them.
    if let (Seal::PlainV2, None) = (&seal, &e.tls) {
        return record::write_as(2, ENDPOINTS, &key, |out| {
            record::content(out, &RowV2::of(e))
        });
    }
    record::write_with(ENDPOINTS, &key, |out| {
        let public = out.len();
        record::content(out, &PublicRow::of(e))?;
        let mut private = Zeroizing::new(Vec::new());
        record::content(&mut private, &PrivateRow::of(e))?;
        let part = match seal {
            Seal::Plain | Seal::PlainV2 => StoredPart::Plain(std::mem::take(&mut *private)),
            Seal::With(with, nonce) => {
                let public = out.get(public..).unwrap_or_default();
                StoredPart::Encrypted {
                    key: with.id(),
                    nonce,
                    bytes: with.encrypt(&nonce, &bound_to(&key, public), &private)?,
                }
            }
        };
        record::content(out, &part)
    })
}

/// An endpoint as it was read, and the form of its private part. Without the key for it, [`Endpoint::sealed`] is set.
#[derive(Debug)]
pub struct EndpointRead {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The form.
    pub form: Form,
}

/// Reads the row of an endpoint.
///
/// # Errors
/// It is damaged, or newer than this version.
pub fn read_endpoint(key: &[u8; 4], bytes: &[u8], keys: &Keys) -> Result<EndpointRead, StoreError> {
    let (version, content) = record::versioned(ENDPOINTS, key, bytes)?;
    if version < 3 {
        let (endpoint, _) = read_endpoint_and_marks(key, bytes)?;
        let form = Form::Plain;
        return Ok(EndpointRead { endpoint, form });
    }
    let (mut public, used): (PublicRow, usize) = record::read_next(ENDPOINTS, content)?;
    let (bound, rest) = content.split_at_checked(used).unwrap_or_default();
    let part: StoredPart = record::read_content(ENDPOINTS, rest)?;
    let form = part.form();
    let ed25519 = public.ed25519;
    let tls = public.tls.take();
    let mut endpoint = public.into_endpoint(key);
    let private = match &part {
        StoredPart::Plain(bytes) => Zeroizing::new(bytes.clone()),
        StoredPart::Encrypted {
            key: id,
            nonce,
            bytes,
        } => match keys.get(*id) {
            Some(with) => with
                .decrypt(nonce, &bound_to(key, bound), bytes)
                .ok_or_else(|| not_of_this_row(&endpoint))?,
            None => {
                endpoint.sealed = Some(Sealed { key: *id, ed25519 });
                // What is trusted is known without the key.
                endpoint.settings.tls = tls.and_then(|tls| tls.into_tls(None));
                return Ok(EndpointRead { endpoint, form });
            }
        },
    };
    let mut private: PrivateRow = record::read_content(ENDPOINTS, &private)?;
    private.join(&mut endpoint, tls)?;
    Ok(EndpointRead { endpoint, form })
}

fn not_of_this_row(e: &Endpoint) -> StoreError {
    let what = format!("the private part of {}", e.id);
    let detail = "it can't be decrypted: it, the rest of the row or the row's place was changed";
    StoreError::damaged(what, detail)
}

/// The part of version 1 of an endpoint's row beyond the endpoint: that open deliveries ended, up to a stamp.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct MarkV1 {
    /// The last stamp that it covers.
    pub(crate) stamp: u64,
    pub(crate) reason: Reason,
    pub(crate) at: UnixMs,
}

/// Reads a row of version 1 or 2.
pub(crate) fn read_endpoint_and_marks(
    key: &[u8; 4],
    bytes: &[u8],
) -> Result<(Endpoint, Vec<MarkV1>), StoreError> {
    let (version, content) = record::versioned(ENDPOINTS, key, bytes)?;
    let (row, marks): (RowV2, Vec<MarkV1>) = if version == 1 {
        record::read_content(ENDPOINTS, content)?
    } else {
        (record::read_content(ENDPOINTS, content)?, Vec::new())
    };
    let secrets = row.secrets.iter().map(|secret| secret.read(row.id));
    let secrets = secrets.collect::<Result<_, _>>()?;
    let endpoint = Endpoint {
        id: row.id,
        slot: tables::slot_of(key),
        organization: row.organization,
        settings: row.settings,
        secrets,
        sealed: None,
        created_at: row.created_at,
        updated_at: row.updated_at,
        deleted_at: row.deleted_at,
    };
    Ok((endpoint, marks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Slot;
    use crate::sealing::Key;

    fn endpoint() -> Endpoint {
        Endpoint {
            id: EndpointId(7),
            slot: Slot(3),
            organization: "org".to_owned(),
            settings: Settings {
                url: "https://partner.example/hooks".to_owned(),
                event_types: vec![TypePattern::All],
                active: true,
                headers: CustomHeaders(
                    [("x-api-key".to_owned(), "planted-value".to_owned())].into(),
                ),
                ..Settings::default()
            },
            secrets: vec![LiveSecret {
                secret: Secret::parse("planted-secret-of-mine").unwrap(),
                seed: Some(Seed::from_random(&[0xA7; 32])),
                until: Some(UnixMs(9)),
            }],
            sealed: None,
            created_at: UnixMs(1),
            updated_at: UnixMs(2),
            deleted_at: None,
        }
    }

    fn keys(n: u8) -> Keys {
        Keys::new(Some(Key::new(&[n; 32])), None)
    }

    fn written(e: &Endpoint, keys: &Keys) -> Vec<u8> {
        let seal = keys.seal(keys.form(), || [5; 24]).unwrap();
        write_endpoint(e, seal).unwrap()
    }

    fn has(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn an_encrypted_row_shows_everything_but_what_is_private_and_reads_back_with_its_key() {
        let row = written(&endpoint(), &keys(1));
        for secret in [&b"planted-value"[..], b"planted-secret-of-mine", &[0xA7; 8]] {
            assert!(!has(&row, secret));
        }
        assert!(has(&row, b"https://partner.example/hooks"));
        let key = tables::slot_key(Slot(3));
        let read = read_endpoint(&key, &row, &keys(1)).unwrap();
        assert_eq!(read.form, keys(1).form());
        let whole = read.endpoint;
        assert_eq!(whole.settings, endpoint().settings);
        assert_eq!(whole.secrets[0].secret.expose(), "planted-secret-of-mine");
        assert_eq!(whole.secrets[0].until, Some(UnixMs(9)));
        let seed = whole.secrets[0].seed.as_ref();
        assert_eq!(seed.unwrap().expose(), &[0xA7; 32]);

        let without = read_endpoint(&key, &row, &keys(2)).unwrap().endpoint;
        assert_eq!(without.url, endpoint().url);
        assert_eq!(without.headers.0["x-api-key"], "");
        assert!(without.signs_with_ed25519() && without.secrets.is_empty());
        let refused = write_endpoint(&without, Seal::Plain).unwrap_err();
        assert!(
            matches!(refused, StoreError::KeyMissing { .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_plain_row_reads_back_without_a_key() {
        let row = written(&endpoint(), &Keys::default());
        assert!(has(&row, b"planted-value") && has(&row, b"planted-secret-of-mine"));
        let read = read_endpoint(&tables::slot_key(Slot(3)), &row, &Keys::default()).unwrap();
        assert_eq!(read.form, Form::Plain);
        assert_eq!(read.endpoint.settings, endpoint().settings);
        let earlier = write_endpoint(&endpoint(), Seal::PlainV2).unwrap();
        assert_eq!((row[0], earlier[0]), (3, 2));
        let read = read_endpoint(&tables::slot_key(Slot(3)), &earlier, &Keys::default()).unwrap();
        assert_eq!(read.form, Form::Plain);
        assert_eq!(read.endpoint.settings, endpoint().settings);
        assert!(read.endpoint.signs_with_ed25519());
    }

    /// Puts another content into a row, with its checksum.
    fn with_content(slot: Slot, content: &[u8]) -> Vec<u8> {
        let key = tables::slot_key(slot);
        let row = record::write_with(ENDPOINTS, &key, |out| {
            out.extend_from_slice(content);
            Ok(())
        });
        row.unwrap()
    }

    #[test]
    fn a_private_part_in_another_row_or_beside_another_url_is_damage() {
        let row = written(&endpoint(), &keys(1));
        let content = &row[record::HEAD_BYTES..];
        let read = |slot: Slot, content: &[u8]| {
            let row = with_content(slot, content);
            read_endpoint(&tables::slot_key(slot), &row, &keys(1))
        };
        assert!(read(Slot(3), content).is_ok());
        let moved = read(Slot(4), content).unwrap_err();
        assert!(moved.is_damage(), "{moved}");
        let at = content.windows(7).position(|part| part == b"partner");
        let mut redirected = content.to_vec();
        redirected[at.unwrap()] = b'q';
        let redirected = read(Slot(3), &redirected).unwrap_err();
        assert!(
            redirected.is_damage() && redirected.to_string().contains("can't be decrypted"),
            "{redirected}"
        );
    }
}
