//! What is wrong with a lab, all of it at once, and what is merely odd.
//!
//! Parsers write into a [`Report`]; [`super::parse()`] turns it into [`LabErrors`] or hands the warnings
//! out beside the lab. Both have a text for people and a serde form for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Errors and warnings kept apart; what comes beyond is counted. A binary file given as `lab.conf`
/// would otherwise fill the memory.
const KEPT_MAX: usize = 1000;

/// A position in a file of the lab. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// Path relative to the lab's directory.
    pub file: String,
    /// Line, where the finding belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column, where it helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Location {
    /// The file as a whole.
    pub fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, column: None }
    }

    /// A line of a file.
    pub fn line(file: impl Into<String>, line: usize) -> Self {
        Self { line: Some(line), ..Self::file(file) }
    }

    /// The same line, at `column`.
    #[must_use]
    pub fn at(mut self, column: usize) -> Self {
        self.column = Some(column);
        self
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        for part in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{part}")?;
        }
        Ok(())
    }
}

/// The kind of an error, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// A file or directory that a lab must have is missing or empty.
    Missing,
    /// A file or directory cannot be read, or is larger than any lab's.
    Unreadable,
    /// Bytes that are not UTF-8, or a NUL.
    Encoding,
    /// A line has none of the forms its file knows.
    Syntax,
    /// A device has a name that the format keeps for itself.
    ReservedName,
    /// The value of an interface line is no collision domain.
    BadInterface,
    /// The MAC address of an interface cannot be used.
    BadMac,
    /// The same interface, or the same device on a collision domain, a second time.
    Duplicate,
    /// Interface numbers leave a gap.
    InterfaceGap,
    /// An option's value is out of its range.
    BadOption,
    /// `lab.dep` makes a device wait for itself.
    DependencyLoop,
    /// `lab.ext` names a collision domain that no device is on.
    UnknownLan,
    /// A setting in `kathara.conf` has the wrong type.
    BadSetting,
}

/// One thing that is wrong with a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabError {
    /// Where.
    #[serde(flatten)]
    pub location: Location,
    /// Its kind.
    pub code: ErrorCode,
    /// What was found there.
    pub found: String,
    /// What was expected there, which is also the cure.
    pub expected: String,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { location, found, expected, .. } = self;
        write!(f, "{location}: {found}; expected {expected}")
    }
}

impl std::error::Error for LabError {}

/// The kind of a warning, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WarningCode {
    /// An option that nothing knows.
    UnknownOption,
    /// A later line replaces an earlier one.
    Overwritten,
    /// A comment has become part of a value.
    CommentInValue,
    /// Blanks have become part of a value.
    BlankInValue,
    /// A metadata value that other readers of the format refuse.
    OddMetadata,
    /// A value outside what can take effect.
    OddValue,
    /// A file or folder that belongs to no device.
    Orphan,
    /// `lab.dep` names something that is no device.
    UnknownDevice,
}

/// One thing that is accepted, but hardly means what its author wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Where.
    #[serde(flatten)]
    pub location: Location,
    /// Its kind.
    pub code: WarningCode,
    /// What was found there and what it comes to.
    pub text: String,
    /// What to do about it.
    pub cure: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { location, text, cure, .. } = self;
        write!(f, "{location}: {text}; {cure}")
    }
}

/// All that is wrong with a lab, in the order of its files and lines, and the warnings beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabErrors {
    /// The errors; never empty when returned by a parser.
    pub errors: Vec<LabError>,
    /// Errors beyond the 1,000 that are kept.
    #[serde(default)]
    pub more: usize,
    /// What was odd besides.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

impl fmt::Display for LabErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len() + self.more;
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "the lab has {count} {noun}:")?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        if self.more > 0 {
            write!(f, "\n  and {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for LabErrors {}

/// Collects what the parsers of a lab's files find.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Vec<LabError>,
    more: usize,
    warnings: Vec<Warning>,
}

impl Report {
    /// Notes an error.
    pub(super) fn error(
        &mut self,
        location: Location,
        code: ErrorCode,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if self.errors.len() >= KEPT_MAX {
            self.more += 1;
            return;
        }
        self.errors.push(LabError { location, code, found: found.into(), expected: expected.into() });
    }

    /// Notes a warning; the first 1,000 are kept.
    pub(super) fn warn(
        &mut self,
        location: Location,
        code: WarningCode,
        text: impl Into<String>,
        cure: impl Into<String>,
    ) {
        if self.warnings.len() < KEPT_MAX {
            self.warnings.push(Warning { location, code, text: text.into(), cure: cure.into() });
        }
    }

    /// Whether an error was noted.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// `value` with the warnings, or all errors if there is one.
    pub(super) fn finish<T>(self, value: T) -> Result<(T, Vec<Warning>), LabErrors> {
        if self.errors.is_empty() {
            return Ok((value, self.warnings));
        }
        Err(LabErrors { errors: self.errors, more: self.more, warnings: self.warnings })
    }
}

/// `text` between backquotes, control characters escaped, cut where it is too long for a message.
pub(super) fn quote(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown = String::from("`");
    for (place, c) in text.chars().enumerate() {
        if place == SHOWN_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.push('`');
    shown
}
