//! The lab format by text cases: the files of a lab, and the model or the errors that they must yield.
//!
//! A case file under `tests/cases/lab/` holds cases of this form; `\xNN` in a section is that byte:
//!
//! ```text
//! case: what must hold
//! --- lab.conf
//! pc1[0]="A"
//! --- expect
//! pc1[0]="A"
//! ```
//!
//! `UPDATE_CASES=1 cargo test -p controller` writes what comes out into the files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use controller::lab::{Lab, LabSource, Script, Warning, parse};

struct Case {
    name: String,
    /// Name of the file in the lab, and its text.
    files: Vec<(String, String)>,
    expect: String,
}

/// The comment at the head of a case file, and its cases.
fn read_cases(text: &str) -> (String, Vec<Case>) {
    let mut head = String::new();
    let mut cases: Vec<Case> = Vec::new();
    let mut in_expect = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("case: ") {
            cases.push(Case { name: name.to_owned(), files: Vec::new(), expect: String::new() });
            in_expect = false;
            continue;
        }
        let Some(case) = cases.last_mut() else {
            head += &format!("{line}\n");
            continue;
        };
        if line == "--- expect" {
            in_expect = true;
        } else if let Some(file) = line.strip_prefix("--- ") {
            case.files.push((file.to_owned(), String::new()));
        } else if in_expect {
            case.expect += &format!("{line}\n");
        } else {
            let (_, part) = case.files.last_mut().expect("a `---` line after `case:`");
            *part += &format!("{line}\n");
        }
    }
    (head, cases)
}

fn write_cases(head: &str, cases: &[(Case, String)]) -> String {
    let mut text = head.trim_end().to_owned();
    for (case, outcome) in cases {
        let _ = write!(text, "\n\ncase: {}\n", case.name);
        for (name, content) in &case.files {
            let _ = write!(text, "--- {name}\n{content}");
        }
        let _ = write!(text, "--- expect\n{}", outcome.trim_end());
    }
    text + "\n"
}

/// Replaces `\xNN` by the byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = text.split(r"\x");
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).expect("two hexadecimal digits after \\x"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

fn source(case: &Case) -> LabSource {
    let mut source = LabSource { path: PathBuf::from("/lab"), ..LabSource::default() };
    for (name, text) in &case.files {
        let bytes = unescape(text);
        let path = source.path.join(name);
        let script = |text| Script { path: path.clone(), text };
        match name.as_str() {
            "lab.conf" => source.conf = Some(bytes),
            "lab.dep" => source.dep = Some(bytes),
            "lab.ext" => source.ext = Some(bytes),
            "kathara.conf" => source.settings = Some(bytes),
            _ => {
                if let Some(owner) = name.strip_suffix(".startup") {
                    source.startups.insert(owner.to_owned(), script(bytes));
                } else if let Some(owner) = name.strip_suffix(".shutdown") {
                    source.shutdowns.insert(owner.to_owned(), script(bytes));
                } else if let Some(owner) = name.strip_suffix('/') {
                    source.directories.insert(owner.to_owned(), path);
                }
            }
        }
    }
    source
}

fn show(lab: &Lab, warnings: &[Warning]) -> String {
    let mut text: String = lab.to_conf().lines().filter(|l| !l.is_empty()).map(|l| format!("{l}\n")).collect();
    for device in lab.devices.iter().filter(|d| d.interfaces.is_empty()) {
        let _ = writeln!(text, "{} has no interface", device.name);
    }
    if lab.start_groups.len() > 1 {
        for group in lab.start_order() {
            let names: Vec<&str> = group.iter().map(|d| d.name.as_str()).collect();
            let _ = writeln!(text, "start {}", names.join(" "));
        }
    }
    for link in &lab.external {
        let _ = writeln!(text, "external {} {} {:?}", link.lan, link.interface, link.vlan);
    }
    if lab.settings != Default::default() {
        for device in &lab.devices {
            let (shell, ipv6) = (lab.shell(device), lab.ipv6(device));
            let _ = writeln!(text, "{}: shell {shell}, ipv6 {ipv6}", device.name);
        }
    }
    for (owner, script) in scripts(lab) {
        let _ = writeln!(text, "{owner} {}", script.path.display());
    }
    let trees = lab.devices.iter().filter_map(|d| d.directory.as_ref());
    for tree in trees.chain(&lab.shared_directory) {
        let _ = writeln!(text, "tree {}", tree.display());
    }
    for entry in lab.not_acting() {
        let _ = writeln!(text, "not acting: {}", entry.text);
    }
    for warning in warnings {
        let _ = writeln!(text, "warning {warning}");
    }
    text
}

fn scripts(lab: &Lab) -> Vec<(&str, &Script)> {
    let own = lab.devices.iter().flat_map(|device| {
        let name = device.name.as_str();
        let scripts = device.startup.iter().chain(&device.shutdown);
        scripts.map(move |script| (name, script))
    });
    let shared = lab.shared_startup.iter().chain(&lab.shared_shutdown);
    own.chain(shared.map(|script| ("all", script))).collect()
}

fn run(case: &Case) -> String {
    match parse(source(case)) {
        Ok((lab, warnings)) => show(&lab, &warnings),
        Err(errors) => {
            let lines = errors.errors.iter().map(|error| format!("error {error}\n"));
            let warnings = errors.warnings.iter().map(|w| format!("warning {w}\n"));
            lines.chain(warnings).collect()
        }
    }
}

fn check_file(path: &Path) {
    let text = std::fs::read_to_string(path).expect("a case file");
    let (head, cases) = read_cases(&text);
    let cases = cases.into_iter().map(|case| {
        let outcome = run(&case);
        (case, outcome)
    });
    let cases: Vec<(Case, String)> = cases.collect();
    assert!(!cases.is_empty(), "no case in {}", path.display());
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(path, write_cases(&head, &cases)).expect("the case file can be written");
        return;
    }
    let wrong = cases.iter().filter(|(case, outcome)| case.expect.trim_end() != outcome.trim_end());
    let wrong: Vec<String> = wrong
        .map(|(case, outcome)| format!("case: {}\nexpected:\n{}came out:\n{outcome}", case.name, case.expect))
        .collect();
    assert!(wrong.is_empty(), "{}\n{}", path.display(), wrong.join("\n"));
}

fn case_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/lab").join(name)
}

#[test]
fn lines_follow_the_grammar() {
    check_file(&case_file("lines.txt"));
}

#[test]
fn interfaces_follow_the_grammar() {
    check_file(&case_file("interfaces.txt"));
}

#[test]
fn options_follow_the_grammar() {
    check_file(&case_file("options.txt"));
}

#[test]
fn the_other_files_follow_their_grammars() {
    check_file(&case_file("files.txt"));
}
