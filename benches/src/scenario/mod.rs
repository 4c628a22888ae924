//! The scenarios, one file each. A scenario builds what it needs, measures, checks, and writes its lines. It
//! judges a figure only through a line's target.

pub(crate) mod backlog;
pub(crate) mod callers;
pub(crate) mod cluster;
pub(crate) mod concurrency;
pub(crate) mod fairness;
pub(crate) mod filesize;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod scale;
pub(crate) mod start;
pub(crate) mod steady;
pub(crate) mod throughput;
