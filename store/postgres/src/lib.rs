//! The store in a PostgreSQL database (docs/adr/0024-postgres.md).
//!
//! A batch is decided by the same code as in the file ([`stormhook_store::backend::Batch`]), on the same directory in
//! memory. Here are the tables, the fetching of rows that a batch needs, and the one transaction that writes what it
//! decided. Rows of deliveries and endpoints have the same bytes as in the file, beside the columns that are searched.

mod callers;
pub mod cluster;
mod convert;
mod export;
mod fetch;
mod figures;
mod fresh;
#[doc(hidden)]
pub mod hot;
mod import;
mod link;
mod load;
mod memory;
mod options;
pub mod outbox;
mod ownership;
mod partitions;
mod read;
mod recent;
mod resealing;
mod rows;
mod schema;
mod staged;
mod store;
mod sweep;
mod tls;
mod url;
mod write;

pub use cluster::marks::{discard_import, mark_moved, reopen};
pub use export::export;
pub use figures::Figures;
pub use import::import;
pub use options::{Dial, Options, Stream};
pub use outbox::Outbox;
pub use ownership::{Cluster, Holder, Moves};
pub use read::{BulkWalk, Reader};
pub use resealing::{Resealer, reseal, secrets_at_rest};
pub use schema::outbox::{install as install_outbox, pending as pending_outbox};
pub use schema::{VERSION, migrate, pending};
pub use store::Store;
pub use sweep::Sweeper;
pub use url::files as files_of_url;
