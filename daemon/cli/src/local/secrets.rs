//! The keys of secrets, and in which form a store keeps them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::database::Database;
use super::{STORE_FILE, StoreState, look};
use crate::client::Client;
use crate::failure::Failure;
use stormhook_daemon::config::Config;
use stormhook_engine::environment::{Environment, System};
use stormhook_store::{AtRest, Form, KeyId, Keys, Sealing};

/// How long whoever has the store may take to say in which form it keeps secrets.
const WITHIN: Duration = Duration::from_secs(2);

/// Reads the keys that a configuration names.
pub(super) fn keys_of(config: &Config) -> Result<Arc<Keys>, Failure> {
    stormhook_daemon::secrets::keys(config).map_err(|error| Failure::Usage(error.to_string()))
}

/// Returns how an import writes secrets with these keys: encrypted, if there is a current one.
pub(super) fn sealing(keys: Arc<Keys>) -> Sealing {
    let form = keys.form();
    Sealing::new(keys, form, System.random_u128())
}

/// Rewrites the secrets of a stopped store in this form. What was begun before is finished first.
pub(crate) fn reseal_stopped(
    store: &Path,
    keys: Arc<Keys>,
    to: Form,
    mut each: impl FnMut(u64),
) -> Result<(), Failure> {
    let random = || System.random_u128();
    let resealed =
        stormhook_store::reseal_file(store, keys, to, System.wall(), random, |_| each(1));
    resealed.map_err(|error| Failure::No(error.to_string()))
}

/// What a daemon says of the form of its secrets.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretsReport {
    pub(crate) key_id: Option<String>,
    previous_key_id: Option<String>,
    pub(crate) finished: bool,
}

impl SecretsReport {
    fn at_rest(&self) -> Option<AtRest> {
        let form = |id: &Option<String>| match id {
            Some(id) => KeyId::parse(id).map(Form::Encrypted),
            None => Some(Form::Plain),
        };
        let before = form(&self.previous_key_id)?;
        Some(AtRest {
            form: form(&self.key_id)?,
            before: (!self.finished).then_some(before),
        })
    }
}

/// Returns in which form the store keeps its secrets, if whoever has it says so in time.
pub(super) async fn at_rest_of(config: &Config) -> Option<AtRest> {
    let asking = async {
        if let Some(database) = Database::in_config(config).ok()? {
            return database.at_rest().await.ok();
        }
        match look(&config.data_dir) {
            StoreState::AtRest => {
                let path = config.data_dir.join(STORE_FILE);
                Some(stormhook_store::read_file(&path).ok()?.at_rest())
            }
            StoreState::InUse => {
                let client = Client::at(config.socket.clone()?);
                let told: SecretsReport = client.get("/v1/secrets").await.ok()?.read().ok()?;
                told.at_rest()
            }
            StoreState::Absent | StoreState::Unreadable(_) => None,
        }
    };
    tokio::time::timeout(WITHIN, asking).await.ok().flatten()
}

/// Says in which form a store keeps its secrets.
pub(super) fn in_words(at_rest: AtRest) -> String {
    match (at_rest.form, at_rest.before) {
        (Form::Plain, None) => "The store's secrets are not encrypted".to_owned(),
        (Form::Encrypted(id), None) => format!("The store's secrets are encrypted with key {id}"),
        (Form::Encrypted(id), Some(Form::Plain)) => {
            format!("The store's secrets are being encrypted with key {id}")
        }
        (Form::Encrypted(new), Some(Form::Encrypted(old))) => format!(
            "The store's secrets are being encrypted with key {new}; some still are with key {old}"
        ),
        (Form::Plain, Some(old)) => format!(
            "The store's secrets are being decrypted; some still are encrypted with key {old}"
        ),
    }
}
