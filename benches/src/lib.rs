//! End-to-end benchmarks.
