//! The routes and memberships that a worker announces.
//!
//! Everything is derived: the route distinguisher and target of a LAN are the same after every restart.

use std::net::IpAddr;

use bgp_core::types::{
    Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility, RouteDistinguisher,
    RouteTarget, RouterId, Vni,
};
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes, RtMembership};

use crate::config::{Config, RouteTargetForm};

/// LOCAL_PREF of routes that begin here (RFC 4271 section 5.1.5); sessions to other ASes leave it out.
const LOCAL_PREF: u32 = 100;

/// A route of this worker to announce, or to withdraw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origination {
    /// Identity.
    pub key: EvpnKey,
    /// What to announce; `None` to withdraw.
    pub route: Option<(EvpnPayload, PathAttributes)>,
}

/// The route distinguisher of a LAN (RFC 7432 section 7.9): type 1, `router-id:VNI`, while the VNI fits 16 bits; beyond,
/// type 2 with the 48 bits VNI (24) and the router-id's low 24.
pub fn route_distinguisher(router_id: RouterId, vni: Vni) -> RouteDistinguisher {
    match u16::try_from(vni.get()) {
        Ok(number) => RouteDistinguisher::ipv4(router_id.0.into(), number),
        Err(_) => {
            let [_, a, b, c] = vni.get().to_be_bytes();
            let [_, x, y, z] = router_id.0.to_be_bytes();
            RouteDistinguisher([0, 2, a, b, c, x, y, z])
        }
    }
}

/// The route targets on announced routes of a LAN.
pub fn export_targets(config: &Config, vni: Vni) -> impl Iterator<Item = RouteTarget> {
    let form = config.route_target_form;
    let plain = (form != RouteTargetForm::Rfc8365).then(|| RouteTarget::auto(config.asn, vni));
    let rfc8365 = (form != RouteTargetForm::Plain).then(|| RouteTarget::auto_rfc8365(config.asn, vni));
    plain.into_iter().chain(rfc8365)
}

/// The memberships that say interest in a LAN (RFC 4684): every form of the target, for the own and each foreign AS.
pub fn memberships(config: &Config, vni: Vni) -> Vec<RtMembership> {
    let mut memberships: Vec<RtMembership> = core::iter::once(config.asn)
        .chain(config.foreign_asns.iter().copied())
        .flat_map(|asn: Asn| {
            let whole = if asn.0 > u32::from(u16::MAX) { RouteTarget::four_octet_as(asn, vni) } else { None };
            [RouteTarget::auto(asn, vni), RouteTarget::auto_rfc8365(asn, vni)].into_iter().chain(whole)
        })
        .map(|target| RtMembership::Target { origin: config.asn, target })
        .collect();
    memberships.sort_unstable();
    memberships.dedup();
    memberships
}

/// A route of this worker, without what is the same for all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum LocalRoute {
    /// Type 3 of a LAN. Sorts before its type 2 routes.
    Multicast(Vni),
    /// Type 2, with or without IP address.
    Mac(Vni, MacAddr, Option<IpAddr>),
}

impl LocalRoute {
    pub(crate) fn key(self, config: &Config) -> EvpnKey {
        let tag = EthernetTag(0);
        match self {
            Self::Multicast(vni) => EvpnKey::InclusiveMulticast {
                rd: route_distinguisher(config.router_id, vni),
                tag,
                originator: config.vtep,
            },
            Self::Mac(vni, mac, ip) => EvpnKey::MacIp { rd: route_distinguisher(config.router_id, vni), tag, mac, ip },
        }
    }

    /// Payload and attributes. The mobility community goes only with a sequence above 0 or a sticky address (RFC 7432
    /// section 15).
    pub(crate) fn announcement(self, config: &Config, mobility: MacMobility) -> (EvpnPayload, PathAttributes) {
        let mut attributes = PathAttributes::new(config.vtep);
        attributes.local_pref = Some(LOCAL_PREF);
        let (vni, payload) = match self {
            Self::Multicast(vni) => {
                let tunnel = Tunnel::IngressReplication(config.vtep);
                attributes.pmsi_tunnel = Some(PmsiTunnel { flags: 0, label: Label::from(vni), tunnel });
                (vni, EvpnPayload::InclusiveMulticast)
            }
            Self::Mac(vni, ..) => {
                let esi = EthernetSegmentId::default();
                (vni, EvpnPayload::MacIp { esi, label: Label::from(vni), label2: None })
            }
        };
        attributes.extended_communities.extend(export_targets(config, vni).map(RouteTarget::community));
        attributes.extended_communities.push(ExtendedCommunity::ENCAPSULATION_VXLAN);
        if mobility != MacMobility::default() {
            attributes.extended_communities.push(ExtendedCommunity::mac_mobility(mobility));
        }
        (payload, attributes)
    }
}
