//! The domain types of stormhook, what a batch of operations decides, and the file that holds it all.
//!
//! Decisions know no store: `batch` is given the rows that it needs, and stages what is to be written. `file` is the
//! store in one redb file; nothing else uses redb or bincode. The crate never decides *whether* to retry, never reads a
//! clock, and knows nothing of HTTP: a batch of [`Op`]s and a `now` go in, a durable commit and its results come out.

pub mod api_key;
pub mod audit;
mod batch;
mod bulk;
pub mod command;
pub mod delivery;
mod directory;
pub mod endpoint;
pub mod error;
pub mod event;
mod file;
mod fingerprint;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hex;
pub mod ids;
pub mod maintenance;
pub mod op;
mod optional_bytes;
mod options;
pub mod purge;
pub mod query;
pub mod sealing;
pub mod settle;
pub mod stats;
mod swept;
pub mod times;
mod weigh;

pub use api_key::{ApiKey, ApiKeys, Scope, Scopes};
pub use audit::{Action, Attribution, AuditEntry, AuditFilter, Audited, PrincipalKind};
pub use bulk::{Bulk, BulkEffect, Reopen};
pub use command::{
    AcceptEmitted, Accepted, Attributed, BeginPurge, Cancel, CreateApiKey, CreateEndpoint, Created,
    DeleteEndpoint, DeleteOrganization, DeletedOrganization, EndpointKey, RecordAudit, Recover,
    Refusal, Replay, Retry, RevokeApiKey, RotateSecret, UpdateEndpoint,
};
pub use delivery::{Attempt, AttemptOutcome, Delivery, QueueEntry, Reason, Status, Trigger};
pub use endpoint::{Endpoint, EndpointState, NewEndpoint};
pub use error::StoreError;
pub use event::{EmittedEvent, Event, GivenTime, NewEvent};
pub use file::advance::{BulkFound, BulkWalk, ROWS_PER_STEP};
pub use file::copy::{Compacted, Copied, compact_file, copy_file};
pub use file::import::{discard_import, import_file};
pub use file::marks::{mark_moved, moved_to, reopen};
pub use file::overlay::{check_file, is_open, read_file, read_file_with_secrets};
pub use file::reader::{Explained, FileBytes, Reader, Record, StatsOf};
pub use file::reseal::reseal_file;
pub use file::store::{Applied, Store};
pub use file::sweep::{Found, Sweeper};
pub use file::transfer::{Encoded, Item, Position};
pub use hex::hex;
pub use ids::{
    ApiKeyId, AuditId, DeliveryId, EndpointId, EventId, KeyId, Now, Slot, Timestamp, UnixMs,
};
pub use op::{AttributedOp, Change, Done, Gained, Op, Operation};
pub use options::Options;
pub use purge::{Purge, PurgeEffect, PurgeFound, PurgeScope, Purges};
pub use query::{
    CheckReport, Cursor, Damage, DeliveryFilter, DeliveryWithEvent, EventFilter, List, Named, Page,
    Unreadable,
};
pub use sealing::{AtRest, Form, Key, Keys, Seal, Sealing};
pub use settle::{Disable, DisableWhen, NextStep, Settle};
pub use swept::Horizon;

/// What a store in a database needs to decide a batch as the file does, and to store the same bytes.
pub mod backend {
    pub use crate::batch::{Batch, IndexedState, Limits, Numbers, Storage};
    pub use crate::bulk::{Bulks, apply, as_read};
    pub use crate::directory::{Directory, DirectoryChange, Slots};
    pub use crate::file::record::{read, write};
    pub use crate::file::rows::{
        EndpointRead, read_delivery, read_endpoint, write_delivery, write_endpoint,
    };
    pub use crate::file::tables::{bulk_key, delivery_key, slot_key};
    pub use crate::fingerprint::Fingerprint;
    pub use crate::stats::kept_windows;
    pub use crate::weigh::Weights;
}
