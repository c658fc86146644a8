//! What can go wrong, for whom, and how often.

use std::time::Duration;

/// What was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// One object.
    Get,
    /// All objects.
    List,
    /// Changes.
    Watch,
    /// A whole new object state (PUT).
    Update,
    /// A part of one (PATCH).
    Patch,
    /// A new object (POST).
    Create,
}

impl Verb {
    /// Its name in RBAC.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Create => "create",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The answer has this HTTP status, and a Status object.
    Status(u16),
    /// As the status 429, with the time to wait in seconds.
    TooManyRequests(u32),
    /// The answer takes this long.
    Slow(Duration),
    /// No answer comes, ever.
    Silence,
    /// The connection is closed instead of an answer.
    Close,
    /// The answer's body is this text.
    Body(&'static str),
    /// A list has no items.
    EmptyList,
    /// A watch is accepted, and nothing comes by it any more.
    Stall,
    /// A watch is accepted and ended.
    End,
    /// A watch's first event is this line.
    Line(&'static str),
    /// A watch's first event is an error with this code.
    ErrorEvent(u16),
    /// A watch waits until this many events are there, and sends them last first.
    Reorder(usize),
    /// A watch breaks off in the middle of its first event.
    Truncate,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// For whom.
    pub verb: Verb,
    /// Plural of the resource.
    pub resource: &'static str,
    /// What.
    pub what: What,
    /// Requests that go right before it strikes.
    pub skip: usize,
    /// How often; it goes right after that.
    pub times: usize,
}

impl Fault {
    /// Until [`mend`](super::ApiServer::mend).
    pub const fn always(verb: Verb, resource: &'static str, what: What) -> Self {
        Self { verb, resource, what, skip: 0, times: usize::MAX }
    }

    /// Once.
    pub const fn once(verb: Verb, resource: &'static str, what: What) -> Self {
        Self { verb, resource, what, skip: 0, times: 1 }
    }

    /// After this many requests that go right.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }
}

/// All faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    struck: usize,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) const fn struck(&self) -> usize {
        self.struck
    }

    /// The fault that strikes this request, if one does.
    pub(super) fn strike(&mut self, verb: Verb, resource: &str) -> Option<What> {
        let fault =
            self.faults.iter_mut().find(|fault| fault.verb == verb && fault.resource == resource && fault.times > 0)?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        self.struck += 1;
        Some(fault.what.clone())
    }
}
