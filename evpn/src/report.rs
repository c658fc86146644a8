//! What an operator should know: events for logs and metrics.

use core::fmt;
use std::net::IpAddr;

use bgp_core::rule::{Action, Rule};
use bgp_core::types::{MacAddr, Vni};
use bgp_core::wire::EvpnKey;

use crate::engine::Member;
use crate::import::{Exclusion, Refusal};
use crate::rules;

/// Something worth a log line and a counter.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are named for what they hold; `vtep` is always the remote one")]
pub enum Report {
    /// A claim took a MAC from another VTEP.
    ClaimMoved { vni: Vni, mac: MacAddr, vtep: IpAddr, sequence: u32 },
    /// A rival answered a fresh claim; the claim was repeated above it, once.
    ClaimContested { vni: Vni, mac: MacAddr, vtep: IpAddr, sequence: u32 },
    /// A claimed MAC is another VTEP's now. Frames do not take it back.
    ClaimYielded { vni: Vni, mac: MacAddr, vtep: IpAddr },
    /// N moves in M seconds (RFC 7432 section 15.1).
    DuplicateMac { vni: Vni, mac: MacAddr, moves: u32, vtep: IpAddr, frozen: bool },
    /// A frozen MAC may move again.
    DuplicateCleared { vni: Vni, mac: MacAddr },
    /// A MAC that is sticky at a remote VTEP sent a frame on a local port (section 15.2).
    StickySeenLocally { vni: Vni, mac: MacAddr, vtep: IpAddr, member: Member },
    /// A remote VTEP announces a MAC that is sticky here (section 15.2).
    StickyAnnounced { vni: Vni, mac: MacAddr, vtep: IpAddr },
    /// A VTEP announces a MAC that is sticky at another one, which keeps it (section 15.2).
    StickyContested { vni: Vni, mac: MacAddr, vtep: IpAddr, holder: IpAddr },
    /// A route was not imported.
    RouteRefused { key: EvpnKey, reason: Refusal },
    /// A route was imported and is kept, but not installed.
    RouteExcluded { vni: Vni, key: EvpnKey, reason: Exclusion },
    /// The flood list of a LAN is full; the VTEP waits.
    FloodLimit { vni: Vni, vtep: IpAddr },
    /// The remote MACs of a LAN are at their limit; the MAC waits.
    RemoteMacLimit { vni: Vni, mac: MacAddr },
    /// The learned MACs of a LAN are at their limit; the MAC is not announced until it is learned again.
    LearnedMacLimit { vni: Vni, mac: MacAddr, member: Member },
    /// The MACs of a port are at their limit; the MAC is not announced until it is learned again.
    PortMacLimit { vni: Vni, mac: MacAddr, member: Member },
}

impl Report {
    /// The rule for counters and logs.
    pub fn rule(&self) -> Rule {
        match self {
            Self::ClaimMoved { .. } => rules::CLAIM_MOVED,
            Self::ClaimContested { .. } => rules::CLAIM_CONTESTED,
            Self::ClaimYielded { .. } => rules::CLAIM_YIELDED,
            Self::DuplicateMac { .. } => rules::DUPLICATE_MAC,
            Self::DuplicateCleared { .. } => rules::DUPLICATE_CLEARED,
            Self::StickySeenLocally { .. } => rules::STICKY_SEEN_LOCALLY,
            Self::StickyAnnounced { .. } => rules::STICKY_ANNOUNCED,
            Self::StickyContested { .. } => rules::STICKY_CONTESTED,
            Self::RouteRefused { reason, .. } => reason.rule(),
            Self::RouteExcluded { reason, .. } => reason.rule(),
            Self::FloodLimit { .. } => rules::FLOOD_LIMIT,
            Self::RemoteMacLimit { .. } => rules::REMOTE_MAC_LIMIT,
            Self::LearnedMacLimit { .. } => rules::LEARNED_MAC_LIMIT,
            Self::PortMacLimit { .. } => rules::PORT_MAC_LIMIT,
        }
    }

    /// What is done about it.
    pub fn action(&self) -> Action {
        match self {
            Self::RouteRefused { .. }
            | Self::RouteExcluded { .. }
            | Self::FloodLimit { .. }
            | Self::RemoteMacLimit { .. }
            | Self::StickyAnnounced { .. } => Action::NotInstalled,
            Self::LearnedMacLimit { .. }
            | Self::PortMacLimit { .. }
            | Self::StickyContested { .. }
            | Self::StickySeenLocally { .. }
            | Self::ClaimMoved { .. }
            | Self::ClaimContested { .. }
            | Self::ClaimYielded { .. }
            | Self::DuplicateMac { .. }
            | Self::DuplicateCleared { .. } => Action::Note,
        }
    }

    /// The route concerned, where it is one.
    pub fn route(&self) -> Option<&EvpnKey> {
        match self {
            Self::RouteRefused { key, .. } | Self::RouteExcluded { key, .. } => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimMoved { vni, mac, vtep, sequence } => {
                write!(f, "VNI {vni}: {mac} claimed here, moved from {vtep} with sequence {sequence}")
            }
            Self::ClaimContested { vni, mac, vtep, sequence } => {
                write!(f, "VNI {vni}: {vtep} contests the claim of {mac}; claimed once more with sequence {sequence}")
            }
            Self::ClaimYielded { vni, mac, vtep } => write!(
                f,
                "VNI {vni}: {mac}, claimed here, is at {vtep} now; if that is wrong, attach its pod again or remove the other"
            ),
            Self::DuplicateMac { vni, mac, moves, vtep, frozen } => {
                let action = if *frozen { "frozen there" } else { "not frozen" };
                write!(
                    f,
                    "VNI {vni}: {mac} moved {moves} times, last to or from {vtep} ({action}); \
                     look for two stations with this address or a bridging loop"
                )
            }
            Self::DuplicateCleared { vni, mac } => write!(f, "VNI {vni}: {mac} may move again"),
            Self::StickySeenLocally { vni, mac, vtep, member } => write!(
                f,
                "VNI {vni}: {mac}, sticky at {vtep}, sent a frame on local port {}; it stays at {vtep}: \
                 remove one of the two stations",
                member.0
            ),
            Self::StickyAnnounced { vni, mac, vtep } => write!(
                f,
                "VNI {vni}: {vtep} announces {mac}, which is sticky here; it stays here: remove one of the two stations"
            ),
            Self::StickyContested { vni, mac, vtep, holder } => write!(
                f,
                "VNI {vni}: {vtep} announces {mac}, which is sticky at {holder}; it stays there: remove one of the two stations"
            ),
            Self::RouteRefused { key, reason } => write!(f, "not imported: {reason} ({key})"),
            Self::RouteExcluded { vni, key, reason } => write!(f, "VNI {vni}: not installed: {reason} ({key})"),
            Self::FloodLimit { vni, vtep } => {
                write!(f, "VNI {vni}: the flood list is full, {vtep} gets no flooded frames; raise max_flood_vteps")
            }
            Self::RemoteMacLimit { vni, mac } => {
                write!(f, "VNI {vni}: too many remote MACs, {mac} is not installed; raise max_remote_macs")
            }
            Self::LearnedMacLimit { vni, mac, member } => write!(
                f,
                "VNI {vni}: too many MACs learned on local ports, {mac} on port {} is not announced; \
                 look for a station that invents addresses, or raise max_learned_macs",
                member.0
            ),
            Self::PortMacLimit { vni, mac, member } => write!(
                f,
                "VNI {vni}: too many MACs on local port {}, {mac} is not announced; \
                 look for a station that invents addresses, or raise max_port_macs",
                member.0
            ),
        }
    }
}
