//! A guard that noise can't trigger: counts the instructions and allocations of fixed pieces of work and compares them
//! with the table in `benches/instructions.txt`. Never measures time.
//!
//! ```sh
//! scripts/instructions            # compare
//! scripts/instructions --write    # write the table
//! ```
//!
//! Each workload runs in a process of its own under callgrind, which counts within one function.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "a benchmark prints, and panics on a wrong fixture"
)]

#[path = "instructions/callgrind.rs"]
mod callgrind;
mod support;
#[path = "instructions/table.rs"]
mod table;
#[path = "instructions/workloads.rs"]
mod workloads;

use std::process::ExitCode;
use table::{Counts, HEADING, Table, Verdict};
use workloads::{WORKLOADS, Workload};

/// Counted calls; one more runs before, for one-time work.
const CALLS: u32 = 100;
/// The tolerated increase over the table, in percent.
const TOLERANCE: f64 = 3.0;

fn counts(workload: &Workload) -> Result<Counts, String> {
    let instructions = callgrind::instructions(workload.name)?;
    let mut work = (workload.prepare)();
    work();
    let allocated =
        allocation_counter::measure(|| callgrind::only_this_is_counted(&mut *work, CALLS));
    let calls = f64::from(CALLS);
    Ok(Counts {
        instructions: instructions.others as f64 / calls,
        hashing: instructions.hashing as f64 / calls,
        allocations: allocated.count_total as f64 / calls,
    })
}

fn compare(found: &Table, kept: &Table) -> ExitCode {
    let mut worse = 0;
    println!("{HEADING}");
    for line in found.beside(kept, TOLERANCE) {
        println!("{line}");
        worse += usize::from(line.verdict != Verdict::Fine);
    }
    if found.compiler != kept.compiler {
        println!(
            "the table was made by {}, this is {}: counts are shown but not checked",
            kept.compiler, found.compiler
        );
        return ExitCode::SUCCESS;
    }
    if worse == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "{worse} of them are not as the table says, by more than {TOLERANCE} %. If that is meant: scripts/instructions --write, \
         and say why in the commit"
    );
    ExitCode::FAILURE
}

fn guard(write: bool) -> Result<ExitCode, String> {
    if let Some(why) = callgrind::missing() {
        println!("{why}: instructions are not counted");
        return Ok(ExitCode::SUCCESS);
    }
    let mut found = Table::of(callgrind::compiler()?);
    for workload in WORKLOADS {
        found
            .rows
            .insert(workload.name.to_owned(), counts(workload)?);
    }
    if write {
        found.write()?;
        println!("{found}");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(compare(&found, &Table::read()?))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let has = |name| arguments.iter().any(|argument| argument == name);
    if let Some(name) = callgrind::asked_for() {
        let named = WORKLOADS.iter().find(|workload| workload.name == name);
        let mut work = (named.expect("a workload of this name").prepare)();
        work();
        callgrind::only_this_is_counted(&mut *work, CALLS);
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` runs this too. Then it only has to build.
    if !has("--bench") {
        return ExitCode::SUCCESS;
    }
    guard(has("--write")).unwrap_or_else(|why| {
        eprintln!("{why}");
        ExitCode::FAILURE
    })
}
