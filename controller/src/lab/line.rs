//! One line of `lab.conf`.
//!
//! In: a line without its line feed. Out: what it says, or where it stops making sense. Whether the
//! parts mean anything is for [`super::conf`] to judge.
//!
//! ```text
//! line       = blank | "#" anything | metadata | assignment
//! metadata   = ("LAB_NAME" | …) "=" value
//! assignment = device "[" arg "]=" value [blanks "#" comment]
//! device     = 1 to 30 of a-z 0-9 _
//! arg        = word characters
//! value      = 1 or more characters, none a quote; in matching quotes or bare
//! ```
//!
//! A bare value reaches as far as it can, so a comment after it belongs to it, unless the comment
//! itself holds a quote. `#` starts a comment line only in the first column.

use super::error::quote;
use super::text::{is_blank, is_word, trim};

/// Longest name of a device, in characters.
const DEVICE_NAME_MAX: usize = 30;

/// A metadata key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetadataKey {
    Name,
    Description,
    Version,
    Author,
    Email,
    Web,
}

impl MetadataKey {
    /// All keys, in the order in which a printed lab has them.
    pub(super) const ALL: [Self; 6] =
        [Self::Name, Self::Description, Self::Version, Self::Author, Self::Email, Self::Web];

    /// The key as `lab.conf` spells it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "LAB_NAME",
            Self::Description => "LAB_DESCRIPTION",
            Self::Version => "LAB_VERSION",
            Self::Author => "LAB_AUTHOR",
            Self::Email => "LAB_EMAIL",
            Self::Web => "LAB_WEB",
        }
    }
}

/// Whether a value stood in quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quoting {
    Quoted,
    Bare,
}

/// `device[arg]=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    pub device: &'a str,
    pub arg: &'a str,
    pub value: &'a str,
    pub quoting: Quoting,
    /// Column of `arg`, counted from 1.
    pub arg_column: usize,
    /// Column of the value's first character, counted from 1.
    pub value_column: usize,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Nothing: an empty line or a comment.
    Nothing,
    /// A metadata line; the value as written, quotes included.
    Metadata(MetadataKey, &'a str),
    /// An interface or an option.
    Assignment(Assignment<'a>),
}

/// Where a line stops being one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Column, counted from 1.
    pub column: usize,
    pub found: String,
    pub expected: &'static str,
}

/// Reads one line.
pub(super) fn parse_line(line: &str) -> Result<Line<'_>, SyntaxError> {
    let text = trim(line);
    if text.is_empty() || line.starts_with('#') {
        return Ok(Line::Nothing);
    }
    for key in MetadataKey::ALL {
        let value = text.strip_prefix(key.as_str());
        if let Some(value) = value.and_then(|rest| rest.strip_prefix('=')) {
            return Ok(Line::Metadata(key, value));
        }
    }
    let indent = line.chars().take_while(|c| is_blank(*c)).count();
    let mut cursor = Cursor { rest: text, column: indent + 1 };
    if text.starts_with('#') {
        return Err(cursor.error("`#` in the first column: a comment line must not be indented"));
    }
    cursor.assignment().map(Line::Assignment)
}

/// The part of a line that is not read yet.
struct Cursor<'a> {
    rest: &'a str,
    column: usize,
}

impl<'a> Cursor<'a> {
    fn assignment(&mut self) -> Result<Assignment<'a>, SyntaxError> {
        let device = self.take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if device.is_empty() {
            return Err(self.error(
                "a device name of `a-z`, `0-9` and `_`, as in `pc1[0]=\"A\"`, or `LAB_NAME=`, `LAB_DESCRIPTION=`, \
                 `LAB_VERSION=`, `LAB_AUTHOR=`, `LAB_EMAIL=`, `LAB_WEB=`",
            ));
        }
        if device.len() > DEVICE_NAME_MAX {
            return Err(SyntaxError {
                column: self.column - device.len(),
                found: format!("a device name of {} characters", device.len()),
                expected: "30 at most",
            });
        }
        self.expect('[', "`[` right after the device name, which has only `a-z`, `0-9` and `_`")?;
        let arg_column = self.column;
        let arg = self.take_while(is_word);
        if arg.is_empty() {
            return Err(self.error("an interface number or the name of an option"));
        }
        self.expect(']', "`]` after the interface number or the name of the option")?;
        self.expect('=', "`=` right after `]`")?;
        let (value, quoting, value_column) = self.value()?;
        Ok(Assignment { device, arg, value, quoting, arg_column, value_column })
    }

    fn value(&mut self) -> Result<(&'a str, Quoting, usize), SyntaxError> {
        let Some(open) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            let column = self.column;
            return Ok((self.bare_value()?, Quoting::Bare, column));
        };
        self.expect(open, "a quote")?;
        let column = self.column;
        let value = self.take_while(|c| !matches!(c, '"' | '\''));
        if value.is_empty() {
            return Err(self.error("a value of one character or more"));
        }
        let close = if open == '"' {
            "the closing `\"`; a value can hold no quote of either kind"
        } else {
            "the closing `'`; a value can hold no quote of either kind"
        };
        self.expect(open, close)?;
        if !is_trailer(self.rest) {
            return Err(self.error("the end of the line, or a blank and a `#` comment"));
        }
        Ok((value, Quoting::Quoted, column))
    }

    /// The longest run without quotes that leaves nothing, or a comment.
    fn bare_value(&mut self) -> Result<&'a str, SyntaxError> {
        let whole = self.rest;
        let run = self.take_while(|c| !matches!(c, '"' | '\''));
        if run.is_empty() {
            return Err(self.error("a value of one character or more"));
        }
        if self.rest.is_empty() {
            return Ok(run);
        }
        let mut cuts = run.char_indices().rev().map(|(at, _)| at);
        cuts.find_map(|at| {
            let (value, trailer) = whole.split_at_checked(at)?;
            (!value.is_empty() && is_trailer(trailer)).then_some(value)
        })
        .ok_or_else(|| self.error("a value without quotes, or one quoted as a whole"))
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.column += taken.chars().count();
        taken
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), SyntaxError> {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                self.column += 1;
                Ok(())
            }
            None => Err(self.error(expected)),
        }
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        let found = if self.rest.is_empty() { "the end of the line".to_owned() } else { quote(self.rest) };
        SyntaxError { column: self.column, found, expected }
    }
}

/// Whether `text` may follow a value: nothing, or blanks and a comment.
fn is_trailer(text: &str) -> bool {
    text.is_empty() || (text.starts_with(is_blank) && text.trim_start_matches(is_blank).starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Option<&str> {
        match parse_line(line) {
            Ok(Line::Assignment(assignment)) => Some(assignment.value),
            _ => None,
        }
    }

    #[test]
    fn a_comment_is_dropped_after_a_quoted_value_and_kept_in_a_bare_one() {
        assert_eq!(value(r#"pc1[0]="A" # c"#), Some("A"));
        assert_eq!(value("pc1[0]='A'\t#c"), Some("A"));
        assert_eq!(value("pc1[image]=A # c"), Some("A # c"));
        assert_eq!(value("pc1[0]=A#c"), Some("A#c"));
        assert_eq!(value(r#"pc1[image]="a # b""#), Some("a # b"));
    }

    #[test]
    fn a_quote_in_the_comment_ends_a_bare_value_before_it() {
        assert_eq!(value("pc1[0]=A # it's"), Some("A"));
        assert_eq!(value("pc1[image]=A # b # it's"), Some("A # b"));
        assert_eq!(value("pc1[image]=A  # it's"), Some("A "));
        assert_eq!(value("pc1[image]=A'B"), None);
    }

    #[test]
    fn quotes_must_match_and_hold_something() {
        for line in [
            r#"pc1[0]="A"#,
            r#"pc1[0]='A""#,
            r#"pc1[0]=A""#,
            r#"pc1[image]="""#,
            "pc1[image]=",
            r#"pc1[0]="A"#,
            r#"pc1[0]="A"#,
            r#"pc1[0]="A"#,
            r#"pc1[exec]="echo 'x'""#,
        ] {
            assert_eq!(value(line), None, "{line}");
        }
        let glued = parse_line(concat!(r#"pc1[0]="A""#, "#c")).unwrap_err();
        assert_eq!(glued.column, 11);
    }

    #[test]
    fn blanks_are_allowed_around_the_line_and_nowhere_else() {
        assert_eq!(value("  pc1[0]=\"A\" \r"), Some("A"));
        for line in ["pc1 [0]=A", "pc1[ 0]=A", "pc1[0] =A", "pc1[0]= \"A\"", "pc1[-1]=A"] {
            assert_eq!(value(line), None, "{line}");
        }
        assert_eq!(value("pc1[image]= A"), Some(" A"));
    }

    #[test]
    fn a_comment_line_must_start_in_the_first_column() {
        assert_eq!(parse_line("# c"), Ok(Line::Nothing));
        assert_eq!(parse_line("  \t"), Ok(Line::Nothing));
        assert_eq!(parse_line("  # c").unwrap_err().column, 3);
    }

    #[test]
    fn names_are_lower_case_and_thirty_characters_at_most() {
        assert_eq!(parse_line("PC1[0]=A").unwrap_err().column, 1);
        assert_eq!(parse_line("pC1[0]=A").unwrap_err().column, 2);
        assert_eq!(value(&format!("{}[0]=A", "a".repeat(30))), Some("A"));
        assert_eq!(value(&format!("{}[0]=A", "a".repeat(31))), None);
    }

    #[test]
    fn metadata_keys_are_known_by_name() {
        assert_eq!(parse_line("LAB_NAME=\"x\""), Ok(Line::Metadata(MetadataKey::Name, "\"x\"")));
        assert!(parse_line("LAB_COLOUR=x").is_err());
    }
}
