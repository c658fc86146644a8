//! What the host's own network namespace means for this node's LANs, and what is wrong there.

use core::fmt;

use bgp_core::types::Vni;
use dataplane::HostReport;
use evpn::forwarding::Key;

use super::{Core, Notice};

/// Something on the host that keeps LANs from working, for operators: conditions, events, `show`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostProblem {
    /// A device of the host's namespace has a VNI on the LANs' UDP port.
    VniReserved {
        /// The VNI.
        vni: Vni,
        /// The device.
        device: String,
        /// The UDP port.
        udp_port: u16,
        /// Pods of this node on that LAN: cut off from other nodes.
        members: usize,
    },
    /// A device of the host's namespace in external mode has the LANs' UDP port.
    PortTaken {
        /// The device.
        device: String,
        /// The UDP port.
        udp_port: u16,
    },
}

impl HostProblem {
    /// Whether LANs that are used here suffer; a VNI that nobody here uses only has to be known.
    pub fn impairs(&self) -> bool {
        match self {
            Self::VniReserved { members, .. } => *members > 0,
            Self::PortTaken { .. } => true,
        }
    }

    /// One word for a condition's reason or a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::VniReserved { .. } => "VniReserved",
            Self::PortTaken { .. } => "VxlanPortTaken",
        }
    }
}

impl fmt::Display for HostProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VniReserved { vni, device, udp_port, members } => {
                write!(f, "VNI {vni} is reserved: the device {device} of the host has it on UDP port {udp_port}")?;
                if *members > 0 {
                    write!(f, ", and {members} interfaces here are cut off from other nodes")?;
                }
                f.write_str("; give the LAN another VNI, or the workers another UDP port")
            }
            Self::PortTaken { device, udp_port } => write!(
                f,
                "no LAN leaves this node: the device {device} of the host takes all VNIs of UDP port {udp_port}; give the workers another UDP port"
            ),
        }
    }
}

impl Core {
    /// What the host's namespace means for LANs, as last seen.
    pub fn host(&self) -> &HostReport {
        &self.host
    }

    /// What is wrong on the host; empty where nothing is.
    pub fn host_problems(&self) -> Vec<HostProblem> {
        problems(&self.host, |vni| self.ports.iter().filter(|(_, port)| port.vni == vni).count())
    }

    /// Takes note of what the host's namespace means now; tells of what is new, and tries again what can work now.
    pub(super) fn take_host(&mut self, host: &HostReport) {
        if self.host == *host {
            return;
        }
        let before = std::mem::replace(&mut self.host, host.clone());
        let known = problems(&before, |_| 0);
        for problem in problems(host, |_| 0).into_iter().filter(|problem| !known.contains(problem)) {
            self.notice(Notice::Host(problem));
        }
        let freed = before.reserved.keys().filter(|vni| !host.reserved.contains_key(vni));
        let mut freed: Vec<Vni> = freed.copied().collect();
        if before.port_taken_by.is_some() && host.port_taken_by.is_none() {
            freed.extend(self.engine.vnis().map(|view| view.vni));
        }
        for vni in freed {
            tracing::info!(%vni, "the host does not use this VNI any more");
            self.forwarder.mark(Key::Tunnel(vni));
        }
    }
}

/// The problems that a report is about; `members` counts those whom a LAN's problem affects.
fn problems(host: &HostReport, members: impl Fn(Vni) -> usize) -> Vec<HostProblem> {
    let udp_port = host.udp_port;
    let taken = host.port_taken_by.iter().map(|device| HostProblem::PortTaken { device: device.clone(), udp_port });
    let reserved = host.reserved.iter().map(|(&vni, device)| HostProblem::VniReserved {
        vni,
        device: device.clone(),
        udp_port,
        members: members(vni),
    });
    taken.chain(reserved).collect()
}
