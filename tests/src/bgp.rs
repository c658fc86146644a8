//! BGP by hand, for what no well-behaved speaker sends: a connection, messages octet by octet, and the answers.
//!
//! Nothing here uses our own codec: a fault in it must not hide itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::{inside, wait};

/// OPEN, UPDATE, NOTIFICATION, KEEPALIVE (RFC 4271 section 4.1).
pub const OPEN: u8 = 1;
/// See [`OPEN`].
pub const UPDATE: u8 = 2;
/// See [`OPEN`].
pub const NOTIFICATION: u8 = 3;
/// See [`OPEN`].
pub const KEEPALIVE: u8 = 4;
/// RFC 2918.
pub const ROUTE_REFRESH: u8 = 5;

const HEADER_OCTETS: usize = 19;

/// A message with a right header.
///
/// # Panics
///
/// If the body is too long for the length field.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER_OCTETS + body.len()).unwrap_or_else(|error| panic!("{error}"));
    let mut octets = vec![0xff; 16];
    octets.extend(length.to_be_bytes());
    octets.push(kind);
    octets.extend(body);
    octets
}

/// What an OPEN says; the default is right.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Protocol version.
    pub version: u8,
    /// AS number of two octets.
    pub asn: u16,
    /// Hold time in seconds.
    pub hold_time_secs: u16,
    /// BGP identifier.
    pub router_id: [u8; 4],
    /// Capabilities beside EVPN and RT-constrain in every [`Open::message`].
    pub capabilities: &'static [u8],
}

impl Open {
    /// Of the default AS, with this identifier.
    pub const fn of(router_id: [u8; 4]) -> Self {
        Self { version: 4, asn: 65_000, hold_time_secs: 90, router_id, capabilities: &[] }
    }

    /// The message, with the capabilities EVPN and RT-constrain and these more.
    pub fn message(&self, capabilities: &[u8]) -> Vec<u8> {
        let mut all = vec![1, 4, 0, 25, 0, 70, 1, 4, 0, 1, 0, 132];
        all.extend(self.capabilities);
        all.extend(capabilities);
        self.with_parameters(&[&[2, u8::try_from(all.len()).unwrap_or(u8::MAX)], &all[..]].concat())
    }

    /// The message with these optional parameters, whatever they are.
    pub fn with_parameters(&self, parameters: &[u8]) -> Vec<u8> {
        let mut body = vec![self.version];
        body.extend(self.asn.to_be_bytes());
        body.extend(self.hold_time_secs.to_be_bytes());
        body.extend(self.router_id);
        body.push(u8::try_from(parameters.len()).unwrap_or(u8::MAX));
        body.extend(parameters);
        message(OPEN, &body)
    }
}

/// An UPDATE that carries these path attributes and nothing else.
pub fn update(attributes: &[Vec<u8>]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend(attributes);
    message(UPDATE, &body)
}

/// An UPDATE with all of its fields (RFC 4271 section 4.3): withdrawn IPv4 prefixes, path attributes, IPv4 prefixes.
///
/// # Panics
///
/// If a field is too long for its length.
pub fn update_of(withdrawn: &[u8], attributes: &[Vec<u8>], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or_else(|error| panic!("{error}")).to_be_bytes();
    let body = [&length(withdrawn), withdrawn, &length(&attributes), &attributes, nlri].concat();
    message(UPDATE, &body)
}

/// A path attribute with a length of two octets (the flag for it is added).
///
/// # Panics
///
/// If the value is too long for that.
pub fn long_attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or_else(|error| panic!("{error}"));
    let mut octets = vec![flags | 0x10, kind];
    octets.extend(length.to_be_bytes());
    octets.extend(value);
    octets
}

/// An UPDATE that withdraws these EVPN routes; none of them: end-of-RIB (RFC 4724 section 2).
pub fn withdraw(routes: &[Vec<u8>]) -> Vec<u8> {
    update(&[attribute(0x80, 15, &[&[0, 25, 70], &routes.concat()[..]].concat())])
}

/// The end-of-RIB of RT-constrain.
pub fn end_of_memberships() -> Vec<u8> {
    update(&[attribute(0x80, 15, &[0, 1, 132])])
}

/// Membership in everything (RFC 4684), without which a reflector sends no routes.
pub fn default_membership(from: [u8; 4]) -> Vec<u8> {
    let mut value = vec![0, 1, 132, 4];
    value.extend(from);
    value.extend([0, 0]);
    update(&[
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[]),
        attribute(0x40, 5, &[0, 0, 0, 100]),
        attribute(0x80, 14, &value),
    ])
}

/// A path attribute with a length of one octet, or of two where it needs them.
pub fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let Ok(length) = u8::try_from(value.len()) else { return long_attribute(flags, kind, value) };
    let mut octets = vec![flags, kind, length];
    octets.extend(value);
    octets
}

/// A route distinguisher of type 1: an address and a number.
pub fn distinguisher(router_id: [u8; 4], number: u16) -> [u8; 8] {
    let ([a, b, c, d], [high, low]) = (router_id, number.to_be_bytes());
    [0, 1, a, b, c, d, high, low]
}

/// A VNI as it stands in a label.
pub fn label(vni: u32) -> [u8; 3] {
    let [_, high, middle, low] = vni.to_be_bytes();
    [high, middle, low]
}

/// An EVPN route of type 2 (RFC 7432 section 7.2), field by field; the default is right and has no IP address.
#[derive(Clone, Debug)]
pub struct MacRoute {
    /// Route distinguisher.
    pub rd: [u8; 8],
    /// Ethernet segment identifier.
    pub esi: [u8; 10],
    /// Length of the MAC in bits.
    pub mac_bits: u8,
    /// The MAC.
    pub mac: [u8; 6],
    /// Length of the IP address in bits.
    pub ip_bits: u8,
    /// The IP address.
    pub ip: Vec<u8>,
    /// The labels.
    pub labels: Vec<u8>,
}

impl MacRoute {
    /// A route for a MAC of a LAN.
    pub fn of(router_id: [u8; 4], vni: u32, mac: [u8; 6]) -> Self {
        let [_, _, high, low] = vni.to_be_bytes();
        let rd = distinguisher(router_id, u16::from_be_bytes([high, low]));
        Self { rd, esi: [0; 10], mac_bits: 48, mac, ip_bits: 0, ip: Vec::new(), labels: label(vni).to_vec() }
    }

    /// The same with an IPv4 address.
    #[must_use]
    pub fn with_ip(self, ip: [u8; 4]) -> Self {
        Self { ip_bits: 32, ip: ip.to_vec(), ..self }
    }

    /// What stands behind route type and length.
    pub fn body(&self) -> Vec<u8> {
        let mut body = [&self.rd[..], &self.esi, &[0; 4], &[self.mac_bits], &self.mac, &[self.ip_bits]].concat();
        body.extend(&self.ip);
        body.extend(&self.labels);
        body
    }

    /// The NLRI.
    pub fn nlri(&self) -> Vec<u8> {
        evpn_route(2, &self.body())
    }
}

/// An EVPN route of type 3 (RFC 7432 section 7.3).
pub fn multicast_route(router_id: [u8; 4], vni: u32, originator: &[u8]) -> Vec<u8> {
    let [_, _, high, low] = vni.to_be_bytes();
    let rd = distinguisher(router_id, u16::from_be_bytes([high, low]));
    let bits = u8::try_from(originator.len() * 8).unwrap_or(u8::MAX);
    evpn_route(3, &[&rd[..], &[0; 4], &[bits], originator].concat())
}

/// PMSI_TUNNEL for ingress replication (RFC 6514 section 5) with this endpoint.
pub fn pmsi(vni: u32, endpoint: &[u8]) -> Vec<u8> {
    attribute(0xc0, 22, &[&[0, 6], &label(vni)[..], endpoint].concat())
}

/// An EVPN route of type 5 (RFC 9136 section 3.1), field by field.
#[derive(Clone, Debug)]
pub struct PrefixRoute {
    /// Route distinguisher.
    pub rd: [u8; 8],
    /// Ethernet segment identifier.
    pub esi: [u8; 10],
    /// Length of the prefix in bits.
    pub bits: u8,
    /// The prefix: 4 or 16 octets.
    pub prefix: Vec<u8>,
    /// The gateway: as many octets as the prefix.
    pub gateway: Vec<u8>,
    /// The label.
    pub label: [u8; 3],
}

impl PrefixRoute {
    /// A right route for an IPv4 prefix.
    pub fn of(router_id: [u8; 4], vni: u32, prefix: [u8; 4], bits: u8) -> Self {
        let [_, _, high, low] = vni.to_be_bytes();
        let rd = distinguisher(router_id, u16::from_be_bytes([high, low]));
        Self { rd, esi: [0; 10], bits, prefix: prefix.to_vec(), gateway: vec![0; 4], label: label(vni) }
    }

    /// What stands behind route type and length.
    pub fn body(&self) -> Vec<u8> {
        [&self.rd[..], &self.esi, &[0; 4], &[self.bits], &self.prefix, &self.gateway, &self.label].concat()
    }

    /// The NLRI.
    pub fn nlri(&self) -> Vec<u8> {
        evpn_route(5, &self.body())
    }
}

/// An EVPN route of type 2 without an address (RFC 7432 section 7.2).
pub fn mac_route(router_id: [u8; 4], vni: u32, mac: [u8; 6]) -> Vec<u8> {
    MacRoute::of(router_id, vni, mac).nlri()
}

/// An EVPN route of any type.
pub fn evpn_route(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind, u8::try_from(body.len()).unwrap_or(u8::MAX)];
    octets.extend(body);
    octets
}

/// MP_REACH_NLRI for EVPN with an IPv4 next hop.
pub fn reach(next_hop: [u8; 4], routes: &[Vec<u8>]) -> Vec<u8> {
    reach_via(&next_hop, routes)
}

/// MP_REACH_NLRI for EVPN with a next hop of any length.
pub fn reach_via(next_hop: &[u8], routes: &[Vec<u8>]) -> Vec<u8> {
    let length = u8::try_from(next_hop.len()).unwrap_or(u8::MAX);
    attribute(0x80, 14, &[&[0, 25, 70, length], next_hop, &[0], &routes.concat()].concat())
}

/// The attributes of a right EVPN route beside MP_REACH_NLRI: ORIGIN, AS_PATH, LOCAL_PREF, and the route target and
/// encapsulation of this VNI in the default AS.
pub fn base(vni: u32) -> Vec<Vec<u8>> {
    let mut communities = vec![0, 2, 0xfd, 0xe8];
    communities.extend(vni.to_be_bytes());
    communities.extend([3, 0x0c, 0, 0, 0, 0, 0, 8]);
    vec![
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &[]),
        attribute(0x40, 5, &100_u32.to_be_bytes()),
        attribute(0xc0, 16, &communities),
    ]
}

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: i32,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

/// Has the kernel sign what goes to `peer` (RFC 2385).
fn set_md5_key(socket: &Socket, peer: SocketAddr, key: &[u8]) -> std::io::Result<()> {
    let mut option = TcpMd5Sig {
        address: [0; 128],
        flags: 0,
        prefix_length: 0,
        key_length: u16::try_from(key.len()).unwrap_or(u16::MAX),
        interface: 0,
        key: [0; libc::TCP_MD5SIG_MAXKEYLEN],
    };
    option.key.get_mut(..key.len()).ok_or(ErrorKind::InvalidInput)?.copy_from_slice(key);
    // What a sockaddr begins with: the family in the machine's order.
    match peer.ip() {
        IpAddr::V4(address) => {
            option.address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            option.address[4..8].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            option.address[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            option.address[8..24].copy_from_slice(&address.octets());
        }
    }
    // SAFETY: the pointer leads to a whole structure of the given length, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects from an address of the host.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open(from: &Host, source: IpAddr, to: SocketAddr) -> std::io::Result<Self> {
        Self::open_with(from, source, to, |_| Ok(()))
    }

    /// Connects from an address of the host with a socket that was made ready.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open_with(
        from: &Host,
        source: IpAddr,
        to: SocketAddr,
        prepare: impl FnOnce(&Socket) -> std::io::Result<()> + Send,
    ) -> std::io::Result<Self> {
        inside::run(&from.open(), || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            prepare(&socket)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect_timeout(&to.into(), Duration::from_secs(10))?;
            Self::over(socket.into())
        })
    }

    /// Connects from an address of the host with this TCP-MD5 key (RFC 2385).
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open_with_key(from: &Host, source: IpAddr, to: SocketAddr, key: &str) -> std::io::Result<Self> {
        Self::open_with(from, source, to, |socket| set_md5_key(socket, to, key.as_bytes()))
    }

    /// A connection that the other side opened, or one made elsewhere.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(wait::PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// The same connection for another thread.
    ///
    /// # Panics
    ///
    /// If the system has no descriptor left.
    pub fn share(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap_or_else(|error| panic!("{error}")) }
    }

    /// The socket itself, for what only TCP can do.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends octets; what the other side does not take any more is its right.
    pub fn send(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    /// The next message as type and body; `None` once the other side has closed.
    ///
    /// # Panics
    ///
    /// If nothing comes for long, or no BGP.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; HEADER_OCTETS];
        self.fill(&mut header)?;
        assert!(header[..16].iter().all(|octet| *octet == 0xff), "no BGP: {header:02x?}");
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.checked_sub(HEADER_OCTETS).unwrap_or_else(|| panic!("length {length}"))];
        self.fill(&mut body)?;
        Some((header[18], body))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the daemon neither answers nor closes"),
            Err(_) => None,
        }
    }

    /// Waits for a message of this type, past others; `None` if the connection is closed first.
    pub fn receive_kind(&mut self, kind: u8) -> Option<Vec<u8>> {
        let deadline = Instant::now() + wait::PATIENCE;
        while Instant::now() < deadline {
            let (found, body) = self.receive()?;
            if found == kind {
                return Some(body);
            }
        }
        panic!("no message of type {kind} comes")
    }

    /// Code and subcode of the NOTIFICATION that ends the connection; `None` if it ends without one.
    pub fn last_words(&mut self) -> Option<(u8, u8)> {
        let body = self.receive_kind(NOTIFICATION)?;
        Some((body.first().copied()?, body.get(1).copied()?))
    }

    /// Brings a session up.
    ///
    /// # Panics
    ///
    /// If the other side does not want to.
    pub fn establish(&mut self, open: &Open) {
        self.send(&open.message(&[]));
        self.receive_kind(OPEN).unwrap_or_else(|| panic!("closed before OPEN"));
        self.send(&message(KEEPALIVE, &[]));
        self.receive_kind(KEEPALIVE).unwrap_or_else(|| panic!("closed before KEEPALIVE"));
    }
}
