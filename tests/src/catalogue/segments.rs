//! TCP segments that no TCP would send, with any source address, as they are.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::inside;

/// TCP flags.
pub const SYN: u8 = 0x02;
/// See [`SYN`].
pub const RST: u8 = 0x04;
/// See [`SYN`].
pub const ACK: u8 = 0x10;

const IPV4_OCTETS: usize = 20;
const TCP_OCTETS: usize = 20;

/// A segment over IPv4.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Where it pretends to come from.
    pub from: SocketAddrV4,
    /// Where it goes.
    pub to: SocketAddrV4,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledged: u32,
    /// Flags.
    pub flags: u8,
    /// What it carries.
    pub data: Vec<u8>,
}

impl Segment {
    /// The packet, checksums included.
    fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(TCP_OCTETS + self.data.len());
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledged.to_be_bytes());
        tcp.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&self.data);
        let length = u16::try_from(tcp.len()).unwrap_or_else(|error| panic!("{error}"));
        let mut pseudo = [self.from.ip().octets(), self.to.ip().octets()].concat();
        pseudo.extend([0, 6]);
        pseudo.extend(length.to_be_bytes());
        pseudo.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        // The kernel fills in length, identification and checksum of the IP header.
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
        packet.extend(self.from.ip().octets());
        packet.extend(self.to.ip().octets());
        packet.extend(tcp);
        packet
    }

    /// The segment in an Ethernet frame, if it holds one over IPv4; its data is cut to what IP says.
    pub fn in_frame(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..).filter(|_| frame.get(12..14) == Some(&[8, 0]))?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
        let tcp = packet.get(header..total).filter(|_| packet.get(9) == Some(&6) && header >= IPV4_OCTETS)?;
        let word = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        Some(Self {
            from: SocketAddrV4::new(address(12)?, word(0)?),
            to: SocketAddrV4::new(address(16)?, word(2)?),
            sequence: long(4)?,
            acknowledged: long(8)?,
            flags: *tcp.get(13)?,
            data: tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?.to_vec(),
        })
    }
}

/// Sends segments from a host.
///
/// # Panics
///
/// If the system does not.
pub fn send(host: &Host, segments: &[Segment]) {
    inside::run(&host.open(), || {
        // IPPROTO_RAW: we write the IP header.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
        let socket = socket.unwrap_or_else(|error| panic!("no raw socket: {error}; run as root"));
        for segment in segments {
            let to = SocketAddr::from((*segment.to.ip(), 0));
            socket.send_to(&segment.packet(), &to.into()).unwrap_or_else(|error| panic!("{segment:?}: {error}"));
        }
    });
}

fn checksum(octets: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
