//! Rows for `megalos show routes`: what the RIB holds, attribute by attribute.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bgp_core::rib::{LOCAL_PEER, RouteView};
use bgp_core::types::{EthernetSegmentId, Label};
use bgp_core::wire::attributes::{Origin, PmsiTunnel, Tunnel};
use bgp_core::wire::{Evpn, EvpnPayload, Nlri, PathAttributes};
use bgp_io::Speaker;

use crate::show::{PathRow, RouteRow};

/// Rows for `megalos show routes`: EVPN paths, then memberships. `use_here` says what becomes of a path at this daemon.
pub fn route_rows(speaker: &Speaker, use_here: impl Fn(&RouteView<'_, Evpn>) -> Option<String>) -> Vec<RouteRow> {
    let addresses: BTreeMap<_, IpAddr> =
        speaker.peers().map(|peer| (peer.id, peer.neighbor.spec.address.ip())).collect();
    let from = |peer| {
        if peer == LOCAL_PEER {
            return "local".to_owned();
        }
        addresses.get(&peer).map_or_else(|| peer.to_string(), ToString::to_string)
    };
    let evpn = speaker.rib.routes().map(|view| {
        let label = label_of(&view);
        let mut row = row(&view, view.key.to_string(), label, from(view.peer));
        add_payload(&mut row.path, view.payload);
        row.use_here = use_here(&view);
        row
    });
    let memberships = speaker.rib.memberships().map(|view| row(&view, view.key.to_string(), None, from(view.peer)));
    evpn.chain(memberships).collect()
}

fn row<N: Nlri>(view: &RouteView<'_, N>, route: String, label: Option<u32>, from: String) -> RouteRow {
    RouteRow {
        family: N::FAMILY.to_string(),
        route,
        next_hop: view.attributes.next_hop.to_string(),
        from,
        best: view.best,
        reason: view.reason.to_string(),
        stale: view.stale,
        long_lived_stale: view.long_lived_stale,
        use_here: None,
        label,
        communities: view.attributes.extended_communities.iter().map(ToString::to_string).collect(),
        path: path_row(view.attributes),
    }
}

fn path_row(attributes: &PathAttributes) -> PathRow {
    PathRow {
        origin: match attributes.origin {
            Origin::Igp => "igp",
            Origin::Egp => "egp",
            Origin::Incomplete => "incomplete",
        }
        .to_owned(),
        as_path: attributes.as_path.iter().map(|asn| asn.to_string()).collect::<Vec<_>>().join(" "),
        med: attributes.med,
        local_pref: attributes.local_pref,
        standard_communities: attributes.communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff)).collect(),
        originator_id: attributes.originator_id.map(|id| id.to_string()),
        cluster_list: attributes.cluster_list.iter().map(|id| Ipv4Addr::from(*id).to_string()).collect(),
        pmsi_tunnel: attributes.pmsi_tunnel.as_ref().map(pmsi_tunnel),
        esi: None,
        label2: None,
        gateway: None,
        unknown_attributes: attributes.unknown.iter().map(|attribute| attribute.code).collect(),
    }
}

fn add_payload(row: &mut PathRow, payload: &EvpnPayload) {
    let segment = |esi: &EthernetSegmentId| (*esi != EthernetSegmentId::default()).then(|| esi.to_string());
    match payload {
        EvpnPayload::MacIp { esi, label2, .. } => {
            row.esi = segment(esi);
            row.label2 = label2.map(value);
        }
        EvpnPayload::IpPrefix { esi, gateway, .. } => {
            row.esi = segment(esi);
            row.gateway = (!gateway.is_unspecified()).then(|| gateway.to_string());
        }
        EvpnPayload::EthernetAutoDiscovery { .. }
        | EvpnPayload::InclusiveMulticast
        | EvpnPayload::EthernetSegment
        | EvpnPayload::Opaque => {}
    }
}

fn label_of(view: &RouteView<'_, Evpn>) -> Option<u32> {
    match view.payload {
        EvpnPayload::EthernetAutoDiscovery { label }
        | EvpnPayload::MacIp { label, .. }
        | EvpnPayload::IpPrefix { label, .. } => Some(value(*label)),
        EvpnPayload::InclusiveMulticast => view.attributes.pmsi_tunnel.as_ref().map(|pmsi| value(pmsi.label)),
        EvpnPayload::EthernetSegment | EvpnPayload::Opaque => None,
    }
}

/// All 24 bits: a VNI, not an MPLS label (RFC 8365 section 5.1.3).
fn value(label: Label) -> u32 {
    let [a, b, c] = label.0;
    u32::from_be_bytes([0, a, b, c])
}

/// Type, label and endpoint; of types that are only carried, the identifier in hex.
fn pmsi_tunnel(pmsi: &PmsiTunnel) -> String {
    let label = value(pmsi.label);
    match &pmsi.tunnel {
        Tunnel::IngressReplication(endpoint) => format!("ingress-replication {label} {endpoint}"),
        Tunnel::Other { tunnel_type, identifier } => format!("type-{tunnel_type} {label} 0x{identifier:x}"),
    }
}
