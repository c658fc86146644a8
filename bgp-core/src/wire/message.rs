//! The five BGP messages and route refresh.

use bytes::Bytes;

use super::attributes::PathAttributes;
use super::nlri::{Evpn, Nlri, Route, RtConstrain};
use crate::rule::Rule;
use crate::types::{AddressFamily, Asn, RouterId};

/// A BGP message as received or to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Type 1.
    Open(Open),
    /// Type 2.
    Update(Box<Update>),
    /// Type 3.
    Notification(Notification),
    /// Type 4.
    Keepalive,
    /// Type 5 (RFC 2918, RFC 7313).
    RouteRefresh(RouteRefresh),
}

/// OPEN (RFC 4271 section 4.2). The AS number is the 4-octet one where the peer has that capability.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// Sender's AS.
    pub asn: Asn,
    /// Proposed hold time in seconds: 0, or 3 and more.
    pub hold_time_secs: u16,
    /// Sender's BGP identifier, not zero.
    pub router_id: RouterId,
    /// In the order sent.
    pub capabilities: Vec<Capability>,
}

/// A capability (RFC 5492).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Capability {
    /// Code 1 (RFC 4760).
    Multiprotocol(AddressFamily),
    /// Code 2 (RFC 2918).
    RouteRefresh,
    /// Code 6 (RFC 8654).
    ExtendedMessage,
    /// Code 64 (RFC 4724, N bit of RFC 8538).
    GracefulRestart(GracefulRestart),
    /// Code 65 (RFC 6793).
    FourOctetAs(Asn),
    /// Code 70 (RFC 7313).
    EnhancedRouteRefresh,
    /// Code 71 (RFC 9494): family, forwarding state preserved, long-lived stale time in seconds (24 bits).
    LongLivedGracefulRestart(Vec<(AddressFamily, bool, u32)>),
    /// Anything else, ignored.
    Unknown {
        /// Capability code.
        code: u8,
        /// Its value.
        value: Bytes,
    },
}

/// The graceful restart capability.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GracefulRestart {
    /// R bit: the sender has restarted.
    pub restarting: bool,
    /// N bit: a NOTIFICATION does not end graceful restart (RFC 8538).
    pub notification: bool,
    /// Restart time in seconds, 0 to 4095.
    pub restart_time_secs: u16,
    /// Families, and whether forwarding state was preserved (F bit).
    pub families: Vec<(AddressFamily, bool)>,
}

/// NOTIFICATION (RFC 4271 section 4.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode.
    pub subcode: u8,
    /// Data; a shutdown communication for Cease 2 and 4 (RFC 9003).
    pub data: Bytes,
}

/// ROUTE-REFRESH.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteRefresh {
    /// Whose routes.
    pub family: AddressFamily,
    /// Normal request, or one of the demarcations of RFC 7313.
    pub kind: RefreshKind,
}

/// Message subtype of a ROUTE-REFRESH (RFC 7313 section 3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefreshKind {
    /// 0: please send everything again.
    Request,
    /// 1: beginning of a refresh (BoRR).
    Begin,
    /// 2: end of a refresh (EoRR).
    End,
    /// 3 and more: to be ignored (section 5).
    Unknown(u8),
}

/// UPDATE, decoded. Treat-as-withdraw has been applied: routes of a malformed announcement stand in `unreach`.
/// A key that stands in both is announced (RFC 7606 section 5.1: the withdrawal is applied first).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Update {
    /// Routes announced, with their common attributes.
    pub reach: Option<Reach>,
    /// Routes withdrawn; up to two families where treat-as-withdraw met an MP_UNREACH_NLRI of the other.
    pub unreach: Vec<Unreach>,
    /// The message was an end-of-RIB marker (RFC 4724 section 2).
    pub end_of_rib: Option<AddressFamily>,
    /// A family that must be ignored for the rest of the session (RFC 7606 section 2).
    pub disable: Option<AddressFamily>,
    /// What was wrong but did not end the session, for counters and logs; at most [`Finding::LIMIT`] kinds.
    pub findings: Vec<Finding>,
}

/// Announced routes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reach {
    /// Common path attributes.
    pub attributes: PathAttributes,
    /// The routes.
    pub routes: Routes,
}

/// Routes of one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Routes {
    /// EVPN routes.
    Evpn(Vec<Route<Evpn>>),
    /// Route target memberships.
    RtConstrain(Vec<Route<RtConstrain>>),
}

/// Withdrawn keys of one family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unreach {
    /// EVPN keys.
    Evpn(Vec<<Evpn as Nlri>::Key>),
    /// Route target memberships.
    RtConstrain(Vec<<RtConstrain as Nlri>::Key>),
}

/// Something malformed that was contained (RFC 7606 section 2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What was done about it.
    pub treatment: Treatment,
    /// What is wrong, such as `origin-length`.
    pub rule: Rule,
    /// The attribute type code concerned, if one.
    pub attribute: Option<u8>,
    /// How often it occurred in this message.
    pub count: u32,
}

impl Finding {
    /// Most kinds of findings that one message reports; what exceeds it is acted upon and not reported.
    pub const LIMIT: usize = 32;
}

/// What RFC 7606 section 2 lets a receiver do short of ending the session, mildest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Treatment {
    /// Nothing: it is odd, and somebody should look at the sender.
    Note,
    /// One NLRI of an unknown type was skipped (section 5.4).
    SkipRoute,
    /// The attribute was dropped.
    DiscardAttribute,
    /// One NLRI with a good frame and a bad body was withdrawn, or dropped if its key could not be read.
    WithdrawRoute,
    /// All routes of the UPDATE were withdrawn.
    Withdraw,
    /// The family is ignored from now on.
    DisableFamily,
}
