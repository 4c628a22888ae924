//! The domain types of stormhook, and the one file that holds them.
//!
//! Only this crate uses redb or bincode. It never decides *whether* to retry, never reads a clock, and knows nothing of
//! HTTP: a batch of [`Op`]s and a `now` go in, a durable commit and its results come out.

mod advance;
mod batch;
mod bulk;
mod check;
pub mod command;
mod copy;
pub mod delivery;
pub mod endpoint;
pub mod error;
pub mod event;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handle;
pub mod ids;
mod journal;
mod keys;
mod layer;
pub mod maintenance;
mod memory;
mod migrate;
mod missed;
pub mod op;
mod optional_bytes;
mod options;
mod overlay;
mod pack;
mod pages;
pub mod query;
pub mod reader;
mod record;
mod rows;
pub mod settle;
pub mod stats;
mod store;
mod sums;
mod sweep;
mod swept;
mod tables;
mod verified;
mod waiting;

pub use advance::{BulkFound, BulkWalk, ROWS_PER_STEP};
pub use bulk::{Bulk, BulkEffect, Reopen};
pub use command::{
    Accepted, Cancel, CreateEndpoint, Created, DeleteEndpoint, EndpointKey, Recover, Refusal,
    Replay, Retry, RotateSecret, UpdateEndpoint,
};
pub use copy::{Compacted, Copied, compact_file, copy_file};
pub use delivery::{Attempt, AttemptOutcome, Delivery, QueueEntry, Reason, Status, Trigger};
pub use endpoint::{Endpoint, EndpointState, NewEndpoint};
pub use error::StoreError;
pub use event::{Event, GivenTime, NewEvent};
pub use ids::{DeliveryId, EndpointId, EventId, Now, Slot, Timestamp, UnixMs};
pub use op::{Change, Done, Op, Operation};
pub use options::Options;
pub use overlay::{check_file, is_open, read_file};
pub use query::{
    CheckReport, Cursor, Damage, DeliveryFilter, DeliveryWithEvent, EventFilter, List, Page,
    Unreadable,
};
pub use reader::{Explained, FileBytes, Reader, Record, Scales, StatsOf};
pub use settle::{Disable, DisableWhen, NextStep, Settle};
pub use store::{Applied, Store};
pub use sweep::{Found, Sweeper};
pub use swept::Horizon;
