//! Runs a fuzz target without a fuzzer: every seed, and some thousand mutations of the seeds, the same each time,
//! multiplied by `STORMHOOK_FUZZ_TIMES`. It uses no type of any crate, so that unit tests of the crates it depends on
//! can use it too.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// No mutation makes an input longer than this.
const MAX_BYTES: usize = 8 << 10;
const TOKENS: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff\xff\xff\xff",
    b"[",
    b"{",
    b"\"",
    b"\\u0000",
    b":",
    b",",
    b"-",
    b"18446744073709551615",
];

/// A small generator, so that a number reproduces a run.
struct Random(SplitMix64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// The name of a target and of its seeds, and the function that takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Defines a test for each of these targets, with this many mutations.
#[macro_export]
macro_rules! smoke {
    ($targets:ident; $($name:ident: $mutations:literal),*) => {
        mod what_fuzzing_starts_from_and_what_is_made_of_it_is_taken_or_refused {
            $(
                #[test]
                fn $name() {
                    $crate::smoke::run(stringify!($name), &super::$targets, $mutations);
                }
            )*

            #[test]
            fn each_target_has_its_test() {
                let tested = [$(stringify!($name)),*];
                assert!(super::$targets.iter().all(|(name, _)| tested.contains(name)));
            }
        }
    };
}

/// Passes every seed of `name` to `target`, and `mutations` inputs made from them.
pub fn run(name: &str, targets: &[Target], mutations: usize) {
    let (_, target) = *targets.iter().find(|it| it.0 == name).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let seeds: Vec<_> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for seed in &seeds {
        call(name, target, seed);
    }
    let mut random = Random(SplitMix64::seed_from_u64(1));
    let given = std::env::var("STORMHOOK_FUZZ_TIMES").ok();
    let times: usize = given.and_then(|times| times.parse().ok()).unwrap_or(1);
    for _ in 0..mutations * times {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            let other = &seeds[random.below(seeds.len())];
            mutate(&mut bytes, other, &mut random);
        }
        bytes.truncate(MAX_BYTES);
        call(name, target, &bytes);
    }
}

fn call(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        let shown = bytes.escape_ascii();
        // As a line to paste into a shell, which writes it to a file among the seeds.
        eprintln!("{name} fails on: printf '%b' '{shown}'");
        std::panic::resume_unwind(panic);
    }
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(16)).min(bytes.len());
    match random.below(8) {
        0 => drop(bytes.drain(at..end)),
        1 => {
            let twice = bytes[at..end].to_vec();
            bytes.splice(at..at, twice);
        }
        2 => {
            let token = TOKENS[random.below(TOKENS.len())];
            bytes.splice(at..end, token.iter().copied());
        }
        3 => {
            let from = random.below(other.len() + 1);
            let upto = (from + random.below(64)).min(other.len());
            bytes.splice(at..end, other[from..upto].iter().copied());
        }
        4 => bytes.truncate(at),
        5 => bytes.insert(at, random.byte()),
        6 if at < bytes.len() => bytes[at] = random.byte(),
        _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        _ => {}
    }
}
