//! The pod's end of an attachment: its addresses and routes.
//!
//! In: a netlink socket that was opened inside the pod. Everything here is undone by removing the interface.

use std::net::IpAddr;

use bgp_core::types::MacAddr;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::LinkUnspec;

use super::links::{invalid, set};
use super::socket::{Batch, Socket};
use super::wire;
use crate::{AttachError, Route};

const MODIFY: u16 = 0;

/// Gives the pod's end, whose other end has this index, its addresses, brings it up, gives it its routes, and reads its
/// MAC.
pub(super) fn configure(
    inside: &mut Socket,
    other_end: u32,
    interface: &str,
    addresses: &[IpNet],
    routes: &[Route],
) -> Result<MacAddr, AttachError> {
    let find = RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(interface).build());
    let link = inside
        .get(find, |message| wire::link(message.body))
        .map_err(|cause| AttachError::kernel(format!("finding {interface} in the pod"), cause))?;
    // A socket of another namespace would show an interface that is not ours to change.
    if link.other_end != Some(other_end) {
        return Err(invalid("the pod's netlink socket", "one that was opened in the network namespace beside it"));
    }
    let mac = link.mac.ok_or_else(|| invalid(format!("{interface}'s link layer"), "Ethernet"))?;
    let mut batch = Batch::default();
    let mut actions = Vec::new();
    // Addresses first: the kernel announces them when the link comes up.
    for &address in addresses {
        batch.push(RouteNetlinkMessage::NewAddress(address_message(link.index, address)), NLM_F_CREATE | NLM_F_EXCL);
        actions.push(format!("adding the address {address} to {interface}"));
    }
    batch.push(set(LinkUnspec::new_with_index(link.index).up().build()), MODIFY);
    actions.push(format!("bringing {interface} up in the pod"));
    for route in routes {
        // Beside one that is there already for the same destination, as the plugins of the CNI project do it.
        batch.push(RouteNetlinkMessage::NewRoute(route_message(link.index, route)), NLM_F_CREATE);
        actions.push(format!("adding the route to {} through {interface}", route.destination));
    }
    for (result, action) in inside.transact(&mut batch).into_iter().zip(actions) {
        result.map_err(|cause| AttachError::kernel(action, cause))?;
    }
    Ok(mac)
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.attributes.push(AddressAttribute::Address(address.addr()));
    match address {
        IpNet::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            message.attributes.push(AddressAttribute::Local(address.addr()));
            if v4.prefix_len() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            // Usable at once: whoever assigned it answers for its uniqueness.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

fn route_message(index: u32, route: &Route) -> RouteMessage {
    let on_link = if route.destination.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    let natural = if route.gateway.is_some() { RouteScope::Universe } else { on_link };
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.destination.addr()),
        destination_prefix_length: route.destination.prefix_len(),
        // Tables beyond 255 have an attribute.
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: route.scope.map_or(natural, RouteScope::from),
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let mut metrics = Vec::new();
    metrics.extend(route.mtu.map(RouteMetric::Mtu));
    metrics.extend(route.advmss.map(RouteMetric::Advmss));
    let attributes = &mut message.attributes;
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route_address(route.destination.network())));
    }
    attributes.push(RouteAttribute::Oif(index));
    attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(route_address(gateway))));
    attributes.extend(route.priority.map(RouteAttribute::Priority));
    attributes.extend(route.table.map(RouteAttribute::Table));
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}
