//! `stormhook rekey`: encrypts the secrets of a store with another key, or decrypts them. A running daemon does it in the
//! background; a stopped store or a database without daemons is rewritten here. Either can be interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::export::blocking;
use crate::failure::Failure;
use crate::local::{self, PlaceFlags, STORE_FILE, SecretsReport};
use crate::locate::{self, Found};
use crate::options::DaemonOptions;
use crate::progress::Counted;
use crate::socket::Surroundings;
use crate::terminal::Screen;
use stormhook_store::{Form, Key, Keys};

/// How often a daemon is asked whether it has finished.
const ASK_EVERY: Duration = Duration::from_millis(100);

pub(crate) const EXAMPLES: &str = "\
Examples:
  openssl rand -out /etc/stormhook/key-2 32
  stormhook rekey --new-key-file /etc/stormhook/key-2
  stormhook rekey --to-plain

Rewrites endpoints' secrets and header values with the new key; --to-plain
decrypts them. The daemon may run, and reads the new key's file itself. With
store.url, stop all daemons first.
As soon as it has begun, the store opens only with the new key in
secrets.key_file and, until it has ended, the one before in
secrets.previous_key_file. If it is interrupted, start the daemon so, or run it
again. Earlier bytes can remain in free pages of the file until it is compacted.";

#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// The file of the new key: 32 random bytes, raw or in base64
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "to_plain",
        conflicts_with = "to_plain"
    )]
    new_key_file: Option<PathBuf>,
    /// Decrypt: keep secrets as they are
    #[arg(long)]
    to_plain: bool,
    #[command(flatten)]
    places: PlaceFlags,
}

pub(crate) async fn run(
    args: RekeyArgs,
    daemon: DaemonOptions,
    screen: Screen,
) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(daemon);
    let file = args.new_key_file.as_deref().map(absolute).transpose()?;
    let configured = args.places.load(surroundings.flag.as_deref());
    let keyed = || Ok::<_, Failure>(with_key(new_key(file.as_deref())?, &args.places.keys()?));
    let form = if let Ok(Some(database)) = configured.map(|places| places.database) {
        let (form, keys) = keyed()?;
        let progress = Counted::start("rewriting");
        let database = database.with_keys(keys);
        let done = database.reseal(form, |written| progress.add(written)).await;
        progress.finish();
        done.map_err(|error| Failure::No(error.to_string()))?;
        form.to_string()
    } else {
        match locate::find(&args.places, &surroundings, &screen).await? {
            Found::Daemon(client) => by_daemon(&client, file.as_deref(), &screen).await?,
            Found::Stopped(folder) => {
                let (form, keys) = keyed()?;
                let store = folder.join(STORE_FILE);
                let progress = Counted::start("rewriting");
                let shown = progress.clone();
                let done = blocking(move || {
                    local::reseal_stopped(&store, keys, form, |written| shown.add(written))
                });
                let done = done.await;
                progress.finish();
                done?;
                form.to_string()
            }
        }
    };
    tell(&form, file.as_deref(), &screen)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::local(&format!("find {}", path.display()), &error))
}

fn new_key(file: Option<&Path>) -> Result<Option<Key>, Failure> {
    let key = file.map(stormhook_daemon::secrets::key).transpose();
    key.map_err(|error| Failure::Usage(error.to_string()))
}

/// Returns the form that is asked for, and all keys that there are.
fn with_key(key: Option<Key>, keys: &Arc<Keys>) -> (Form, Arc<Keys>) {
    match key {
        Some(key) => (Form::Encrypted(key.id()), Arc::new(keys.with(key))),
        None => (Form::Plain, Arc::clone(keys)),
    }
}

/// Has the daemon do it, and waits until it has. Returns the form.
async fn by_daemon(
    client: &Client,
    file: Option<&Path>,
    screen: &Screen,
) -> Result<String, Failure> {
    let path = file.map(|file| {
        let utf8 = file.to_str().map(str::to_owned);
        utf8.ok_or_else(|| {
            Failure::Usage(format!("{} is not UTF-8: use another path", file.display()))
        })
    });
    let asked = json!({"newKeyFile": path.transpose()?});
    let begun = client
        .send(Method::POST, "/v1/secrets/rekey", &asked)
        .await?;
    let mut told: SecretsReport = begun.read()?;
    let form = told
        .key_id
        .clone()
        .unwrap_or_else(|| Form::Plain.to_string());
    if !told.finished {
        screen.remark("The daemon rewrites the secrets. If it stops before it has finished, start it with the new key in secrets.key_file and the one before in secrets.previous_key_file.");
    }
    while !told.finished {
        tokio::time::sleep(ASK_EVERY).await;
        told = client.get("/v1/secrets").await?.read()?;
    }
    Ok(form)
}

fn tell(form: &str, file: Option<&Path>, screen: &Screen) -> Result<(), Failure> {
    screen.line(&match file {
        Some(file) => format!(
            "All secrets are encrypted with key {form}. Set secrets.key_file to {} before the daemon starts again: the key before is refused.",
            file.display()
        ),
        None => "All secrets are decrypted. Remove secrets.key_file before the daemon starts again, or it encrypts them.".to_owned(),
    })?;
    screen.remark("Earlier bytes can remain in free pages of the file until `stormhook compact`; in a database, until VACUUM FULL.");
    Ok(())
}
