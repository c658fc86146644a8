//! What an operator should know, from wherever it comes: routes that are not used, stations, the kernel.

use core::fmt;

use bgp_core::rule::{Action, Rule};
use bgp_core::time::Duration;
use bgp_core::types::{PeerId, Vni};
use bgp_core::wire::EvpnKey;
use dataplane::{ChangeError, rules};
use evpn::Report;
use evpn::forwarding::Key;

use super::HostProblem;

/// One thing to be counted and logged.
#[derive(Clone, Debug)]
pub enum Notice {
    /// About a route of a peer.
    Route {
        /// Who announced it.
        peer: PeerId,
        /// What there is to say.
        report: Report,
    },
    /// About a LAN of this node.
    Lan(Report),
    /// The kernel refused forwarding state; it stays desired and is tried again.
    NotWritten {
        /// The row or device.
        key: Key,
        /// Why.
        error: ChangeError,
        /// The rule for it.
        rule: Rule,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// Somebody changed a row of ours.
    RowDisturbed(Key),
    /// Somebody removed or disabled the VXLAN device of a LAN.
    TunnelGone(Vni),
    /// Something on the host keeps LANs from working.
    Host(HostProblem),
    /// The kernel dropped notifications.
    NotificationsLost,
    /// The kernel's tables did not hold still.
    TablesUnsteady,
}

impl Notice {
    /// The rule for counters and logs.
    pub fn rule(&self) -> Rule {
        match self {
            Self::Route { report, .. } | Self::Lan(report) => report.rule(),
            Self::NotWritten { rule, .. } => *rule,
            Self::RowDisturbed(_) => rules::ROW_DISTURBED,
            Self::TunnelGone(_) => rules::TUNNEL_GONE,
            Self::Host(HostProblem::VniReserved { .. }) => rules::VNI_RESERVED,
            Self::Host(HostProblem::PortTaken { .. }) => rules::VXLAN_PORT_TAKEN,
            Self::NotificationsLost => rules::NOTIFICATIONS_LOST,
            Self::TablesUnsteady => rules::TABLES_UNSTEADY,
        }
    }

    /// What is done about it.
    pub fn action(&self) -> Action {
        match self {
            Self::Route { report, .. } | Self::Lan(report) => report.action(),
            Self::NotWritten { .. } => Action::NotInstalled,
            Self::RowDisturbed(_)
            | Self::TunnelGone(_)
            | Self::Host(_)
            | Self::NotificationsLost
            | Self::TablesUnsteady => Action::Note,
        }
    }

    /// The peer whose route it is about.
    pub fn peer(&self) -> Option<PeerId> {
        if let Self::Route { peer, .. } = self { Some(*peer) } else { None }
    }

    /// The route that it is about.
    pub fn route(&self) -> Option<&EvpnKey> {
        match self {
            Self::Route { report, .. } | Self::Lan(report) => report.route(),
            _ => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route { report, .. } | Self::Lan(report) => report.fmt(f),
            Self::NotWritten { key, error, retry_in, .. } => {
                write!(f, "{key:?} not written: {error}; tried again in {} ms", retry_in.as_micros() / 1_000)
            }
            Self::RowDisturbed(key) => write!(f, "{key:?}; find out who changes rows of our VXLAN devices"),
            Self::TunnelGone(vni) => write!(f, "VNI {vni}; find out who changes devices of this node's LANs"),
            Self::Host(problem) => problem.fmt(f),
            Self::NotificationsLost | Self::TablesUnsteady => {
                f.write_str("look for a program that changes many rows or devices of this node")
            }
        }
    }
}
