//! Plays the catalogue of hostile input at another BGP daemon and writes what it answers, or makes a table of such answers.
//!
//!     catalogue --daemon frr-sid --into DIRECTORY     plays all rows that are octets and a verdict
//!     catalogue --table DIRECTORY                     prints the answers found there beside what the RFCs ask for
//!     catalogue --figures DIRECTORY                   prints what our own suite tried and passed, from its reports there
//!                                                     (CATALOGUE_REPORT=DIRECTORY cargo test -p tests --test catalogue)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tests::catalogue::others::{self, Answer};
use tests::catalogue::report::{Figures, Report};
use tests::catalogue::{Expected, Row, Verdict, sections};
use tests::peers::Software;

#[derive(Debug, Parser)]
struct Options {
    /// frr-debian, frr-sid, gobgp, bird or openbgpd
    #[arg(long, requires = "into")]
    daemon: Option<String>,
    /// Only rows whose id begins with this
    #[arg(long, default_value = "")]
    rows: String,
    /// Where to write the answers, as `DAEMON.json`
    #[arg(long)]
    into: Option<PathBuf>,
    /// Print a table of the answers in this directory
    #[arg(long, conflicts_with = "daemon")]
    table: Option<PathBuf>,
    /// Print the figures of the reports in this directory
    #[arg(long, conflicts_with_all = ["daemon", "table"])]
    figures: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Answers {
    version: String,
    answers: Vec<Answer>,
}

fn main() {
    let options = Options::parse();
    let rows: Vec<Row> = sections().into_iter().flat_map(|(_, rows)| rows).collect();
    if let Some(directory) = &options.figures {
        return print!("{}", figures(directory));
    }
    match (&options.daemon, &options.into, &options.table) {
        (Some(daemon), Some(into), _) => {
            let software = Software::ALL.into_iter().find(|software| software.label() == daemon);
            let software =
                software.unwrap_or_else(|| panic!("{daemon} is none of {:?}", Software::ALL.map(|s| s.label())));
            let rows: Vec<_> = rows.into_iter().filter(|row| row.id.starts_with(&options.rows)).collect();
            let (version, answers) = others::play(software, &rows);
            let text = serde_json::to_string_pretty(&Answers { version, answers });
            let path = into.join(format!("{daemon}.json"));
            let written = text.map_err(std::io::Error::from).and_then(|text| std::fs::write(&path, text));
            written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        (_, _, Some(directory)) => print!("{}", table(&rows, directory)),
        _ => eprintln!("give --daemon and --into, or --table, or --figures; --help tells more"),
    }
}

/// Markdown: rows and cases of each section, tried and passed, then the rows that are not tried and why.
fn figures(directory: &Path) -> String {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut reports: Vec<Report> =
        files.filter_map(|path| serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()).collect();
    reports.sort_by(|a, b| a.group.cmp(&b.group));
    let mut text =
        String::from("| group | rows tried | passed | cases tried | passed |\n| --- | --- | --- | --- | --- |\n");
    for report in &reports {
        let Figures { rows, rows_passed, cases, cases_passed } = report.figures();
        text += &format!("| {} | {rows} | {rows_passed} | {cases} | {cases_passed} |\n", report.group);
    }
    let left_out: Vec<_> = reports.iter().flat_map(|report| &report.not_applicable).collect();
    if !left_out.is_empty() {
        text += "\n| not tried | input | why |\n| --- | --- | --- |\n";
    }
    for row in left_out {
        text += &format!("| {} | {} | {} |\n", row.id, row.what, row.reason);
    }
    text
}

/// Answers of one daemon by row.
type Column = (String, BTreeMap<(String, String), String>);

/// Markdown: for each daemon how often it answered as we do, then one line for each row where one of them did not.
fn table(rows: &[Row], directory: &Path) -> String {
    let read = |software: Software| -> Option<Column> {
        let text = std::fs::read_to_string(directory.join(format!("{}.json", software.label()))).ok()?;
        let answers: Answers = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{software:?}: {error}"));
        let by_row = answers.answers.into_iter().map(|answer| ((answer.id, answer.what), answer.answer));
        Some((answers.version, by_row.collect()))
    };
    let daemons: Vec<_> = Software::ALL.into_iter().filter_map(read).collect();
    let answer = |column: &Column, row: &Row| column.1.get(&(row.id.to_owned(), row.what.to_string())).cloned();
    let differs =
        |column: &Column, row: &Row| answer(column, row).is_some_and(|found| !asked(row.expected).contains(&found));
    let asked_of = |column: &Column| rows.iter().filter(|row| answer(column, row).is_some()).count();
    let mut text = String::from("| daemon | cases | answered as Megalos | otherwise |\n| --- | --- | --- | --- |\n");
    for column in &daemons {
        let (all, other) = (asked_of(column), rows.iter().filter(|row| differs(column, row)).count());
        text += &format!("| {} | {all} | {} | {other} |\n", column.0, all - other);
    }
    text += "\n| row | input | asked for, and done by Megalos |";
    daemons.iter().for_each(|(version, _)| text += &format!(" {version} |"));
    text += &format!("\n| --- | --- | --- |{}\n", " --- |".repeat(daemons.len()));
    for row in rows.iter().filter(|row| daemons.iter().any(|column| differs(column, row))) {
        text += &format!("| {} | {} | {} |", row.id, row.what, asked(row.expected).join(" / "));
        for column in &daemons {
            let found = answer(column, row).unwrap_or_default();
            text += &if differs(column, row) { format!(" **{found}** |") } else { format!(" {found} |") };
        }
        text += "\n";
    }
    text
}

/// What must come of it: one answer, or one where the daemon is strict and one where it contains errors.
fn asked(expected: Expected) -> Vec<String> {
    let word = |verdict| match verdict {
        Verdict::Reset(code, subcode) => format!("reset {code}/{subcode}"),
        Verdict::Closed => "closed".to_owned(),
        Verdict::Withdrawn => "withdrawn".to_owned(),
        Verdict::Accepted | Verdict::Trimmed => "accepted".to_owned(),
        Verdict::Ignored => "kept".to_owned(),
        Verdict::Scripted => String::new(),
    };
    match expected {
        Expected::Always(verdict) => vec![word(verdict)],
        Expected::ByMode { strict, contain } => vec![word(strict), word(contain)],
    }
}
