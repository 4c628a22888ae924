//! The table of counts: its text format, and the result of comparing counts with it.

use std::collections::BTreeMap;
use std::fmt;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const MADE_BY: &str = "# made by ";

/// The heading of a comparison.
pub(crate) const HEADING: &str = "instructions    change    hashing    change  allocations  change";

/// A tenth of an allocation more is a hash table that grew at another time.
const ALLOCATIONS_SLACK: f64 = 0.5;

/// The cost of one call of a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    /// Without hashing.
    pub(crate) instructions: f64,
    /// Instructions for SHA-256.
    pub(crate) hashing: f64,
    pub(crate) allocations: f64,
}

/// Counts by workload, and the compiler that they apply to.
pub(crate) struct Table {
    pub(crate) compiler: String,
    pub(crate) rows: BTreeMap<String, Counts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    More,
    /// Good, but unless the table is rewritten the gain could be lost unnoticed.
    Fewer,
    NotInTable,
    NotMeasured,
}

/// A workload with its row of the kept table.
pub(crate) struct Line<'t> {
    name: &'t str,
    now: Option<Counts>,
    kept: Option<Counts>,
    pub(crate) verdict: Verdict,
}

impl Table {
    pub(crate) fn of(compiler: String) -> Self {
        Self {
            compiler,
            rows: BTreeMap::new(),
        }
    }

    pub(crate) fn read() -> Result<Self, String> {
        let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
        let compiler = text.lines().find_map(|line| line.strip_prefix(MADE_BY));
        let compiler =
            compiler.ok_or_else(|| format!("{FILE}: no line begins with {MADE_BY:?}"))?;
        let mut table = Self::of(compiler.to_owned());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let mut number = || words.next().and_then(|word| word.parse().ok());
            let (Some(instructions), Some(hashing), Some(allocations)) =
                (number(), number(), number())
            else {
                return Err(format!(
                    "{FILE}: expected three numbers and a name, got {line:?}"
                ));
            };
            let name = words.collect::<Vec<_>>().join(" ");
            let counts = Counts {
                instructions,
                hashing,
                allocations,
            };
            table.rows.insert(name, counts);
        }
        Ok(table)
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        std::fs::write(FILE, self.to_string()).map_err(|e| format!("{FILE}: {e}"))
    }

    /// Returns each workload of either table. `tolerance` is in percent.
    pub(crate) fn beside<'t>(&'t self, kept: &'t Self, tolerance: f64) -> Vec<Line<'t>> {
        let gone = kept
            .rows
            .keys()
            .filter(|name| !self.rows.contains_key(*name));
        let names = self.rows.keys().chain(gone);
        let line = |name: &'t String| {
            let (now, kept) = (self.rows.get(name).copied(), kept.rows.get(name).copied());
            Line {
                name,
                now,
                kept,
                verdict: judge(now, kept, tolerance),
            }
        };
        names.map(line).collect()
    }
}

fn judge(now: Option<Counts>, kept: Option<Counts>, tolerance: f64) -> Verdict {
    let (now, kept) = match (now, kept) {
        (Some(now), Some(kept)) => (now, kept),
        (_, None) => return Verdict::NotInTable,
        (None, _) => return Verdict::NotMeasured,
    };
    let mut changes = vec![
        percent(now.instructions, kept.instructions),
        percent(now.hashing, kept.hashing),
    ];
    if (now.allocations - kept.allocations).abs() > ALLOCATIONS_SLACK {
        changes.push(percent(now.allocations, kept.allocations));
    }
    if changes.iter().any(|change| *change > tolerance) {
        Verdict::More
    } else if changes.iter().any(|change| *change < -tolerance) {
        Verdict::Fewer
    } else {
        Verdict::Fine
    }
}

/// Returns the increase over `kept`, in percent.
fn percent(now: f64, kept: f64) -> f64 {
    if now == kept {
        return 0.0;
    }
    (now / kept - 1.0) * 100.0
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = "instructions, instructions for SHA-256, allocations";
        writeln!(
            f,
            "# One call each: {columns}. See docs/performance.md; written by scripts/instructions --write."
        )?;
        writeln!(f, "{MADE_BY}{}", self.compiler)?;
        for (name, counts) in &self.rows {
            let Counts {
                instructions,
                hashing,
                allocations,
            } = counts;
            writeln!(
                f,
                "{instructions:>9.0} {hashing:>9.0} {allocations:>7.1}  {name}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        type Column = fn(Counts) -> f64;
        let columns: [(Column, usize, usize); 3] = [
            (|counts| counts.instructions, 12, 0),
            (|counts| counts.hashing, 9, 0),
            (|counts| counts.allocations, 11, 1),
        ];
        for (of, width, places) in columns {
            match (self.now.map(of), self.kept.map(of)) {
                (Some(now), Some(kept)) => {
                    write!(f, "{now:>width$.places$} {:>+6.2} %  ", percent(now, kept))?;
                }
                (Some(now), None) => write!(f, "{now:>width$.places$} {:>10}", "")?,
                _ => write!(f, "{:>width$} {:>10}", "", "")?,
            }
        }
        let said = match self.verdict {
            Verdict::Fine => "",
            Verdict::More => "  MORE than the table",
            Verdict::Fewer => "  FEWER than the table: update it with --write",
            Verdict::NotInTable => "  NOT IN THE TABLE",
            Verdict::NotMeasured => "  IN THE TABLE, but not a workload",
        };
        write!(f, "{}{said}", self.name)
    }
}
