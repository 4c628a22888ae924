//! Counts instructions: runs this program with one workload under valgrind's callgrind.
//!
//! Differences between machines are excluded. Valgrind presents one fixed processor: AVX2 if the real one has it, never
//! SHA extensions or AVX-512, so code that detects the processor always chooses alike. And only code from this Rust
//! compiler is counted: the C library and code from the machine's C compiler (zstd, the allocator) are not.

use std::collections::HashMap;
use std::process::Command;

/// The environment variable of the child that names the workload.
const WORKLOAD: &str = "STORMHOOK_COUNTED_WORKLOAD";

/// The function in which callgrind counts. Nothing else has this name.
#[inline(never)]
pub(crate) fn only_this_is_counted(work: &mut dyn FnMut(), calls: u32) {
    for _ in 0..calls {
        work();
    }
}

/// Returns the workload that this process was started for.
pub(crate) fn asked_for() -> Option<String> {
    std::env::var(WORKLOAD).ok()
}

/// Returns why instructions can't be counted here, if they can't.
pub(crate) fn missing() -> Option<&'static str> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some("the table is of x86-64 Linux");
    }
    if cfg!(target_feature = "avx") {
        return Some("this build is for one processor, the table is for all");
    }
    let version = Command::new("valgrind").arg("--version").output();
    match version {
        Ok(output) if output.status.success() => None,
        _ => Some("valgrind is missing (apt-get install valgrind)"),
    }
}

/// Returns the compiler's version: another one generates other instructions.
pub(crate) fn compiler() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .map_err(|e| format!("rustc --version: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<_> = text.split_whitespace().take(2).collect();
    Ok(words.join(" "))
}

/// Instructions of Rust code, in all counted calls of a workload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Instructions {
    /// SHA-256 block compression. In software here; most machines have instructions for it and are several times
    /// faster.
    pub(crate) hashing: u64,
    /// All others.
    pub(crate) others: u64,
}

pub(crate) fn instructions(workload: &str) -> Result<Instructions, String> {
    let of = |e: std::io::Error| format!("counting {workload:?}: {e}");
    let program = std::env::current_exe().map_err(of)?;
    let folder = tempfile::tempdir().map_err(of)?;
    let counted = folder.path().join("counted");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=*only_this_is_counted*",
        ])
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(program)
        .env(WORKLOAD, workload)
        .output()
        .map_err(of)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "counting {workload:?}: valgrind ended with {}:\n{said}",
            output.status
        ));
    }
    let profile = std::fs::read_to_string(&counted).map_err(of)?;
    let found = sum(&profile);
    if found.others == 0 {
        return Err(format!("counting {workload:?}: callgrind counted nothing"));
    }
    Ok(found)
}

/// Sums a profile (the format is in valgrind's manual, "Callgrind Format Specification").
fn sum(profile: &str) -> Instructions {
    // A name comes with its number the first time, then only the number.
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut found = Instructions::default();
    let mut function = "";
    let mut is_of_callee = false;
    for line in profile.lines() {
        let named = line
            .strip_prefix("fn=")
            .or_else(|| line.strip_prefix("cfn="));
        if let Some((number, name)) = named.and_then(|named| named.split_once(')')) {
            if !name.is_empty() {
                names.insert(number, name.trim_start());
            }
            if line.starts_with("fn=") {
                function = names.get(number).copied().unwrap_or("");
            }
        } else if line.starts_with("calls=") {
            is_of_callee = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
            let cost: u64 = cost.unwrap_or(0);
            if std::mem::take(&mut is_of_callee) || !function.contains("::") {
                continue;
            }
            if function.starts_with("sha2::") {
                found.hashing += cost;
            } else {
                found.others += cost;
            }
        }
    }
    found
}
