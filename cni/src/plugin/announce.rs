//! What a new interface tells the LAN about its addresses, so that whoever had another MAC for one of them forgets it at
//! once: gratuitous ARP (RFC 5227 section 2.3) and unsolicited neighbour advertisements (RFC 4861 section 7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::MacAddr;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const BROADCAST: [u8; 6] = [0xff; 6];
/// The group of all nodes, and its MAC address (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;

/// The frame that announces an address.
pub fn frame(mac: MacAddr, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => gratuitous_arp(mac.octets(), v4),
        IpAddr::V6(v6) => neighbor_advertisement(mac.octets(), v6),
    }
}

fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes()].concat()
}

/// An ARP request for our own address: every host that knows it takes the new MAC, and nobody answers.
fn gratuitous_arp(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    // Ethernet, IPv4, their lengths, request.
    const HEAD: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend(HEAD);
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend([0; 6]);
    frame.extend(ip.octets());
    frame
}

/// An advertisement to all nodes that overrides what they know.
fn neighbor_advertisement(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    let mut message = vec![136, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(ip.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac);
    // Always 32 octets.
    let length = [0, 32];
    let pseudo_header = [&ip.octets()[..], &ALL_NODES.octets(), &[0, 0], &length, &[0, 0, 0, ICMPV6]].concat();
    let checksum = checksum(&[&pseudo_header[..], &message].concat()).to_be_bytes();
    for (field, octet) in message.iter_mut().skip(2).zip(checksum) {
        *field = octet;
    }
    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length);
    // Hop limit 255: it has crossed no router.
    frame.extend([ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum (RFC 1071) of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes(word.try_into().unwrap_or_default())));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn an_ipv4_address_is_announced_by_a_request_for_itself() {
        let frame = frame("02:00:5e:00:53:01".parse().unwrap(), "192.0.2.7".parse().unwrap());
        let (head, arp) = ("ffffffffffff02005e0053010806", "0001080006040001");
        assert_eq!(hex(&frame), format!("{head}{arp}02005e005301c0000207000000000000c0000207"));
    }

    #[test]
    fn an_ipv6_address_is_announced_to_all_nodes_with_a_right_checksum() {
        let frame = frame("02:00:5e:00:53:01".parse().unwrap(), "2001:db8::7".parse().unwrap());
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(hex(&frame[..14]), "33330000000102005e00530186dd");
        assert_eq!(frame[21], 255, "hop limit");
        // Over everything, its own field included, the sum is zero.
        let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo[..], &frame[54..]].concat()), 0);
        assert_eq!(hex(&frame[58..62]), "20000000", "override, neither router nor solicited");
        assert_eq!(hex(&frame[78..]), "020102005e005301");
    }
}
