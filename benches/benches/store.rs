//! The cost of one durable commit: of accepted events and of recorded outcomes, 1, 64 and 512 at a time, for 1 and 100
//! endpoints. In memory, where a sync is free, it is the store's own work; on the build's disk it is compared with one
//! bare `fdatasync`.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a benchmark prints, measures, and panics on a wrong fixture"
)]

mod support;

use criterion::{Criterion, Throughput};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use stormhook_store::Op;
use support::run::{ON_DISK, Run};
use support::store_fixture::StoreFixture;

const GROUP: &str = "store";
const IN_MEMORY: &str = "/dev/shm";
const BATCHES: [usize; 3] = [1, 64, 512];
const ENDPOINTS: [usize; 2] = [1, 100];
/// Events accepted per commit where that is not what is measured.
const ASIDE: usize = 512;
/// Events per sweep.
const SWEPT: usize = 4_096;
const SWEEPS: &str = "disk, sweep of 4,096 events";
const LIVES: &str = "disk, accept and settle of 4,096 events, 512 a commit";
const SYNC: &str = "disk, fdatasync of 4 KiB";

fn timed(bed: &mut StoreFixture, batches: Vec<Vec<Op>>) -> Duration {
    let mut spent = Duration::ZERO;
    for ops in batches {
        let start = Instant::now();
        let applied = bed.apply(ops);
        spent += start.elapsed();
        drop(applied);
    }
    spent
}

/// Returns the time of this many commits of `batch` events each.
fn accepts(bed: &mut StoreFixture, batch: usize, commits: u64) -> Duration {
    (0..commits)
        .map(|_| {
            let ops = bed.accepts(batch);
            timed(bed, vec![ops])
        })
        .sum()
}

/// Returns the time of this many commits of `batch` outcomes each, of deliveries created just before.
fn settles(bed: &mut StoreFixture, batch: usize, commits: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = usize::try_from(commits).expect("the count fits");
    while left > 0 {
        let now = left.min(ASIDE / batch);
        let opened = bed.deliveries(now * batch);
        let batches = opened.chunks(batch).map(|ids| bed.settles(ids)).collect();
        spent += timed(bed, batches);
        left -= now;
    }
    spent
}

/// Returns the time of this many sweeps of events that were accepted and settled just before and are past their
/// retention.
fn sweeps(bed: &mut StoreFixture, times: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..times {
        for _ in 0..SWEPT / ASIDE {
            let opened = bed.deliveries(ASIDE);
            let settles = bed.settles(&opened);
            bed.apply(settles);
        }
        while let Some(sweep) = bed.sweep() {
            let start = Instant::now();
            bed.apply(vec![sweep]);
            spent += start.elapsed();
        }
    }
    spent
}

/// Accepts and settles the same number, for comparison.
fn lives(bed: &mut StoreFixture, times: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..times * (SWEPT / ASIDE) as u64 {
        let ops = bed.accepts(ASIDE);
        let start = Instant::now();
        let applied = bed.apply(ops);
        spent += start.elapsed();
        let settles = bed.settles(&StoreFixture::opened(applied));
        spent += timed(bed, vec![settles]);
    }
    spent
}

fn retention(criterion: &mut Criterion, folder: &Path) {
    let mut group = criterion.benchmark_group(GROUP);
    group.throughput(Throughput::Elements(SWEPT as u64));
    group.bench_function(LIVES, |b| {
        let mut bed = StoreFixture::new(folder, 100);
        b.iter_custom(|times| lives(&mut bed, times));
    });
    group.bench_function(SWEEPS, |b| {
        let mut bed = StoreFixture::new(folder, 100);
        b.iter_custom(|times| sweeps(&mut bed, times));
    });
    group.finish();
}

fn line(place: &str, what: &str, batch: usize, endpoints: usize) -> String {
    format!("{place}, {what}, {batch} a commit, {endpoints} endpoints")
}

fn commits(criterion: &mut Criterion, place: &str, folder: &Path) {
    type Work = fn(&mut StoreFixture, usize, u64) -> Duration;
    let works: [(&str, Work); 2] = [("accept", accepts), ("settle", settles)];
    let mut group = criterion.benchmark_group(GROUP);
    for endpoints in ENDPOINTS {
        for batch in BATCHES {
            for (what, work) in works {
                group.throughput(Throughput::Elements(batch as u64));
                group.bench_function(line(place, what, batch, endpoints), |b| {
                    let mut bed = StoreFixture::new(folder, endpoints);
                    b.iter_custom(|commits| work(&mut bed, batch, commits));
                });
            }
        }
    }
    group.finish();
}

fn sync(criterion: &mut Criterion, folder: &Path) {
    let mut group = criterion.benchmark_group(GROUP);
    group.bench_function(SYNC, |b| {
        let folder = tempfile::tempdir_in(folder).expect("a folder");
        let file = File::create(folder.path().join("page")).expect("a file");
        b.iter(|| {
            file.write_all_at(&[7; 4_096], 0).expect("a page written");
            file.sync_data().expect("a page on the disk");
        });
    });
    group.finish();
}

fn main() {
    let run = Run::begin();
    let mut criterion = run
        .criterion()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let disk = Path::new(ON_DISK);
    let memory = Path::new(IN_MEMORY);
    if memory.is_dir() {
        commits(&mut criterion, "memory", memory);
    }
    commits(&mut criterion, "disk", disk);
    retention(&mut criterion, disk);
    sync(&mut criterion, disk);
    criterion.final_summary();
    for endpoints in ENDPOINTS {
        for batch in BATCHES {
            let lines = ["accept", "settle"].map(|what| line("disk", what, batch, endpoints));
            run.ratios(GROUP, &lines, SYNC);
        }
    }
    run.ratios(GROUP, &[SWEEPS], LIVES);
}
