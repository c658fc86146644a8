//! The versions of the CNI specification that the plugin speaks.

use std::fmt;

use crate::plugin::environment::Verb;

/// A version of the specification. Between them only what is asked here differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.3.1: results list interfaces.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses lose their `version`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, MTU of interfaces, details of routes.
    V1_1_0,
}

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As it stands in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of that text, if it is one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Whether the version has the verb.
    pub fn has(self, verb: Verb) -> bool {
        match verb {
            Verb::Add | Verb::Del | Verb::Version => true,
            Verb::Check => self >= Self::V0_4_0,
            Verb::Gc | Verb::Status => self >= Self::V1_1_0,
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
