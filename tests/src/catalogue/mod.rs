//! Hostile input, row by row: what a peer may send, what must come of it, and what must hold after each row.
//!
//! ```text
//!   rows (header, open, notification, volume, ...) ──► run ──► Stage ──► daemon in a Scene
//!                                                       │                  ▲
//!                                                       └── invariants ────┘   verdicts ──► report
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`ids`] | the ids that must be tried, or have a reason why not |
//! | [`actor`] | who sends: an address, its routes |
//! | [`scene`] | a fabric in good order around the daemon under test |
//! | [`observer`] | a healthy peer that keeps and re-reads every octet it is sent |
//! | [`vitals`] | whether a process lives, how much it holds, whether it spins |
//! | [`dialogue`] | a row of octets and a verdict, on any ground |
//! | [`batch`] | many inputs on one session |
//! | [`evidence`] | what a row left behind: counters, log lines, octets at the observer, reasons at the workers |
//! | [`stage`] | one row being tried: connections, routes that come and go |
//! | [`segments`] | TCP segments that no TCP would send |
//! | [`worker`] | the same rows at a worker, from a hostile reflector |
//! | [`others`] | the same rows at other people's daemons |
//! | [`run`] | plays rows, asserts the invariants, lists what failed |
//! | [`report`] | how many rows were tried and passed, for people and for machines |
//!
//! A row is data wherever that is possible: octets and a verdict. What takes more than octets is a script.

pub mod actor;
pub mod attributes;
pub mod batch;
pub mod dialogue;
pub mod evidence;
pub mod evpn;
pub mod forwarding;
pub mod framing;
pub mod header;
pub mod ids;
pub mod multiprotocol;
pub mod notification;
pub mod observer;
pub mod open;
pub mod others;
pub mod report;
pub mod run;
pub mod scene;
pub mod segments;
pub mod stage;
pub mod vitals;
pub mod volume;
pub mod worker;

use std::borrow::Cow;
use std::fmt;

use actor::Actor;
use stage::Stage;

/// Makes the octets that an actor sends.
pub type Octets = Box<dyn Fn(&Actor) -> Vec<u8> + Send + Sync>;

/// What must hold besides the verdict; it panics if it does not.
pub type Check = Box<dyn Fn(&mut Stage<'_>) + Send + Sync>;

/// One row of the catalogue, or one of several cases of a row.
pub struct Row {
    /// Its id: section and number.
    pub id: &'static str,
    /// What is sent.
    pub what: Cow<'static, str>,
    /// The rule that tells what must come of it.
    pub rfc: &'static str,
    /// What must come of it.
    pub expected: Expected,
    /// From whom it comes.
    pub profile: Profile,
    /// How it is played.
    pub play: Play,
    /// The code of the rule that must have been counted, where it is known.
    pub rule: Option<&'static str>,
    /// What must hold besides, asked while the session is still up (if it is to stay).
    pub also: Option<Check>,
}

/// How a row is played.
pub enum Play {
    /// Octets on a fresh connection, before anything else is said.
    Greeting(Octets),
    /// These octets instead of an OPEN; a KEEPALIVE follows where they are to be accepted.
    Open(Octets),
    /// Octets on an established session.
    Session {
        /// Capabilities beside EVPN and RT-constrain.
        capabilities: Vec<u8>,
        /// The octets.
        input: Octets,
    },
    /// Anything else; it panics if what must hold does not.
    Script(fn(&mut Stage<'_>)),
    /// Cannot be tried here, for this reason.
    NotApplicable(&'static str),
}

/// What a daemon must do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// NOTIFICATION with this code and subcode, and the end; what the peer announced is gone.
    Reset(u8, u8),
    /// The end without a NOTIFICATION.
    Closed,
    /// The session goes on and the actor's key, announced before in good form, is gone: treat-as-withdraw, or the
    /// withdrawal of that route alone.
    Withdrawn,
    /// The session goes on, the key in the input is installed, and nothing was wrong with it.
    Accepted,
    /// As [`Verdict::Accepted`], but a part was left out and counted: attribute discard, or a route that is skipped.
    Trimmed,
    /// The session goes on and the key, announced before in good form, stays.
    Ignored,
    /// Asserted by the row's script.
    Scripted,
}

/// What must come of a row, by how the daemon treats EVPN routes with a good frame and a bad body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    /// The same in both modes.
    Always(Verdict),
    /// The mode decides: the row is played in both.
    ByMode {
        /// `evpn_errors = "strict"`
        strict: Verdict,
        /// `evpn_errors = "contain"`
        contain: Verdict,
    },
}

impl From<Verdict> for Expected {
    fn from(verdict: Verdict) -> Self {
        Self::Always(verdict)
    }
}

/// The verdict of rows on routes whose frame is good and whose body is not: 3/9 where the daemon is strict, and where it
/// contains errors the withdrawal of that route.
pub const STRICT_OR_CONTAIN: Expected = Expected::ByMode { strict: Verdict::Reset(3, 9), contain: Verdict::Withdrawn };

/// The same for routes whose key cannot be told: nothing can be withdrawn, the route is dropped, and another one in the same
/// UPDATE (the key) is installed.
pub const STRICT_OR_DROP: Expected = Expected::ByMode { strict: Verdict::Reset(3, 9), contain: Verdict::Trimmed };

/// Who the actor is to the daemon: prefixes of the configuration with settings of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// A client; bad bodies of EVPN routes are contained.
    Contain,
    /// A client; bad bodies of EVPN routes end the session.
    Strict,
    /// A client with short timers: hold time 3 s, OPEN within 2 s, send hold 3 s, forgotten 2 s after its last sign, and whose
    /// routes are kept for 1 s and long-lived for 1 s more.
    Impatient,
    /// A client from whom no more than ten routes are accepted.
    Limited,
    /// A client with GTSM.
    Near,
    /// A peer of another AS.
    External,
    /// A client whose attribute sets are few.
    Scarce,
    /// A peer that the daemon dials itself; there are few of them.
    Dialled,
    /// A client whose distinct attributes may take no more than 64 KiB, and attributes of type 254 are stripped.
    Frugal,
    /// Nobody: outside all accepted prefixes.
    Stranger,
}

impl Profile {
    /// All of them, in the order of their prefixes.
    pub const ALL: [Self; 10] = [
        Self::Contain,
        Self::Strict,
        Self::Impatient,
        Self::Limited,
        Self::Near,
        Self::External,
        Self::Scarce,
        Self::Dialled,
        Self::Frugal,
        Self::Stranger,
    ];

    /// Second octet of the addresses of its actors, in 10.0.0.0/8.
    pub const fn octet(self) -> u8 {
        match self {
            Self::Contain => 1,
            Self::Strict => 2,
            Self::Impatient => 3,
            Self::Limited => 4,
            Self::Near => 5,
            Self::External => 6,
            Self::Scarce => 10,
            Self::Dialled => 7,
            Self::Frugal => 8,
            Self::Stranger => 9,
        }
    }

    /// Settings of the accepted prefix of its actors; none for who is configured by address, or not at all.
    pub const fn settings(self) -> Option<&'static str> {
        match self {
            Self::Contain => Some(""),
            Self::Strict => Some("evpn_errors = \"strict\""),
            Self::Impatient => Some(
                "hold_time_secs = 3\nopen_timeout_secs = 2\nsend_hold_secs = 3\nidle_hold_max_secs = 2\n\
                 restart_time_max_secs = 1\nlong_lived_stale_max_secs = 1",
            ),
            Self::Limited => Some("max_routes = 10"),
            Self::Near => Some("gtsm = true"),
            Self::External => Some("role = \"external\""),
            Self::Scarce => Some("max_attribute_sets = 100"),
            Self::Frugal => Some("max_attribute_octets = 65536\nstrip_attributes = [254]"),
            Self::Dialled | Self::Stranger => None,
        }
    }
}

/// The rows of each section.
pub fn sections() -> Vec<(char, Vec<Row>)> {
    vec![
        ('A', header::rows()),
        ('B', open::rows()),
        ('C', framing::rows()),
        ('D', attributes::rows()),
        ('E', multiprotocol::rows()),
        ('F', evpn::rows().into_iter().chain(forwarding::rows()).collect()),
        ('G', notification::rows()),
        ('H', volume::rows()),
    ]
}

impl Row {
    fn new(
        id: &'static str,
        what: impl Into<Cow<'static, str>>,
        rfc: &'static str,
        expected: impl Into<Expected>,
        play: Play,
    ) -> Self {
        Self {
            id,
            what: what.into(),
            rfc,
            expected: expected.into(),
            profile: Profile::Contain,
            play,
            rule: None,
            also: None,
        }
    }

    /// Octets on a fresh connection.
    pub fn greeting(
        id: &'static str,
        what: impl Into<Cow<'static, str>>,
        rfc: &'static str,
        expected: impl Into<Expected>,
        octets: impl Fn(&Actor) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::new(id, what, rfc, expected, Play::Greeting(Box::new(octets)))
    }

    /// Octets instead of an OPEN.
    pub fn open(
        id: &'static str,
        what: impl Into<Cow<'static, str>>,
        rfc: &'static str,
        expected: impl Into<Expected>,
        octets: impl Fn(&Actor) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::new(id, what, rfc, expected, Play::Open(Box::new(octets)))
    }

    /// Octets on an established session.
    pub fn session(
        id: &'static str,
        what: impl Into<Cow<'static, str>>,
        rfc: &'static str,
        expected: impl Into<Expected>,
        octets: impl Fn(&Actor) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let play = Play::Session { capabilities: Vec::new(), input: Box::new(octets) };
        Self::new(id, what, rfc, expected, play)
    }

    /// What takes more than octets.
    pub fn script(
        id: &'static str,
        what: impl Into<Cow<'static, str>>,
        rfc: &'static str,
        script: fn(&mut Stage<'_>),
    ) -> Self {
        Self::new(id, what, rfc, Verdict::Scripted, Play::Script(script))
    }

    /// A row that cannot be tried here.
    pub fn not_applicable(
        id: &'static str,
        what: impl Into<Cow<'static, str>>,
        rfc: &'static str,
        reason: &'static str,
    ) -> Self {
        Self::new(id, what, rfc, Verdict::Scripted, Play::NotApplicable(reason))
    }

    /// The same row with an actor of this profile.
    #[must_use]
    pub fn on(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// The same row with these capabilities in the actor's OPEN, beside EVPN and RT-constrain.
    #[must_use]
    pub fn with_capabilities(mut self, more: &[u8]) -> Self {
        if let Play::Session { capabilities, .. } = &mut self.play {
            capabilities.extend(more);
        }
        self
    }

    /// The same row, and the daemon must count it as a breach of the rule with this code.
    #[must_use]
    pub fn breaks(self, rule: &'static str) -> Self {
        Self { rule: Some(rule), ..self }
    }

    /// The same row, and this must hold besides what was said before.
    #[must_use]
    pub fn also(mut self, check: impl Fn(&mut Stage<'_>) + Send + Sync + 'static) -> Self {
        self.also = match self.also.take() {
            None => Some(Box::new(check)),
            Some(before) => Some(Box::new(move |stage| {
                before(stage);
                check(stage);
            })),
        };
        self
    }

    /// The ways in which it is to be tried: by whom, and with which verdict.
    pub fn trials(&self) -> Vec<(Profile, Verdict)> {
        match self.expected {
            _ if matches!(self.play, Play::NotApplicable(_)) => Vec::new(),
            Expected::Always(verdict) => vec![(self.profile, verdict)],
            Expected::ByMode { strict, contain } => vec![(Profile::Strict, strict), (Profile::Contain, contain)],
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.what)
    }
}
