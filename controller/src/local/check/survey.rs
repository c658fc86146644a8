//! What a device has on its LANs: addresses, and bridges that join LANs into one
//! segment.
//!
//! In: the network namespace of the calling thread. Out: a [`Survey`]; then, from
//! those of all devices, which LANs are one [`Segments`] segment.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

/// What a device has.
#[derive(Debug, Default)]
pub struct Survey {
    /// Every address with its subnet, by interface.
    pub addresses: Vec<(String, IpNet)>,
    /// Ports of bridges that forward whatever comes: port and bridge.
    pub ports: Vec<(String, String)>,
}

/// Looks at the calling thread's network namespace.
///
/// # Errors
/// What the kernel says.
pub fn survey() -> io::Result<Survey> {
    Ok(Survey { addresses: addresses()?, ports: bridge_ports(&links()?) })
}

fn addresses() -> io::Result<Vec<(String, IpNet)>> {
    let mut found = Vec::new();
    for entry in getifaddrs()? {
        let (Some(address), Some(mask)) = (entry.address, entry.netmask) else { continue };
        let net = if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            IpNet::with_netmask(address.ip().into(), mask.ip().into()).ok()
        } else if let (Some(address), Some(mask)) = (address.as_sockaddr_in6(), mask.as_sockaddr_in6()) {
            IpNet::with_netmask(address.ip().into(), mask.ip().into()).ok()
        } else {
            None
        };
        found.extend(net.map(|net| (entry.interface_name, net)));
    }
    Ok(found)
}

/// Dumps the links of the calling thread's namespace.
fn links() -> io::Result<Vec<LinkMessage>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0_u8; request.buffer_len()];
    request.serialize(&mut bytes);
    send(netlink.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut links = Vec::new();
    while receive_links(&netlink, &mut links)? {}
    Ok(links)
}

/// Takes one datagram of a dump; `false` after the last.
fn receive_links(netlink: &OwnedFd, links: &mut Vec<LinkMessage>) -> io::Result<bool> {
    // The kernel never sends more than 32 KiB at once in a dump.
    let mut buffer = vec![0_u8; 64 * 1024];
    let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let mut rest = buffer.get(..length).unwrap_or_default();
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
        // Each message is padded to four bytes.
        let padded = usize::try_from(message.header.length).unwrap_or(0).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => links.push(link),
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => {}
        }
        rest = rest.get(padded.max(16)..).unwrap_or_default();
    }
    Ok(true)
}

fn bridge_ports(links: &[LinkMessage]) -> Vec<(String, String)> {
    let bridges: BTreeMap<u32, String> = links
        .iter()
        .filter(|link| is_plain_bridge(link))
        .filter_map(|link| Some((link.header.index, name(link)?)))
        .collect();
    let port = |link: &LinkMessage| {
        let bridge = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) => bridges.get(index),
            _ => None,
        });
        Some((name(link)?, bridge?.clone()))
    };
    links.iter().filter_map(port).collect()
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// A bridge without VLAN filtering: with it, two ports need not be one segment.
fn is_plain_bridge(link: &LinkMessage) -> bool {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let mut infos = infos.flatten();
    let is_bridge = infos.clone().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Bridge)));
    let filters = infos.any(|info| match info {
        LinkInfo::Data(InfoData::Bridge(settings)) => {
            settings.iter().any(|setting| matches!(setting, InfoBridge::VlanFiltering(true)))
        }
        _ => false,
    });
    is_bridge && !filters
}

/// Which LANs are one segment, since devices bridge them.
#[derive(Debug, Default)]
pub struct Segments<'a> {
    /// Each joined LAN's representative, which may have one itself.
    joined: BTreeMap<&'a str, &'a str>,
}

impl<'a> Segments<'a> {
    /// The name of the segment that a LAN is part of.
    pub fn of(&self, lan: &'a str) -> &'a str {
        let mut segment = lan;
        while let Some(next) = self.joined.get(segment) {
            segment = next;
        }
        segment
    }

    /// Makes two LANs one segment.
    pub fn join(&mut self, one: &'a str, other: &'a str) {
        let (one, other) = (self.of(one), self.of(other));
        if one != other {
            self.joined.insert(one.max(other), one.min(other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lans_joined_one_after_another_are_one_segment() {
        let mut segments = Segments::default();
        segments.join("C", "B");
        segments.join("A", "B");
        segments.join("X", "Y");
        segments.join("A", "C");
        assert_eq!([segments.of("A"), segments.of("B"), segments.of("C")], ["A"; 3]);
        assert_eq!(segments.of("Y"), "X");
        assert_eq!(segments.of("Z"), "Z");
    }
}
