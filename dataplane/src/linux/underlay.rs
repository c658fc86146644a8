//! What the host's namespace says about the underlay: the MTU towards other nodes, and who else uses VXLAN there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::types::Vni;
use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use tracing::warn;

use super::socket::Socket;
use super::wire::{self, Link, LinkKind, Vxlan};
use super::{Linux, dump_links};
use crate::Error;

/// Outer Ethernet (inner frame's), IPv4, UDP and VXLAN headers, in bytes.
const OVERHEAD_IPV4: u32 = 50;
/// The same with IPv6.
const OVERHEAD_IPV6: u32 = 70;
/// An overlay that carries less is of no use to IPv4 (RFC 791: every host takes 576).
const OVERLAY_MTU_MIN: u32 = 576;
/// The largest MTU that a device accepts.
const MTU_MAX: u32 = 65_535;

/// VNIs that devices of the host's namespace use on our UDP port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Reserved {
    /// The device of each VNI.
    pub vnis: BTreeMap<Vni, String>,
    /// A device in external mode, which takes the whole port.
    pub external: Option<String>,
}

impl Reserved {
    fn of(links: &[Link], udp_port: u16) -> Self {
        let mut reserved = Self::default();
        for link in links {
            match link.kind {
                LinkKind::Vxlan(Vxlan { port, external: true, .. }) if port == udp_port => {
                    reserved.external = Some(link.name.clone());
                }
                LinkKind::Vxlan(Vxlan { port, vni: Some(vni), .. }) if port == udp_port => {
                    reserved.vnis.insert(vni, link.name.clone());
                }
                _ => {}
            }
        }
        reserved
    }

    /// Who has a VNI, in words.
    pub fn user_of(&self, vni: Vni) -> Option<String> {
        let device = self.vnis.get(&vni).map(|name| format!("the device {name} of the host's network namespace"));
        let external = || {
            let name = self.external.as_ref()?;
            Some(format!("the device {name} of the host's network namespace, which takes all VNIs of the port"))
        };
        device.or_else(external)
    }
}

impl Linux {
    /// Looks which VNIs devices of the host's namespace use on our UDP port.
    pub(super) fn find_reserved(&mut self) -> Result<(), Error> {
        let links = dump_links(&mut self.host)?;
        self.reserved = Reserved::of(&links, self.config.udp_port);
        Ok(())
    }
}

/// The largest packet that LANs carry over the underlay, in bytes.
pub(super) fn overlay_mtu(host: &mut Socket, vtep: IpAddr, underlay_mtu: Option<u32>) -> Result<u32, Error> {
    let links = dump_links(host)?;
    let index = interface_of(host, vtep)?.ok_or(Error::AddressNotLocal { address: vtep })?;
    let underlay = match (underlay_mtu, links.iter().find(|link| link.index == index)) {
        (Some(mtu), _) => mtu,
        (None, Some(link)) if !link.loopback => link.mtu,
        // An address of the loopback is reached through whichever interface leads to the routers.
        (None, _) => smallest_uplink_mtu(host, &links, vtep)?,
    };
    let overhead = if vtep.is_ipv4() { OVERHEAD_IPV4 } else { OVERHEAD_IPV6 };
    match underlay.min(MTU_MAX).checked_sub(overhead) {
        Some(mtu) if mtu >= OVERLAY_MTU_MIN => Ok(mtu),
        _ => Err(Error::UnderlayMtu { mtu: underlay }),
    }
}

fn interface_of(host: &mut Socket, vtep: IpAddr) -> Result<Option<u32>, Error> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let found = host
        .dump(
            &request,
            || None,
            |found, message| {
                if let Some((index, _)) = wire::address(message.body).filter(|&(_, address)| address == vtep) {
                    *found = Some(index);
                }
            },
        )
        .map_err(|cause| Error::kernel("reading the host's addresses", cause))?;
    found.ok_or(Error::Unsteady)
}

/// The smallest MTU of the interfaces with a router behind them; without any, of all that are up.
fn smallest_uplink_mtu(host: &mut Socket, links: &[Link], vtep: IpAddr) -> Result<u32, Error> {
    let mut message = RouteMessage::default();
    message.header.address_family = match vtep {
        IpAddr::V4(_) => netlink_packet_route::AddressFamily::Inet,
        IpAddr::V6(_) => netlink_packet_route::AddressFamily::Inet6,
    };
    let uplinks = host
        .dump(&RouteNetlinkMessage::GetRoute(message), BTreeSet::new, |uplinks, message| {
            match RouteMessage::parse(message.body) {
                Ok(route) => uplinks.extend(routers_interfaces(&route)),
                Err(error) => warn!(%error, "a route of the host cannot be read and is left out"),
            }
        })
        .map_err(|cause| Error::kernel("reading the host's routes", cause))?
        .ok_or(Error::Unsteady)?;
    let up = || links.iter().filter(|link| link.up && !link.loopback);
    let by_route = up().filter(|link| uplinks.contains(&link.index)).map(|link| link.mtu).min();
    let mtu = by_route.or_else(|| up().map(|link| link.mtu).min());
    mtu.ok_or(Error::UnderlayMtu { mtu: 0 })
}

/// The interfaces through which a route reaches its routers.
fn routers_interfaces(route: &RouteMessage) -> BTreeSet<u32> {
    let mut interfaces = BTreeSet::new();
    if route.header.kind != RouteType::Unicast {
        return interfaces;
    }
    let is_router = |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
    let routed = route.attributes.iter().any(is_router);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) if routed => _ = interfaces.insert(*index),
            RouteAttribute::MultiPath(hops) => interfaces.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    interfaces
}
