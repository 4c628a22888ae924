//! End-to-end benchmarks: one command that starts real processes (daemon, sink, load generator) and prints
//! each figure beside the limit measured in the same run. It fails when something is lost, duplicated or
//! wrongly signed, never because a figure is poor. `README.md` explains each line.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output is the purpose of a benchmark"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "displayed figures, far below 2^53"
)]

mod api;
mod bench;
mod clock;
mod daemon;
mod draw;
mod error;
mod ledger;
mod load;
mod proc;
mod process;
mod report;
mod rounds;
mod scenario;
mod signature;
mod sink;
mod talker;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::bench::{Bench, SECRET};
use crate::error::{BenchError, Doing, Result};
use crate::process::Sink;
use crate::report::Report;
use crate::scenario::throughput::LANES;
use crate::scenario::{
    backlog, callers, cluster, concurrency, fairness, filesize, idle, latency, scale, start,
    steady, throughput,
};

/// The time limit of one scenario.
const SCENARIO_TIMEOUT: Duration = Duration::from_secs(2_700);

/// Names for the command line, in the order in which they run.
const SCENARIOS: &[&str] = &[
    "ceiling",
    "single",
    "keyed",
    "stream",
    "steady",
    "filesize",
    "start",
    "idle",
    "fairness",
    "backlog",
    "concurrency",
    "latency",
    "callers",
    "scale",
    "cluster",
    "takeover",
    "reader",
];

/// Run only if they are named, because they take too long, or need Node and PostgreSQL.
const NAMED_ONLY: &[&str] = &["scale", "cluster", "takeover", "reader"];

/// Measures stormhook against the limits of this machine in the same run.
#[derive(Parser)]
#[command(name = "stormhook-benches", args_conflicts_with_subcommands = true)]
struct Cli {
    /// Which scenarios to run; all by default.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(SCENARIOS))]
    scenarios: Vec<String>,
    /// Smaller counts: a quick look, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Also writes the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws lines with several points as SVG into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// How many deliveries are open at the end of `scale`.
    #[arg(long, default_value_t = 10_000_000)]
    waiting: u64,
    /// How long `cluster` and `reader` hold a transaction open, in seconds; 120 by default, 5 with `--quick`.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    reader_seconds: Option<u64>,
    /// The daemon's program; built in release mode by default.
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// The directory of the stores, on the disk to be measured. By default beside the build.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The role of this program when it started itself.
#[derive(Subcommand)]
enum Role {
    /// The receiving process.
    #[command(hide = true)]
    Sink {
        /// Worker threads.
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// The producing process.
    #[command(hide = true)]
    Load(load::LoadArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.role {
        Some(Role::Sink { threads }) => {
            let secret = std::env::var("BENCH_SECRET").unwrap_or_default();
            sink::run(&secret, *threads).map(|()| true)
        }
        Some(Role::Load(args)) => load::run(args).map(|()| true),
        None => measure(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("stormhook-benches: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the build directory, from the path of this program: `<build>/<profile>/stormhook-benches`.
fn build_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().doing("finding this program")?;
    let folder = program
        .parent()
        .and_then(Path::parent)
        .map(Path::to_path_buf);
    folder.ok_or_else(|| {
        BenchError::wrong("this program is not in a build directory: pass --daemon and --dir")
    })
}

/// Builds the daemon in release mode.
fn built_daemon() -> Result<PathBuf> {
    let folder = build_folder()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args([
        "build",
        "--release",
        "--quiet",
        "-p",
        "stormhook",
        "--bin",
        "stormhook",
    ]);
    command.arg("--target-dir").arg(&folder);
    let status = command
        .status()
        .doing("starting cargo to build the daemon")?;
    if !status.success() {
        return Err(BenchError::wrong(
            "the daemon doesn't build: see above, or pass --daemon FILE",
        ));
    }
    Ok(folder.join("release").join("stormhook"))
}

fn measure(cli: &Cli) -> Result<bool> {
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a debug build: the sink and the load are slow, so the figures are meaningless"
        );
    }
    let program = match &cli.daemon {
        Some(program) => program
            .canonicalize()
            .doing("finding the daemon's program")?,
        None => built_daemon()?,
    };
    let root = match &cli.dir {
        Some(folder) => folder.clone(),
        None => build_folder()?.join("bench-data"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing("starting the runtime")?;
    let report = runtime.block_on(async {
        let sink = Sink::start(SECRET, 1).await?;
        let report = Report::default();
        let mut bench = Bench {
            program,
            root,
            sink,
            quick: cli.quick,
            report,
        };
        tokio::select! {
            () = all(&mut bench, cli) => {}
            _ = tokio::signal::ctrl_c() => bench.report.wrong("interrupted"),
        }
        Ok::<_, BenchError>(bench.report)
    })?;
    println!("\n{}", report.table());
    if let Some(path) = &cli.json {
        let text = format!("{:#}\n", report.json(&machine(), cli.quick));
        std::fs::write(path, text).doing(format!("writing {}", path.display()))?;
    }
    if let Some(folder) = &cli.plots {
        draw::all(report.plots(), folder)?;
    }
    Ok(report.is_right())
}

/// Returns processor, cores and kernel, for the JSON.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

async fn all(bench: &mut Bench, cli: &Cli) {
    let wanted = &cli.scenarios;
    let chosen = |name: &str| {
        let named = wanted.iter().any(|other| other == name);
        named || wanted.is_empty() && !NAMED_ONLY.contains(&name)
    };
    let lanes: Vec<_> = LANES
        .iter()
        .copied()
        .filter(|lane| chosen(lane.name))
        .collect();
    if chosen("ceiling") || !lanes.is_empty() {
        one(bench, "throughput", async |bench| {
            throughput::run(bench, &lanes).await
        })
        .await;
    }
    for name in SCENARIOS.iter().copied().filter(|name| chosen(name)) {
        match name {
            "steady" => one(bench, name, steady::run).await,
            "filesize" => one(bench, name, filesize::run).await,
            "start" => one(bench, name, start::run).await,
            "idle" => one(bench, name, idle::run).await,
            "fairness" => one(bench, name, fairness::run).await,
            "backlog" => one(bench, name, backlog::run).await,
            "concurrency" => one(bench, name, concurrency::run).await,
            "latency" => one(bench, name, latency::run).await,
            "callers" => one(bench, name, callers::run).await,
            "scale" => {
                one(bench, name, async |bench| {
                    scale::run(bench, cli.waiting).await
                })
                .await;
            }
            "cluster" => {
                one(bench, name, async |bench| {
                    cluster::run(bench, cli.reader_seconds).await
                })
                .await;
            }
            "takeover" => one(bench, name, cluster::takeover).await,
            "reader" => {
                one(bench, name, async |bench| {
                    cluster::reader(bench, cli.reader_seconds).await
                })
                .await;
            }
            _ => {}
        }
    }
}

/// Runs a scenario within its time limit. An error is reported, and the next scenario runs.
async fn one(bench: &mut Bench, name: &str, run: impl AsyncFnOnce(&mut Bench) -> Result<()>) {
    let started_ns = clock::monotonic_ns();
    eprintln!("{name} …");
    match tokio::time::timeout(SCENARIO_TIMEOUT, run(bench)).await {
        Ok(Ok(())) => eprintln!("{name}: {:.0} s", clock::seconds_since(started_ns)),
        Ok(Err(e)) => bench.report.wrong(format!("{name}: {e}")),
        Err(_) => bench
            .report
            .wrong(format!("{name}: not finished within {SCENARIO_TIMEOUT:?}")),
    }
}
