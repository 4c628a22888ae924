//! What the end-to-end benchmarks and the micro-benchmarks both send. Measures nothing.

pub mod bodies;
