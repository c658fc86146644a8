//! How many rows were tried and passed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

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

#[derive(Debug, Serialize)]
struct Trial {
    id: &'static str,
    what: String,
    rfc: &'static str,
    expected: String,
    profile: String,
    outcome: &'static str,
    millis: Option<u64>,
}

#[derive(Debug, Serialize)]
struct NotApplicable {
    id: &'static str,
    what: String,
    reason: &'static str,
}

/// The trials of one group.
#[derive(Debug, Serialize)]
pub struct Report {
    group: String,
    trials: Vec<Trial>,
    not_applicable: Vec<NotApplicable>,
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
            id: row.id,
            what: row.what.to_string(),
            rfc: row.rfc,
            expected: format!("{:?}", row.expected),
            profile: format!("{profile:?}"),
            outcome,
            millis,
        });
    }

    /// Adds a row that is not tried.
    pub fn not_applicable(&mut self, row: &Row, reason: &'static str) {
        self.not_applicable.push(NotApplicable { id: row.id, what: row.what.to_string(), reason });
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let ids = |passed: Option<bool>| {
            let of = |trial: &&Trial| passed.is_none_or(|passed| (trial.outcome == "passed") == passed);
            self.trials.iter().filter(of).map(|trial| trial.id).collect::<BTreeSet<_>>()
        };
        let (tried, failed) = (ids(None).len(), ids(Some(false)).len());
        let cases = self.trials.len();
        let passed = self.trials.iter().filter(|trial| trial.outcome == "passed").count();
        let group = &self.group;
        let out = self.not_applicable.len();
        format!(
            "catalogue: {group}: {tried} rows tried, {} passed ({cases} cases tried, {passed} passed; {out} not applicable)",
            tried - failed
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
