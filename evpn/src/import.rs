//! Import: which LAN a received route belongs to, and whether its rows may be installed.
//!
//! A pure function of the route and the configuration. A route belongs to the VNI of its label, if one of its route
//! targets means that VNI whatever its ASN, in the plain form or in that of RFC 8365 section 5.1.2.1. What fails that
//! is *refused*: it belongs to no LAN. What belongs to a LAN and cannot be forwarded to is *excluded*: kept with the
//! reason, so that `show` can explain.

use core::fmt;
use std::net::IpAddr;

use bgp_core::rule::Rule;
use bgp_core::types::{EthernetTag, ExtendedCommunity, MacAddr, RouteDistinguisher, Vni, is_host_address};
use bgp_core::wire::attributes::Tunnel;
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};

use crate::candidates::Contender;
use crate::config::{Config, MissingEncapsulation};
use crate::rules;

/// The tunnel type of VXLAN in the encapsulation community (RFC 8365 section 11).
const TUNNEL_TYPE_VXLAN: u16 = 8;

/// Why a route belongs to no LAN of this worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A route target names a LAN of this worker, the label another VNI.
    VniMismatch {
        /// The LAN by route target.
        target: Vni,
        /// The VNI of the label, if any.
        label: Option<Vni>,
    },
    /// No encapsulation that the route offers is VXLAN.
    Encapsulation,
    /// The MAC is zero or a group address, which no station can own. On Linux a zero MAC is the flood list.
    GroupMac,
    /// The route is one of too many for one MAC or IP address.
    TooMany,
}

impl Refusal {
    /// The rule for counters and logs.
    pub fn rule(self) -> Rule {
        match self {
            Self::VniMismatch { .. } => rules::VNI_MISMATCH,
            Self::Encapsulation => rules::ENCAPSULATION,
            Self::GroupMac => rules::GROUP_MAC,
            Self::TooMany => rules::TOO_MANY_ROUTES,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VniMismatch { target, label: Some(label) } => {
                write!(f, "route target of VNI {target}, label of VNI {label}; make them equal on the sender")
            }
            Self::VniMismatch { target, label: None } => {
                write!(f, "route target of VNI {target}, no VNI in the label; the sender must put the VNI there")
            }
            Self::Encapsulation => f.write_str("the sender does not offer VXLAN; configure VXLAN there"),
            Self::GroupMac => f.write_str("zero or group MAC; the sender must not announce it"),
            Self::TooMany => f.write_str("too many routes for one address; look for a sender that invents them"),
        }
    }
}

/// Why an imported route is not installed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exclusion {
    /// The next hop is this worker's own VTEP.
    OwnVtep,
    /// The next hop is not of this VTEP's address family.
    NextHopFamily,
    /// The next hop cannot be a VTEP: no host can have it.
    NextHopInvalid,
    /// A type 3 without PMSI tunnel attribute (RFC 7432 section 11.2): no wish for flooded frames is known.
    PmsiMissing,
    /// The tunnel is not ingress replication.
    PmsiTunnelType,
    /// The tunnel endpoint, or the originator where it is unspecified, is not the next hop: frames would go to a third party.
    PmsiEndpoint,
    /// The MAC is that of a device of this node in the LAN, such as the bridge: its frames would leave the node.
    OwnDevice,
}

impl Exclusion {
    /// Whether the VTEP is reachable, and only the wish for flooded frames is in doubt.
    pub(crate) fn is_about_flooding(self) -> bool {
        matches!(self, Self::PmsiMissing | Self::PmsiTunnelType | Self::PmsiEndpoint)
    }

    /// The rule for counters and logs.
    pub fn rule(self) -> Rule {
        match self {
            Self::OwnVtep => rules::OWN_VTEP,
            Self::NextHopFamily => rules::NEXT_HOP_FAMILY,
            Self::NextHopInvalid => rules::NEXT_HOP_NOT_VTEP,
            Self::PmsiMissing => rules::PMSI_MISSING,
            Self::PmsiTunnelType => rules::PMSI_NOT_INGRESS_REPLICATION,
            Self::PmsiEndpoint => rules::PMSI_ENDPOINT,
            Self::OwnDevice => rules::OWN_DEVICE,
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnVtep => "its next hop is this node's own VTEP; look for a second node with this address",
            Self::NextHopFamily => "its next hop is of the other address family; give all VTEPs the same family",
            Self::NextHopInvalid => "its next hop cannot be a VTEP; correct the sender's VTEP address",
            Self::PmsiMissing => "no PMSI tunnel attribute; the sender must announce ingress replication",
            Self::PmsiTunnelType => "not ingress replication; configure that on the sender",
            Self::PmsiEndpoint => "its flood endpoint is not its next hop; make them equal on the sender",
            Self::OwnDevice => "a device of this node has its MAC; look for a sender that takes it over",
        })
    }
}

/// An imported route.
#[derive(Clone, Debug)]
pub(crate) struct Imported {
    pub(crate) vni: Vni,
    pub(crate) route: Remote,
}

/// What a route says, by type.
#[derive(Clone, Debug)]
pub(crate) enum Remote {
    Mac(RemoteMac),
    Multicast(RemoteMulticast),
}

/// Identity of a type 2 within its MAC.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct MacRoute {
    pub(crate) rd: RouteDistinguisher,
    pub(crate) tag: EthernetTag,
    pub(crate) ip: Option<IpAddr>,
}

#[derive(Clone, Debug)]
pub(crate) struct RemoteMac {
    pub(crate) mac: MacAddr,
    pub(crate) key: MacRoute,
    pub(crate) contender: Contender,
    pub(crate) exclusion: Option<Exclusion>,
}

/// Identity of a type 3 within its LAN.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct MulticastRoute {
    pub(crate) rd: RouteDistinguisher,
    pub(crate) tag: EthernetTag,
    pub(crate) originator: IpAddr,
}

#[derive(Clone, Debug)]
pub(crate) struct RemoteMulticast {
    pub(crate) key: MulticastRoute,
    pub(crate) vtep: IpAddr,
    pub(crate) exclusion: Option<Exclusion>,
}

/// Decides about a route. `Ok(None)`: not this worker's business. `serves` says whether a VNI is a LAN of this worker.
pub(crate) fn classify(
    config: &Config,
    key: &EvpnKey,
    payload: &EvpnPayload,
    attributes: &PathAttributes,
    serves: impl Fn(Vni) -> bool,
) -> Result<Option<Imported>, Refusal> {
    let (label, route) = match (key, payload) {
        (&EvpnKey::MacIp { rd, tag, mac, ip }, EvpnPayload::MacIp { label, .. }) => {
            (label.vni(), Remote::Mac(remote_mac(config, MacRoute { rd, tag, ip }, mac, attributes)))
        }
        (&EvpnKey::InclusiveMulticast { rd, tag, originator }, EvpnPayload::InclusiveMulticast) => {
            let key = MulticastRoute { rd, tag, originator };
            // Without the attribute nothing but the route targets tells the LAN.
            let label = match &attributes.pmsi_tunnel {
                Some(pmsi) => pmsi.label.vni(),
                None => target_vnis(attributes).next(),
            };
            (label, Remote::Multicast(remote_multicast(config, key, attributes)))
        }
        _ => return Ok(None),
    };
    let Some(vni) = label.filter(|label| target_vnis(attributes).any(|target| target == *label)) else {
        let target = target_vnis(attributes).find(|target| serves(*target));
        return target.map_or(Ok(None), |target| Err(Refusal::VniMismatch { target, label }));
    };
    if !offers_vxlan(config, attributes) {
        return Err(Refusal::Encapsulation);
    }
    match &route {
        Remote::Mac(route) if !route.mac.is_unicast() => Err(Refusal::GroupMac),
        _ => Ok(Some(Imported { vni, route })),
    }
}

fn target_vnis(attributes: &PathAttributes) -> impl Iterator<Item = Vni> + '_ {
    attributes.route_targets().filter_map(|target| target.vni())
}

/// RFC 8365 section 5.1.3: one encapsulation community for each encapsulation offered.
fn offers_vxlan(config: &Config, attributes: &PathAttributes) -> bool {
    let mut offered = attributes.extended_communities.iter().copied().filter_map(ExtendedCommunity::encapsulation);
    match offered.next() {
        None => config.missing_encapsulation == MissingEncapsulation::Vxlan,
        Some(TUNNEL_TYPE_VXLAN) => true,
        Some(_) => offered.any(|tunnel| tunnel == TUNNEL_TYPE_VXLAN),
    }
}

fn remote_mac(config: &Config, key: MacRoute, mac: MacAddr, attributes: &PathAttributes) -> RemoteMac {
    let mobility = attributes.mac_mobility();
    let contender = Contender {
        stale: attributes.is_long_lived_stale(),
        sticky: mobility.sticky,
        sequence: mobility.sequence,
        vtep: attributes.next_hop,
    };
    RemoteMac { mac, key, contender, exclusion: next_hop_exclusion(config, attributes.next_hop) }
}

fn remote_multicast(config: &Config, key: MulticastRoute, attributes: &PathAttributes) -> RemoteMulticast {
    let vtep = attributes.next_hop;
    let exclusion = next_hop_exclusion(config, vtep).or_else(|| match &attributes.pmsi_tunnel {
        None => Some(Exclusion::PmsiMissing),
        Some(pmsi) => match pmsi.tunnel {
            Tunnel::IngressReplication(endpoint) if endpoint == vtep => None,
            // Names nobody: the originator stands in for it.
            Tunnel::IngressReplication(endpoint) if endpoint.is_unspecified() && key.originator == vtep => None,
            Tunnel::IngressReplication(_) => Some(Exclusion::PmsiEndpoint),
            Tunnel::Other { .. } => Some(Exclusion::PmsiTunnelType),
        },
    });
    RemoteMulticast { key, vtep, exclusion }
}

fn next_hop_exclusion(config: &Config, next_hop: IpAddr) -> Option<Exclusion> {
    if next_hop == config.vtep {
        Some(Exclusion::OwnVtep)
    } else if !is_host_address(next_hop) {
        Some(Exclusion::NextHopInvalid)
    } else if next_hop.is_ipv4() != config.vtep.is_ipv4() {
        Some(Exclusion::NextHopFamily)
    } else {
        None
    }
}
