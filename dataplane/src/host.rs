//! What the host's own network namespace means for LANs: how large their packets may be, and which VNIs are taken.
//!
//! VXLAN devices of one host and UDP port share a table of VNIs, whatever network namespace they stand in, since their
//! outer packets come and go through the same one. So a VNI that a device of the host has (a cluster network's own
//! VXLAN, usually) is not available to LANs; a device in external mode takes all of them.

use std::collections::BTreeMap;
use std::fmt;

use bgp_core::types::Vni;

/// Outer Ethernet (inner frame's), IPv4, UDP and VXLAN headers, in bytes (RFC 7348 section 5).
pub(crate) const OVERHEAD_IPV4: u32 = 50;
/// The same with IPv6.
pub(crate) const OVERHEAD_IPV6: u32 = 70;

/// See the module.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostReport {
    /// VNIs that devices of the host's namespace have on our UDP port, each with the device's name.
    pub reserved: BTreeMap<Vni, String>,
    /// A device of the host's namespace in external mode, which takes the whole UDP port.
    pub port_taken_by: Option<String>,
    /// Our UDP port.
    pub udp_port: u16,
    /// What LANs can carry; none where it is not known.
    pub mtu: Option<MtuLimit>,
}

impl HostReport {
    /// Who has a VNI, in words.
    pub fn user_of(&self, vni: Vni) -> Option<String> {
        let device = self.reserved.get(&vni).map(|name| format!("the device {name} of the host's network namespace"));
        let external = || {
            let name = self.port_taken_by.as_ref()?;
            Some(format!("the device {name} of the host's network namespace, which takes all VNIs of the port"))
        };
        device.or_else(external)
    }
}

/// The largest packet that LANs carry over the underlay, and how that comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MtuLimit {
    /// The underlay's MTU in bytes.
    pub underlay: u32,
    /// Outer packets are IPv6.
    pub is_ipv6: bool,
}

impl MtuLimit {
    /// Bytes that VXLAN adds to each packet.
    pub fn overhead(self) -> u32 {
        if self.is_ipv6 { OVERHEAD_IPV6 } else { OVERHEAD_IPV4 }
    }

    /// The largest IP packet of a LAN, in bytes.
    pub fn most(self) -> u32 {
        self.underlay.saturating_sub(self.overhead())
    }
}

impl fmt::Display for MtuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "underlay {} - {} for {family} = {}", self.underlay, self.overhead(), self.most())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_packets_says_how_it_comes() {
        let limit = |is_ipv6| MtuLimit { underlay: 1_500, is_ipv6 }.to_string();
        assert_eq!(limit(true), "underlay 1500 - 70 for IPv6 = 1430");
        assert_eq!(limit(false), "underlay 1500 - 50 for IPv4 = 1450");
    }
}
