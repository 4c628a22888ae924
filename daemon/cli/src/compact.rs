//! `stormhook compact`: rewrites a stopped store without the free space that deleted rows left. The new file replaces
//! the old one atomically once it is complete; if anything stops it earlier, the store is unchanged.

use std::path::Path;

use clap::Args;
use serde_json::json;

use crate::failure::Failure;
use crate::holder::holder_of;
use crate::local::{self, PlaceFlags, STORE_FILE};
use crate::locate;
use crate::table::size_words;
use crate::terminal::{Screen, Tone};
use stormhook_store::StoreError;

pub(crate) const EXAMPLES: &str = "\
Example:
  systemctl stop stormhook && stormhook compact && systemctl start stormhook

The daemon must be stopped. Needs free space for the compacted file. You can
stop or kill it at any moment: the store is then unchanged.";

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    places: PlaceFlags,
}

pub(crate) fn run(args: &CompactArgs, screen: &Screen) -> Result<(), Failure> {
    let folder = locate::folder(&args.places)?;
    let store = folder.join(STORE_FILE);
    let compacted = local::compact_stopped(&store).map_err(|error| match error {
        StoreError::AlreadyOpen { .. } => Failure::No(in_use(&store)),
        error if error.is_damage() => Failure::No(error.to_string()),
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Failure::Usage(locate::absent(&folder))
        }
        error => Failure::Usage(format!("{error}. The store is unchanged")),
    })?;
    let (before, after) = (compacted.before_bytes, compacted.after_bytes);
    if screen.json {
        let said = json!({"file": store, "beforeBytes": before, "afterBytes": after});
        return screen.line(&said.to_string());
    }
    if after == before {
        return screen.line(&format!(
            "Nothing to compact: {} is already as small as possible, {}",
            store.display(),
            size_words(before)
        ));
    }
    screen.line(&format!(
        "{} {}: {} before, {} now",
        screen.paint(Tone::Good, "Compacted"),
        store.display(),
        size_words(before),
        size_words(after)
    ))
}

fn in_use(store: &Path) -> String {
    let holder = holder_of(store).map_or_else(String::new, |process| {
        let name = std::fs::read_to_string(format!("/proc/{process}/comm"));
        let name = name.unwrap_or_default();
        format!(
            ", {} (process {process})",
            crate::terminal::plain(name.trim())
        )
    });
    format!(
        "{} is open in another process{holder}: stop it, compact, and start it again",
        store.display()
    )
}
