//! Runs seeds of the simulation: one, a range, or fresh ones for some time. For a failing seed it prints the command
//! that repeats the run.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program for a terminal"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the duration of seeds is real time"
)]

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stormhook_simulation::{Tally, cluster, run};

const USAGE: &str = "usage: stormhook-simulation [--cluster] --seed N [--verbose] | --seeds A..B | --seconds S [--from N] | --hours H";
const CLUSTER: &str = "--cluster";

enum What {
    Seed(u64, bool),
    Seeds(u64, u64),
    /// For this many seconds, from this seed on.
    For(Duration, u64),
}

fn read(args: &[String]) -> Option<What> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--seed", seed] => Some(What::Seed(seed.parse().ok()?, false)),
        ["--seed", seed, "--verbose"] => Some(What::Seed(seed.parse().ok()?, true)),
        ["--seeds", range] => {
            let (from, to) = range.split_once("..")?;
            Some(What::Seeds(from.parse().ok()?, to.parse().ok()?))
        }
        ["--seconds", n] => Some(What::For(Duration::from_secs(n.parse().ok()?), by_time())),
        ["--seconds", n, "--from", seed] => Some(What::For(
            Duration::from_secs(n.parse().ok()?),
            seed.parse().ok()?,
        )),
        ["--hours", n] => {
            let hours: u64 = n.parse().ok()?;
            Some(What::For(Duration::from_secs(hours * 3_600), by_time()))
        }
        _ => None,
    }
}

/// Returns a seed that has not been run yet.
fn by_time() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::from(now.subsec_nanos()) << 20 ^ now.as_secs()
}

/// A seed takes seconds, and up to a minute on a busy machine. One that takes this long does not end.
const HANGS_AFTER: Duration = Duration::from_secs(900);

/// Ends the program, with the seed's number, if a task never yields. Nothing else would.
fn watch(seed: u64) -> mpsc::Sender<()> {
    let (ended, end) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if end.recv_timeout(HANGS_AFTER) == Err(mpsc::RecvTimeoutError::Timeout) {
            println!("seed {seed} FAILED: the run does not end");
            std::process::exit(1);
        }
    });
    ended
}

/// What is simulated, with the sums over all runs.
enum Simulated {
    /// One daemon on a file.
    File(Tally),
    /// Many on a database.
    Cluster(cluster::Tally),
}

impl Simulated {
    /// Runs a seed. Returns the violation of the contract.
    fn run(&mut self, seed: u64, verbose: bool) -> Option<String> {
        let _ended = watch(seed);
        let (violation, said) = match self {
            Self::File(sum) => {
                let report = run(seed, verbose);
                *sum += report.tally;
                let said = format!(
                    "{:016x}, {:?}\n{:#?}",
                    report.trace, report.mix, report.tally
                );
                (report.violation, said)
            }
            Self::Cluster(sum) => {
                let report = cluster::run(seed, verbose);
                *sum += report.tally;
                let said = format!(
                    "{:016x}, {:?}\n{:#?}",
                    report.trace, report.mix, report.tally
                );
                (report.violation, said)
            }
        };
        if verbose {
            println!("seed {seed}: trace {said}");
        }
        violation
    }

    fn simulated_ms(&self) -> u64 {
        match self {
            Self::File(sum) => sum.simulated_ms,
            Self::Cluster(sum) => sum.simulated_ms,
        }
    }

    fn option(&self) -> &'static str {
        match self {
            Self::File(_) => "",
            Self::Cluster(_) => "--cluster ",
        }
    }
}

/// Runs a seed, and prints any violation.
fn holds(seed: u64, verbose: bool, simulated: &mut Simulated) -> bool {
    let Some(violation) = simulated.run(seed, verbose) else {
        return true;
    };
    let option = simulated.option();
    println!(
        "seed {seed} FAILED: {violation}\n\nrepeat the run:\n  cargo run --profile simulation -p stormhook-simulation -- {option}--seed {seed} --verbose\n"
    );
    false
}

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let is_cluster = args.first().is_some_and(|first| first == CLUSTER);
    if is_cluster {
        args.remove(0);
    }
    let Some(what) = read(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let mut simulated = if is_cluster {
        Simulated::Cluster(cluster::Tally::default())
    } else {
        Simulated::File(Tally::default())
    };
    let mut seeds = 0u64;
    let mut failed = None;
    // The first failure is enough to begin with.
    let mut one = |seed: u64, verbose: bool| {
        seeds += 1;
        let held = holds(seed, verbose, &mut simulated);
        failed = failed.or((!held).then_some(seed));
        held
    };
    match what {
        What::Seed(seed, verbose) => drop(one(seed, verbose)),
        What::Seeds(from, to) => drop((from..to).all(|seed| one(seed, false))),
        What::For(time, mut seed) => {
            while started.elapsed() < time && one(seed, false) {
                seed += 1;
            }
        }
    }
    let took = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "figures for display")]
    let (count, years) = (
        seeds as f64,
        simulated.simulated_ms() as f64 / 31_557_600_000.0,
    );
    println!(
        "{seeds} seeds in {took:.1} s: {:.1} seeds/s, {years:.2} simulated years, {:.0} years per hour",
        count / took,
        years / took * 3_600.0
    );
    match simulated {
        Simulated::File(sum) => println!("{sum:?}"),
        Simulated::Cluster(sum) => println!("{sum:?}"),
    }
    match failed {
        None => ExitCode::SUCCESS,
        Some(seed) => {
            println!("seed {seed} FAILED");
            ExitCode::FAILURE
        }
    }
}
