//! Names for what is refused and for what is done about it, the same in counters, logs and `docs/findings.md`.
//!
//! Every place that refuses something of a peer names a [`Rule`]: a short code that does not change between versions, and
//! the text that it comes from. A crate lists its rules with [`rules!`](crate::rules); the document is generated from
//! those lists, and a test compares the two.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

/// What a [`Rule`] refers to.
#[derive(Debug)]
pub struct Definition {
    /// The code: lower case, hyphens, stable.
    pub code: &'static str,
    /// RFC and section, or the limit or policy of ours that it is.
    pub reference: &'static str,
    /// What was met, in one sentence without a full stop.
    pub meaning: &'static str,
}

/// A rule that an input broke. Equal where the codes are.
#[derive(Clone, Copy)]
pub struct Rule(&'static Definition);

impl Rule {
    /// A rule with this definition; for [`rules!`](crate::rules).
    pub const fn new(definition: &'static Definition) -> Self {
        Self(definition)
    }

    /// The stable code, such as `origin-length`.
    pub const fn code(self) -> &'static str {
        self.0.code
    }

    /// Where it is laid down, such as `RFC 7606 section 7.1`.
    pub const fn reference(self) -> &'static str {
        self.0.reference
    }

    /// What was met, in words.
    pub const fn meaning(self) -> &'static str {
        self.0.meaning
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.0, other.0) || self.code() == other.code()
    }
}

impl Eq for Rule {}

impl PartialOrd for Rule {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rule {
    fn cmp(&self, other: &Self) -> Ordering {
        self.code().cmp(other.code())
    }
}

impl Hash for Rule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.code().hash(state);
    }
}

/// Defines rules as constants, and `ALL` of them: `NAME = "code", "reference", "meaning";`.
#[macro_export]
macro_rules! rules {
    ($($name:ident = $code:literal, $reference:literal, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            #[doc = concat!("(", $reference, ").")]
            pub const $name: $crate::rule::Rule = $crate::rule::Rule::new(&$crate::rule::Definition {
                code: $code,
                reference: $reference,
                meaning: $meaning,
            });
        )*

        /// Every rule of this module.
        pub const ALL: &[$crate::rule::Rule] = &[$($name),*];
    };
}

/// What is done about an input that breaks a rule, mildest first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Counted and logged; nothing else changes.
    Note,
    /// The message, or the part of it, has no effect.
    Ignore,
    /// One NLRI of an unknown type is skipped (RFC 7606 section 5.4).
    SkipRoute,
    /// The attribute is dropped, the rest of the UPDATE counts (RFC 7606 section 2).
    DiscardAttribute,
    /// The route is kept in the table and not used for forwarding.
    NotInstalled,
    /// One NLRI is withdrawn, or dropped if its key cannot be read; the rest of the UPDATE counts.
    WithdrawRoute,
    /// All routes of the UPDATE are withdrawn (RFC 7606 section 2, treat-as-withdraw).
    Withdraw,
    /// The address family is ignored for the rest of the session (RFC 7606 section 2).
    DisableFamily,
    /// A connection is closed before it has become a session.
    Close,
    /// A NOTIFICATION is sent and the connection is closed.
    Reset,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::Note,
        Self::Ignore,
        Self::SkipRoute,
        Self::DiscardAttribute,
        Self::NotInstalled,
        Self::WithdrawRoute,
        Self::Withdraw,
        Self::DisableFamily,
        Self::Close,
        Self::Reset,
    ];

    /// The stable name for counters and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Ignore => "ignore",
            Self::SkipRoute => "skip-route",
            Self::DiscardAttribute => "discard-attribute",
            Self::NotInstalled => "not-installed",
            Self::WithdrawRoute => "withdraw-route",
            Self::Withdraw => "withdraw",
            Self::DisableFamily => "disable-family",
            Self::Close => "close",
            Self::Reset => "reset",
        }
    }

    /// What it means, in words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Note => "counted and logged; nothing else changes",
            Self::Ignore => "the message, or the part of it, has no effect",
            Self::SkipRoute => "one NLRI of an unknown type is skipped (RFC 7606 section 5.4)",
            Self::DiscardAttribute => "the attribute is dropped, the rest of the UPDATE counts (RFC 7606 section 2)",
            Self::NotInstalled => "the route is kept in the table and not used for forwarding",
            Self::WithdrawRoute => "one NLRI is withdrawn, or dropped if its key cannot be read",
            Self::Withdraw => "all routes of the UPDATE are withdrawn (RFC 7606 section 2, treat-as-withdraw)",
            Self::DisableFamily => "the address family is ignored for the rest of the session (RFC 7606 section 2)",
            Self::Close => "a connection is closed before it has become a session",
            Self::Reset => "a NOTIFICATION is sent and the connection is closed",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
