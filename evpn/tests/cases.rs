//! Mobility, import and flood lists by text cases: command lines, and below each, indented, what comes out.
//!
//! The commands are described in `tests/support/mod.rs`. Each `case:` begins with a fresh engine.
//! `UPDATE_CASES=1 cargo test -p evpn` writes what comes out into the files.

mod support;

use std::path::{Path, PathBuf};

use support::Rig;

/// Runs all cases of a file: the text as it should be.
fn replay(text: &str) -> String {
    let mut rig = Rig::new();
    let mut output = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        output.push_str(line.trim_end());
        output.push('\n');
        if line.starts_with("case:") {
            rig = Rig::new();
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            output.push_str(&rig.run(line));
        }
    }
    output
}

fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let replayed = replay(&text);
    if replayed == text {
        return Ok(());
    }
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(path, replayed).unwrap();
        return Ok(());
    }
    let differs = text.lines().zip(replayed.lines()).position(|(a, b)| a != b);
    let at = differs.unwrap_or(text.lines().count().min(replayed.lines().count()));
    Err(format!(
        "{}:{}:\n  expected {:?}\n  came     {:?}",
        path.display(),
        at + 1,
        text.lines().nth(at).unwrap_or_default(),
        replayed.lines().nth(at).unwrap_or_default()
    ))
}

#[test]
fn text_cases_hold() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "case files are missing");
    let failures: Vec<String> = files.iter().filter_map(|file| check(file).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
