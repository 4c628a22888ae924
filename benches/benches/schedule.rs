//! One turn of the schedule with many open deliveries: one is added, one is claimed, and the oldest in flight ends.
//! Compared with the least that keeps an order: one binary heap of the same size, without fairness, limits, or a way to
//! find a delivery again.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and panics on a wrong fixture"
)]

mod support;

use criterion::{BenchmarkId, Criterion};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use support::fixture::Draw;
use support::run::Run;
use support::turns::Turns;

const GROUP: &str = "schedule";
const ENDPOINTS: u32 = 100;
const IN_FLIGHT: usize = 256;
const SIZES: [u64; 3] = [1_000, 100_000, 1_000_000];

fn turns(criterion: &mut Criterion, size: u64) {
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function(BenchmarkId::new("turn", size), |b| {
        let mut turns = Turns::new(ENDPOINTS, size, IN_FLIGHT);
        b.iter(|| turns.turn());
    });
    group.finish();
}

fn heap(criterion: &mut Criterion, size: u64) {
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function(BenchmarkId::new("heap", size), |b| {
        let mut draw = Draw::seeded(7);
        let mut clock = 0;
        let mut entry = || {
            clock += 1;
            Reverse((clock, draw.wide(), clock))
        };
        let mut heap: BinaryHeap<_> = (0..size).map(|_| entry()).collect();
        b.iter(|| {
            heap.push(entry());
            black_box(heap.pop())
        });
    });
    group.finish();
}

fn main() {
    let run = Run::begin();
    let mut criterion = run.criterion();
    for size in SIZES {
        turns(&mut criterion, size);
        heap(&mut criterion, size);
    }
    criterion.final_summary();
    for size in SIZES {
        run.ratios(GROUP, &[format!("turn/{size}")], &format!("heap/{size}"));
    }
    run.ratios(GROUP, &["turn/1000000", "turn/100000"], "turn/1000");
}
