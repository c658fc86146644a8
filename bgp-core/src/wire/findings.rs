//! Collects what was wrong with one UPDATE, in bounded space.

use super::error::Malformed;
use super::message::{Finding, Treatment};

/// The findings of a message being decoded.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    withdraw_all: bool,
}

impl Findings {
    /// Notes something malformed.
    pub fn add(&mut self, malformed: Malformed, attribute: Option<u8>) {
        let Malformed { treatment, rule } = malformed;
        self.withdraw_all |= treatment == Treatment::Withdraw;
        let same = |finding: &&mut Finding| {
            finding.treatment == treatment && finding.rule == rule && finding.attribute == attribute
        };
        // A hostile message repeats one thing thousands of times: the last kind is the likely one.
        if let Some(finding) = self.list.iter_mut().rev().find(same) {
            finding.count = finding.count.saturating_add(1);
        } else if self.list.len() < Finding::LIMIT {
            self.list.push(Finding { treatment, rule, attribute, count: 1 });
        }
    }

    /// Whether the routes of the message have to be withdrawn.
    pub fn withdraw_all(&self) -> bool {
        self.withdraw_all
    }

    /// The list, in the order of first occurrence.
    pub fn into_list(self) -> Vec<Finding> {
        self.list
    }
}
