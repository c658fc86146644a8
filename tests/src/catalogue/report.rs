//! How many rows were tried and passed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Profile, Row};

/// A directory for `GROUP.json`, one for each group that was played.
pub const DIRECTORY_VARIABLE: &str = "CATALOGUE_REPORT";

/// What became of one trial of a row.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// Everything held; this is how long it took.
    Passed(Duration),
    /// Something did not.
    Failed,
    /// Too many others had failed before.
    NotReached,
}

#[derive(Debug, Deserialize, Serialize)]
struct Trial {
    id: String,
    what: String,
    rfc: String,
    expected: String,
    profile: String,
    outcome: String,
    millis: Option<u64>,
}

/// A row that is not tried.
#[derive(Debug, Deserialize, Serialize)]
pub struct NotApplicable {
    /// Its id.
    pub id: String,
    /// What would be sent.
    pub what: String,
    /// Why it is not.
    pub reason: String,
}

/// The trials of one group.
#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    /// Its name.
    pub group: String,
    trials: Vec<Trial>,
    /// What was left out.
    pub not_applicable: Vec<NotApplicable>,
}

/// Totals of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Figures {
    /// Ids of which at least one case was tried.
    pub rows: usize,
    /// Ids of which all cases passed.
    pub rows_passed: usize,
    /// Cases: a row may have several, and some are tried in both modes.
    pub cases: usize,
    /// Those that passed.
    pub cases_passed: usize,
}

impl Report {
    /// Without trials.
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), trials: Vec::new(), not_applicable: Vec::new() }
    }

    /// Adds one trial.
    pub fn add(&mut self, row: &Row, profile: Profile, outcome: Outcome) {
        let (outcome, millis) = match outcome {
            Outcome::Passed(time) => ("passed", u64::try_from(time.as_millis()).ok()),
            Outcome::Failed => ("failed", None),
            Outcome::NotReached => ("not reached", None),
        };
        self.trials.push(Trial {
            id: row.id.to_owned(),
            what: row.what.to_string(),
            rfc: row.rfc.to_owned(),
            expected: format!("{:?}", row.expected),
            profile: format!("{profile:?}"),
            outcome: outcome.to_owned(),
            millis,
        });
    }

    /// Adds a row that is not tried.
    pub fn not_applicable(&mut self, row: &Row, reason: &'static str) {
        self.not_applicable.push(NotApplicable {
            id: row.id.to_owned(),
            what: row.what.to_string(),
            reason: reason.to_owned(),
        });
    }

    /// Its totals.
    pub fn figures(&self) -> Figures {
        let ids = |wanted: &dyn Fn(&Trial) -> bool| {
            self.trials.iter().filter(|trial| wanted(trial)).map(|trial| &trial.id).collect::<BTreeSet<_>>().len()
        };
        let rows = ids(&|_| true);
        Figures {
            rows,
            rows_passed: rows - ids(&|trial| trial.outcome != "passed"),
            cases: self.trials.len(),
            cases_passed: self.trials.iter().filter(|trial| trial.outcome == "passed").count(),
        }
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let Figures { rows, rows_passed, cases, cases_passed } = self.figures();
        let (group, out) = (&self.group, self.not_applicable.len());
        format!(
            "catalogue: {group}: {rows} rows tried, {rows_passed} passed \
             ({cases} cases tried, {cases_passed} passed; {out} not applicable)"
        )
    }

    /// Prints the summary, and writes everything as JSON where [`DIRECTORY_VARIABLE`] tells to.
    ///
    /// # Panics
    ///
    /// If that directory cannot be written to.
    pub fn publish(&self) {
        eprintln!("{}", self.summary());
        if let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE) {
            let path = PathBuf::from(directory).join(format!("{}.json", self.group));
            let text = serde_json::to_string_pretty(self).unwrap_or_else(|error| panic!("{error}"));
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}
