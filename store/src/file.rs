//! The store in one redb file: everything that knows tables, pages and the bytes of rows.

pub(crate) mod advance;
pub(crate) mod batch;
pub(crate) mod check;
pub(crate) mod copy;
pub(crate) mod guarded;
pub(crate) mod handle;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod layer;
pub(crate) mod memory;
pub(crate) mod migrate;
pub(crate) mod missed;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod pages;
pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod rows;
pub(crate) mod storage;
pub(crate) mod store;
pub(crate) mod sums;
pub(crate) mod sweep;
pub(crate) mod tables;
pub(crate) mod verified;
pub(crate) mod waiting;
