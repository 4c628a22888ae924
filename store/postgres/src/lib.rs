//! The store in a PostgreSQL database (docs/adr/0024-postgres.md).
//!
//! A batch is decided by the same code as in the file ([`stormhook_store::backend::Batch`]), on the same directory in
//! memory. Here are the tables, the fetching of rows that a batch needs, and the one transaction that writes what it
//! decided. Rows of deliveries and endpoints have the same bytes as in the file, beside the columns that are searched.

mod convert;
mod fetch;
mod link;
mod load;
mod memory;
mod options;
mod partitions;
mod read;
mod rows;
mod schema;
mod staged;
mod store;
mod write;

pub use options::Options;
pub use read::{BulkWalk, Reader};
pub use schema::{VERSION, migrate};
pub use store::Store;
