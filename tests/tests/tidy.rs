//! Rules that keep the project readable, checked by reading its own files: the length of files and functions, the head
//! of each file, names without meaning, and documents that refer to existing files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The maximum number of lines of a file of code, and of a function. Tests and tables are exempt.
const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
const ARCHITECTURE_LINES: usize = 200;

/// Words that don't say what a file is for.
const EMPTY_NAMES: &[&str] = &[
    "manager", "util", "utils", "helper", "helpers", "common", "misc",
];

/// Traces of one machine or of a session on it, and hosts that only the build should know. Split, so that this file
/// doesn't contain them.
const TRACES: &[&[&str]] = &[
    &["/wo", "rk/"],
    &["/ro", "ot/"],
    &["arti", "factory"],
    &["registry.", "npmjs"],
    &["index.", "crates.io"],
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_owned()
}

/// Returns the files that git tracks, or would track, as paths from the root.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "this is not a checkout");
    let text = String::from_utf8(listed.stdout).expect("names are UTF-8");
    let there = |path: &PathBuf| root().join(path).is_file();
    text.lines().map(PathBuf::from).filter(there).collect()
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

fn code() -> Vec<(PathBuf, String)> {
    let rust = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs");
    let read = |path: PathBuf| read(&path).map(|text| (path, text));
    files().into_iter().filter(rust).filter_map(read).collect()
}

/// Whether a file contains only tests.
fn is_test(path: &Path) -> bool {
    let part = |name| path.components().any(|c| c.as_os_str() == name);
    part("tests") || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Returns a file's code before its tests.
fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

#[track_caller]
fn expect_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn a_file_opens_with_what_it_decides() {
    let found: Vec<_> = code()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    expect_none("files without a `//!` head", &found);
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    let found: Vec<_> = code()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, before_tests(text).lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    expect_none("files of more than 400 lines of code", &found);
}

/// Returns the functions of a formatted file with their first line and number of lines.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let indented = line.len() - line.trim_start().len();
        let words: Vec<_> = line.split_whitespace().take(5).collect();
        let is_function = words.contains(&"fn") && !line.trim_start().starts_with("//");
        if !is_function || line.trim_end().ends_with(';') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indented));
        let length = lines[first..].iter().position(|line| *line == end);
        found.extend(length.map(|length| (first + 1, length + 1)));
    }
    found
}

#[test]
fn a_function_fits_on_a_screen() {
    let mut found = Vec::new();
    for (path, text) in code().iter().filter(|(path, _)| !is_test(path)) {
        for (line, lines) in functions(before_tests(text)) {
            if lines > FUNCTION_LINES {
                found.push(format!("{}:{line} has {lines} lines", path.display()));
            }
        }
    }
    expect_none("functions of more than 70 lines", &found);
}

/// Crates whose top-level files and directories must import each other in one direction.
const SOURCES: &[&str] = &[
    "daemon/engine/src",
    "daemon/src",
    "daemon/cli/src",
    "store/src",
    "store/postgres/src",
    "verifier/src",
];

/// What no pure module may name: files, locks, threads, clocks, logs, waiting.
const IMPURE: &[&str] = &[
    "std::fs",
    "File::",
    "OpenOptions",
    "Mutex",
    "RwLock",
    "RefCell",
    "std::thread",
    "thread::",
    "SystemTime",
    "Instant::now",
    "Moment::now",
    "tracing::",
    "tokio::",
];

/// The place of a module in its crate: the names from the root on.
type Place = Vec<String>;

/// Reads one path, or a list of them in braces, and returns the rest of the code.
fn read_path<'a>(code: &'a str, base: &[String], found: &mut Vec<Place>) -> &'a str {
    let mut place = base.to_vec();
    let mut rest = code.trim_start();
    loop {
        if let Some(mut list) = rest.strip_prefix('{') {
            while !list.trim_start().starts_with('}') && !list.is_empty() {
                list = read_path(list, &place, found).trim_start();
                // What is renamed, or no path, is passed over.
                let end = list.find([',', '}']).unwrap_or(list.len());
                list = list[end..].strip_prefix(',').unwrap_or(&list[end..]);
            }
            return list.trim_start().strip_prefix('}').unwrap_or(list);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
        if !name.is_empty() {
            place.push(name.to_owned());
        }
        match after.strip_prefix("::") {
            Some(after) if !name.is_empty() => rest = after,
            _ => {
                found.push(place);
                return after;
            }
        }
    }
}

/// Returns the paths that the code of a module names after `crate::` and `super::`.
fn named_places(module: &Place, code: &str) -> Vec<Place> {
    let mut found = Vec::new();
    for (word, is_super) in [("crate::", false), ("super::", true)] {
        for (at, _) in code.match_indices(word) {
            let before = &code[..at];
            let is_part = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_part || before.ends_with("super::") {
                continue;
            }
            let mut rest = &code[at + word.len()..];
            let mut up = usize::from(is_super);
            while let Some(after) = rest.strip_prefix("super::") {
                rest = after;
                up += 1;
            }
            let base = if is_super {
                &module[..module.len().saturating_sub(up)]
            } else {
                &[]
            };
            read_path(rest, base, &mut found);
        }
    }
    found
}

/// Returns what each file of a crate imports of the others, except of those that it lies below, or that lie below it.
fn imports(source: &str) -> BTreeMap<Place, BTreeSet<Place>> {
    let mut files = BTreeMap::new();
    for (path, text) in code() {
        let Ok(path) = path.strip_prefix(source) else {
            continue;
        };
        let place: Place = path
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let is_root = place == ["lib"] || place == ["main"];
        if !is_test(path) && !is_root {
            let lines = before_tests(&text).lines();
            let code = lines.filter(|line| !line.trim_start().starts_with("//"));
            files.insert(place, code.collect::<Vec<_>>().join("\n"));
        }
    }
    let module_of = |mut place: Place| {
        while !place.is_empty() && !files.contains_key(&place) {
            place.pop();
        }
        place
    };
    let of_file = |(place, code): (&Place, &String)| {
        let named = named_places(place, code).into_iter().map(module_of);
        let others = named.filter(|other| !other.starts_with(place) && !place.starts_with(other));
        (place.clone(), others.collect())
    };
    files.iter().map(of_file).collect()
}

/// Returns what is left when everything that is in no circle is taken away.
fn circles(mut left: BTreeMap<Place, BTreeSet<Place>>) -> Vec<String> {
    // A module that imports none of the rest, or is imported by none of it, is in no circle.
    loop {
        let imported: BTreeSet<_> = left.values().flatten().cloned().collect();
        let out: Vec<_> = left
            .iter()
            .filter(|(place, imports)| imports.is_empty() || !imported.contains(*place))
            .map(|(place, _)| place.clone())
            .collect();
        if out.is_empty() {
            return left.into_keys().map(|place| place.join("::")).collect();
        }
        left.retain(|place, _| !out.contains(place));
        for imports in left.values_mut() {
            imports.retain(|place| !out.contains(place));
        }
    }
}

#[test]
fn modules_of_a_crate_import_in_one_direction() {
    for source in SOURCES {
        let files = imports(source);
        assert!(files.len() > 10, "{source} has modules");
        assert!(
            files.values().any(|imports| imports.len() > 3),
            "{source} imports"
        );
        // The files and directories at the top, as a whole.
        let mut rooms: BTreeMap<Place, BTreeSet<Place>> = BTreeMap::new();
        for (place, imports) in &files {
            let room = vec![place[0].clone()];
            let others = imports.iter().map(|other| vec![other[0].clone()]);
            let others = others.filter(|other| *other != room);
            rooms.entry(room.clone()).or_default().extend(others);
        }
        expect_none(&format!("files of {source} in a circle"), &circles(files));
        expect_none(&format!("rooms of {source} in a circle"), &circles(rooms));
    }
}

/// Returns the modules that the map of the project calls pure, with those below them.
fn pure_modules() -> Vec<String> {
    let map = read(Path::new("ARCHITECTURE.md")).expect("the map");
    let rows = map.lines().filter(|line| line.ends_with("| yes |"));
    let named = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named = named.filter_map(|name| name.strip_suffix(".rs"));
    named.map(str::to_owned).collect()
}

#[test]
fn front_ends_submit_commands_and_nothing_else() {
    let words = ["maintenance::", "Op::", "Done::", "Settle"];
    let mut found = Vec::new();
    for (path, text) in code() {
        let is_front = ["daemon/src", "daemon/cli/src"]
            .iter()
            .any(|folder| path.starts_with(folder));
        if is_front && !is_test(&path) {
            let names = words
                .iter()
                .filter(|word| before_tests(&text).contains(*word));
            found.extend(names.map(|word| format!("{} names {word}", path.display())));
        }
    }
    expect_none("front ends that reach behind the engine", &found);
}

#[test]
fn what_a_batch_decides_knows_no_store() {
    // Its errors, what the crate shows of it, and the bytes that a fuzzer feeds it.
    let about_the_file = ["error", "lib", "fuzzing"];
    let mut found = Vec::new();
    for (path, text) in code().iter().filter(|(path, _)| !is_test(path)) {
        let Ok(module) = path.strip_prefix("store/src") else {
            continue;
        };
        let about = |name: &&str| module.with_extension("").starts_with(name);
        if module.starts_with("file") || about_the_file.iter().any(about) {
            continue;
        }
        let code = before_tests(text).lines();
        let code = code.filter(|line| !line.trim_start().starts_with("//"));
        let names: Vec<_> = code
            .filter(|line| line.contains("redb") || line.contains("crate::file"))
            .collect();
        found.extend(
            names
                .iter()
                .map(|line| format!("{}: {line}", path.display())),
        );
    }
    expect_none("decisions that name a store", &found);
}

#[test]
fn the_walks_of_the_map_name_functions_that_are_there() {
    let map = read(Path::new("ARCHITECTURE.md")).expect("the map");
    let mut found = Vec::new();
    let mut steps = 0;
    for row in map.lines() {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, file, function, _, _] = cells[..] else {
            continue;
        };
        let quoted = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
        let (Some(file), Some(function)) = (quoted(file), quoted(function)) else {
            continue;
        };
        if !file.ends_with(".rs") {
            continue;
        }
        steps += 1;
        let text = read(Path::new(&file)).unwrap_or_default();
        let is_there = ["(", "<"]
            .iter()
            .any(|open| text.contains(&format!("fn {function}{open}")));
        if !is_there {
            found.push(format!("{file} has no {function}"));
        }
    }
    assert!(steps > 20, "{steps}");
    expect_none("steps of the walks", &found);
}

#[test]
fn what_is_called_pure_names_no_clock_file_lock_log_or_thread() {
    let pure = pure_modules();
    assert!(pure.len() > 10, "{pure:?}");
    let mut found = Vec::new();
    for (path, text) in code().iter().filter(|(path, _)| !is_test(path)) {
        let name = path.with_extension("").display().to_string();
        let is_pure = |module: &String| name == *module || name.starts_with(&format!("{module}/"));
        if !pure.iter().any(is_pure) {
            continue;
        }
        let lines = before_tests(text).lines();
        for line in lines.filter(|line| !line.trim_start().starts_with("//")) {
            let names = IMPURE.iter().filter(|word| line.contains(*word));
            found.extend(names.map(|word| format!("{} names {word}", path.display())));
        }
    }
    expect_none("pure modules that are not", &found);
}

#[test]
fn a_name_says_what_it_is_the_name_of() {
    let empty = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        stem.is_some_and(|stem| EMPTY_NAMES.contains(&stem))
    };
    let found: Vec<_> = files()
        .into_iter()
        .filter(empty)
        .map(|path| path.display().to_string())
        .collect();
    expect_none("files whose names say nothing", &found);
}

#[test]
fn nothing_in_it_speaks_of_one_machine() {
    let mut found = Vec::new();
    for path in files() {
        let locks = ["Cargo.lock", "package-lock.json"];
        let is_lock = path
            .file_name()
            .is_some_and(|n| locks.iter().any(|l| n == *l));
        let Some(text) = read(&path).filter(|_| !is_lock) else {
            continue;
        };
        for trace in TRACES.iter().map(|parts| parts.concat()) {
            if let Some(at) = text.lines().position(|line| line.contains(&trace)) {
                found.push(format!("{}:{} has {trace}", path.display(), at + 1));
            }
        }
    }
    expect_none("traces", &found);
}

/// Returns what a document names between backticks that looks like a path of the project.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|quoted| {
        let is_path = quoted.contains('/') && !quoted.contains([' ', '<', '{', '*', ':', '…', '$']);
        let tops = [
            "daemon/",
            "store/",
            "verifier/",
            "tests/",
            "benches/",
            "examples/",
            "docs/",
            "scripts/",
            "packaging/",
            ".ci/",
            "tools/",
        ];
        is_path && tops.iter().any(|top| quoted.starts_with(top))
    })
}

#[test]
fn documents_name_what_is_there() {
    let mut found = Vec::new();
    for path in files() {
        let is_prose = path.extension().is_some_and(|e| e == "md");
        let Some(text) = read(&path).filter(|_| is_prose) else {
            continue;
        };
        for named in paths_in(&text) {
            let named = named.trim_end_matches(['.', ',']);
            if !root().join(named).exists() {
                found.push(format!("{} names {named}", path.display()));
            }
        }
    }
    expect_none("documents that name what is not there", &found);
}

/// Returns what a document names between backticks that looks like the name of a test: six words or more, and no metric.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|quoted| {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        quoted.chars().all(is_name)
            && quoted.matches('_').count() >= 5
            && !quoted.starts_with("stormhook_")
    })
}

#[test]
fn documents_name_tests_that_are_there() {
    let all: String = code().into_iter().map(|(_, text)| text).collect();
    let mut named = 0;
    let mut found = Vec::new();
    for path in files() {
        let is_prose = path.extension().is_some_and(|e| e == "md");
        let Some(text) = read(&path).filter(|_| is_prose) else {
            continue;
        };
        for test in tests_in(&text) {
            named += 1;
            if !all.contains(&format!("fn {test}(")) {
                found.push(format!("{} names {test}", path.display()));
            }
        }
    }
    assert!(named > 50, "only {named} tests are named");
    expect_none("documents that name tests that are not there", &found);
}

#[test]
fn code_refers_to_decisions_that_are_written_down() {
    let mut found = Vec::new();
    for (path, text) in code() {
        for reference in text.split("docs/adr/").skip(1) {
            let name = reference.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '.'));
            let name = name.clone().next().unwrap_or("").trim_end_matches('.');
            if !root().join("docs/adr").join(name).is_file() && !is_test(&path) {
                found.push(format!("{} refers to docs/adr/{name}", path.display()));
            }
        }
    }
    expect_none("references to records that are not there", &found);
}

#[test]
fn the_map_of_the_project_fits_on_a_few_pages() {
    let text = read(Path::new("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(text.lines().count() <= ARCHITECTURE_LINES);
}
