//! The vocabulary: changes, snapshots, attachments, observations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bgp_core::types::{MacAddr, Vni};
use evpn::forwarding::{Desired, Key};
use ipnet::IpNet;

use crate::HostReport;

/// One key and what it should be; `None` removes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// What is to change.
    pub key: Key,
    /// What it should be.
    pub desired: Option<Desired>,
}

/// Names a port of a LAN for its whole life, across restarts of the worker: the identity that was given at its
/// attachment, or the interface's name where somebody else made the port.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortId(Arc<str>);

impl PortId {
    /// The longest identity in bytes: the kernel keeps it as the device's alias.
    pub const MAX_BYTES: usize = 255;

    /// Takes any text as an identity. Control characters become `?`, and what exceeds [`Self::MAX_BYTES`] is replaced by
    /// a hash of the whole.
    pub fn new(text: &str) -> Self {
        let clean: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        if clean.len() <= Self::MAX_BYTES {
            return Self(clean.into());
        }
        let suffix = format!("~{:016x}", fnv1a(clean.as_bytes()));
        let mut end = Self::MAX_BYTES - suffix.len();
        while !clean.is_char_boundary(end) {
            end -= 1;
        }
        let start = clean.get(..end).unwrap_or_default();
        Self(format!("{start}{suffix}").into())
    }

    /// The identity of a CNI attachment: the pod sandbox and the interface inside it.
    pub fn attachment(container_id: &str, interface: &str) -> Self {
        Self::new(&format!("{interface}@{container_id}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the port's device: `ve` and 13 digits, the same for the same identity.
    pub fn device_name(&self) -> String {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
        let hash = fnv1a(self.0.as_bytes());
        let digits = (0..13).map(|i| char::from(DIGITS[(hash >> (5 * i) & 31) as usize]));
        ['v', 'e'].into_iter().chain(digits).collect()
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A 64-bit hash that is the same in every build, since device names outlive the program.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Everything that the kernel holds of our LANs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// The LANs: those with a bridge here, or, where devices are adopted, those with a VXLAN device in a bridge.
    pub lans: BTreeMap<Vni, LanSnapshot>,
    /// Whether the devices belong to somebody else, so that tunnels are neither made nor removed.
    pub adopted: bool,
    /// Whether neighbours are kept at all; without it they are accepted and not there.
    pub suppresses_neighbors: bool,
    /// What the host's own namespace means for LANs.
    pub host: HostReport,
}

/// One LAN as the kernel holds it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LanSnapshot {
    /// The human name; empty where the bridge has no alias.
    pub name: String,
    /// The largest IP packet that crosses the LAN, in bytes.
    pub mtu: u32,
    /// The VXLAN device exists, is up, and is a port of the LAN's bridge.
    pub tunnel: bool,
    /// The VTEPs that get copies of frames of unknown or group destination.
    pub flood: BTreeSet<IpAddr>,
    /// Rows of remote MACs.
    pub remote: BTreeMap<MacAddr, RemoteRow>,
    /// Neighbours for ARP and ND suppression.
    pub neighbors: BTreeMap<IpAddr, MacAddr>,
    /// The local ports.
    pub ports: BTreeMap<PortId, PortSnapshot>,
    /// The MACs behind local ports that the bridge knows.
    pub local: BTreeMap<MacAddr, LocalMac>,
    /// The MACs of the devices themselves: the bridge, its ports, and what stands on the bridge.
    pub devices: BTreeSet<MacAddr>,
}

/// The two rows that forward to a remote MAC.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RemoteRow {
    /// The row of the VXLAN device: where frames go.
    pub vtep: Option<IpAddr>,
    /// The bridge's row that leads to the VXLAN port.
    pub bridge: Option<BridgeRow>,
}

/// How a bridge row that leads to the VXLAN port is marked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BridgeRow {
    /// Learned by a control plane: stays until deleted, and moves when the MAC speaks locally.
    External,
    /// Never moves.
    Sticky,
    /// Any other marking: not ours.
    Foreign,
}

/// A local port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortSnapshot {
    /// The interface's name.
    pub interface: String,
    /// The interface's index: another one if the port has been made anew.
    pub index: u32,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// The other end exists and is up.
    pub carrier: bool,
}

/// A MAC behind a local port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalMac {
    /// The port.
    pub port: PortId,
    /// The address must not move (set by an administrator).
    pub sticky: bool,
}

/// An interface to be made.
#[derive(Debug)]
pub struct AttachRequest {
    /// The identity of the attachment.
    pub port: PortId,
    /// The LAN.
    pub vni: Vni,
    /// The LAN's human name, kept as the bridge's alias; at most 255 bytes are kept.
    pub lan: String,
    /// Where the pod's end goes.
    pub pod: Pod,
    /// The name of the pod's end, 1 to 15 bytes.
    pub interface: String,
    /// The MAC of the pod's end; absent: chosen at random.
    pub mac: Option<MacAddr>,
    /// The wanted MTU in bytes, 68 at least; absent: the most that the underlay carries.
    pub mtu: Option<u32>,
    /// Addresses of the pod's end, with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Routes of the pod through this interface.
    pub routes: Vec<Route>,
    /// What a port of this identity already is; without it such a port is an error.
    pub existing: Existing,
}

/// A route of a pod; what is absent is the kernel's default.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The next hop; absent: on the link.
    pub gateway: Option<IpAddr>,
    /// The MTU of the path in bytes.
    pub mtu: Option<u32>,
    /// The segment size that TCP advertises, in bytes.
    pub advmss: Option<u32>,
    /// The priority; the lowest wins.
    pub priority: Option<u32>,
    /// The routing table.
    pub table: Option<u32>,
    /// The scope as in `rtnetlink(7)`.
    pub scope: Option<u8>,
}

/// What is done about a port that has the identity of one that is to be made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    #[default]
    Keep,
    /// It is removed first: nobody was ever told of it.
    Replace,
}

/// The pod's side of an attachment.
#[derive(Debug)]
pub enum Pod {
    /// A real pod.
    Descriptors {
        /// Its network namespace.
        namespace: OwnedFd,
        /// A route netlink socket that was opened inside it.
        netlink: OwnedFd,
    },
    /// None: for the kernel in memory.
    Simulated,
}

/// An interface that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attached {
    /// The MAC of the pod's end.
    pub mac: MacAddr,
    /// The MTU of both ends, in bytes.
    pub mtu: u32,
    /// The name of the LAN's end.
    pub host_interface: String,
    /// The index of the LAN's end: another one each time that a port is made.
    pub host_index: u32,
}

/// Something that happened in the kernel and, unless said otherwise, was not done through this crate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observation {
    /// A MAC was seen behind a local port, or moved from one local port to another.
    LocalMac {
        /// The LAN.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it is.
        port: PortId,
        /// Set by an administrator to never move.
        sticky: bool,
    },
    /// A MAC behind a local port aged out or was removed.
    LocalMacGone {
        /// The LAN.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it was.
        port: PortId,
    },
    /// A MAC that was remote spoke behind a local port, so the bridge took its row over: the MAC has moved here. Comes
    /// instead of [`Observation::LocalMac`]. The VXLAN row is still there until the key is applied with `None`.
    RowTakenOver {
        /// The LAN.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it is now.
        port: PortId,
        /// Set by an administrator to never move.
        sticky: bool,
    },
    /// Somebody else removed, changed or added this row: apply it as it should be, with `None` where it should not
    /// exist.
    RowDisturbed {
        /// The row.
        key: Key,
    },
    /// A device of the LAN has this MAC, or has it no more: see [`LanSnapshot::devices`]. Told of devices that this
    /// crate made, too.
    DeviceMac {
        /// The LAN.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// There is such a device.
        present: bool,
    },
    /// A port has gone by itself, usually with its pod's namespace.
    PortGone {
        /// The LAN.
        vni: Vni,
        /// The port.
        port: PortId,
        /// The index of its interface, which tells it from one of the same identity that was made later.
        index: u32,
    },
    /// What the host's own namespace means for LANs has changed.
    Host(HostReport),
    /// Somebody else removed the VXLAN device, its bridge, or took it down: all rows of the LAN are gone. The tunnel
    /// and its rows are to be applied again.
    TunnelGone {
        /// The LAN.
        vni: Vni,
    },
    /// A LAN that somebody else made can be served (adopted devices only).
    LanAppeared {
        /// The LAN.
        vni: Vni,
    },
    /// A LAN that somebody else made is no more (adopted devices only).
    LanGone {
        /// The LAN.
        vni: Vni,
    },
    /// Notifications were lost: take a snapshot.
    Overrun,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_fit_the_kernel_and_tell_attachments_apart() {
        let names: BTreeSet<_> =
            (0..1000).map(|i| PortId::attachment(&format!("pod{i}"), "eth0").device_name()).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.len() == 15 && name.starts_with("ve")));
    }

    #[test]
    fn long_identities_fit_the_alias_and_stay_apart() {
        let [a, b] = ["x", "y"].map(|end| PortId::attachment(&("é".repeat(200) + end), "eth0"));
        assert!(a.as_str().len() <= PortId::MAX_BYTES && a != b);
        assert_eq!(PortId::new("a\nb").as_str(), "a?b");
    }
}
