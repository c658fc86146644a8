//! Reads what the kernel sends: headers, attributes, links, rows.
//!
//! In: bytes of one datagram. Out: the few values that this crate acts upon. Total on any input: what is cut short or
//! makes no sense is left out. Own code rather than a full model of every message, because notifications of a busy node
//! carry hundreds of bytes of statistics nobody reads, and an attribute of a newer kernel must never hide a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_core::types::{MacAddr, Vni};

use crate::KernelError;

const HEADER_LEN: usize = 16;
/// An acknowledgement or an error.
pub(super) const NLMSG_ERROR: u16 = 2;
/// The end of a dump.
pub(super) const NLMSG_DONE: u16 = 3;
/// The extended acknowledgement's attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;
/// The request is cut to its header in the acknowledgement.
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The type is in the low 14 bits.
const NLA_TYPE_MASK: u16 = 0x3fff;
const NDMSG_LEN: usize = 12;
const IFINFOMSG_LEN: usize = 16;

/// One netlink message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// The messages of a datagram; ends at the first that is cut short.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            body: bytes.get(HEADER_LEN..len)?,
        };
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message or of a nest: type without flags, and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let attribute = (u16_at(bytes, 2)? & NLA_TYPE_MASK, bytes.get(4..len)?);
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some(attribute)
    })
}

fn aligned(len: usize) -> usize {
    len.saturating_add(3) & !3
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Reads the body of `NLMSG_ERROR` (or of `NLMSG_DONE`): `Ok` where it is an acknowledgement.
pub(super) fn acknowledgement(message: Message<'_>) -> Result<(), KernelError> {
    let code = array_at(message.body, 0).map_or(0, i32::from_ne_bytes);
    if code == 0 {
        return Ok(());
    }
    let mut explanation = String::new();
    if message.flags & NLM_F_ACK_TLVS != 0 {
        let request = match message.flags & NLM_F_CAPPED {
            0 => u32_at(message.body, 4).map_or(HEADER_LEN, |len| aligned(len as usize)),
            _ => HEADER_LEN,
        };
        let tlvs = message.body.get(request.saturating_add(4)..).unwrap_or_default();
        if let Some((_, value)) = attributes(tlvs).find(|&(kind, _)| kind == NLMSGERR_ATTR_MSG) {
            explanation = text(value);
        }
    }
    Err(KernelError { errno: code.saturating_neg(), explanation })
}

/// The error that a message carries, if it carries one.
pub(super) fn refusal(message: Message<'_>) -> Result<(), KernelError> {
    if message.kind == NLMSG_ERROR { acknowledgement(message) } else { Ok(()) }
}

/// A network device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub alias: String,
    pub mtu: u32,
    pub up: bool,
    pub carrier: bool,
    pub loopback: bool,
    pub master: Option<u32>,
    /// The device of this namespace on which it stands.
    pub lower: Option<u32>,
    /// The index of a veth's other end, in whatever namespace that is.
    pub other_end: Option<u32>,
    pub mac: Option<MacAddr>,
    pub kind: LinkKind,
}

/// What sort of device it is, as far as it matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LinkKind {
    Bridge,
    Vxlan(Vxlan),
    Veth,
    Other,
}

/// The identity of a VXLAN device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Vxlan {
    /// `None` in external mode, where rows and routes name the VNI.
    pub vni: Option<Vni>,
    pub local: Option<IpAddr>,
    pub port: u16,
    pub external: bool,
}

/// Reads `RTM_NEWLINK` or `RTM_DELLINK` about the device itself; the bridge's notes about its ports (`AF_BRIDGE`) are
/// none.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    if *body.first()? != libc::AF_UNSPEC as u8 {
        return None;
    }
    let flags = u32_at(body, 8)?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let mut link = Link {
        index: u32_at(body, 4)?,
        name: String::new(),
        alias: String::new(),
        mtu: 0,
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_UP) && has(libc::IFF_LOWER_UP),
        loopback: has(libc::IFF_LOOPBACK),
        master: None,
        lower: None,
        other_end: None,
        mac: None,
        kind: LinkKind::Other,
    };
    let mut elsewhere = false;
    for (kind, value) in attributes(body.get(IFINFOMSG_LEN..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_IFALIAS => link.alias = text(value),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            libc::IFLA_MASTER => link.master = u32_at(value, 0).filter(|&index| index != 0),
            libc::IFLA_LINK => link.lower = u32_at(value, 0).filter(|&index| index != 0),
            libc::IFLA_LINK_NETNSID => elsewhere = true,
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok().map(MacAddr),
            libc::IFLA_LINKINFO => link.kind = link_kind(value),
            _ => {}
        }
    }
    link.other_end = link.lower.filter(|_| link.kind == LinkKind::Veth);
    // A veth's other end, and an index of another namespace, is no device on which this one stands.
    link.lower = link.lower.filter(|_| !elsewhere && link.kind != LinkKind::Veth);
    Some(link)
}

fn link_kind(info: &[u8]) -> LinkKind {
    let find = |wanted| attributes(info).find(|&(kind, _)| kind == wanted).map_or(&[][..], |(_, value)| value);
    match text(find(libc::IFLA_INFO_KIND)).as_str() {
        "bridge" => LinkKind::Bridge,
        "veth" => LinkKind::Veth,
        "vxlan" => LinkKind::Vxlan(vxlan(find(libc::IFLA_INFO_DATA))),
        _ => LinkKind::Other,
    }
}

fn vxlan(data: &[u8]) -> Vxlan {
    const ID: u16 = 1;
    const LOCAL: u16 = 4;
    const PORT: u16 = 15;
    const LOCAL6: u16 = 17;
    const COLLECT_METADATA: u16 = 25;
    let mut vxlan = Vxlan { vni: None, local: None, port: 0, external: false };
    for (kind, value) in attributes(data) {
        match kind {
            ID => vxlan.vni = u32_at(value, 0).and_then(Vni::new),
            LOCAL | LOCAL6 => vxlan.local = ip(value).filter(|address| !address.is_unspecified()),
            PORT => vxlan.port = array_at(value, 0).map_or(0, u16::from_be_bytes),
            COLLECT_METADATA => vxlan.external = value.first().is_some_and(|&on| on != 0),
            _ => {}
        }
    }
    vxlan
}

/// A forwarding row of a bridge or VXLAN device (`AF_BRIDGE`), or an IP neighbour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Row {
    pub family: u8,
    pub index: u32,
    pub state: u16,
    pub flags: u8,
    pub mac: Option<MacAddr>,
    /// The remote VTEP, or the neighbour's address.
    pub destination: Option<IpAddr>,
    /// The bridge, in rows of a bridge's table.
    pub bridge: Option<u32>,
}

/// Reads `RTM_NEWNEIGH` or `RTM_DELNEIGH`.
pub(super) fn row(body: &[u8]) -> Option<Row> {
    let mut row = Row {
        family: *body.first()?,
        index: u32_at(body, 4)?,
        state: u16_at(body, 8)?,
        flags: *body.get(10)?,
        mac: None,
        destination: None,
        bridge: None,
    };
    for (kind, value) in attributes(body.get(NDMSG_LEN..)?) {
        match kind {
            libc::NDA_LLADDR => row.mac = value.try_into().ok().map(MacAddr),
            libc::NDA_DST => row.destination = ip(value),
            libc::NDA_MASTER => row.bridge = u32_at(value, 0),
            _ => {}
        }
    }
    Some(row)
}

/// Reads `RTM_NEWADDR`: the interface and the address on it.
pub(super) fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let index = u32_at(body, 4)?;
    let find = |wanted| attributes(body.get(8..).unwrap_or_default()).find(|&(kind, _)| kind == wanted);
    // On a point-to-point link IFA_ADDRESS is the other end.
    let (_, value) = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS))?;
    Some((index, ip(value)?))
}

/// Something that the kernel announces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Notification {
    Link(Link),
    LinkGone(u32),
    Row(Row),
    RowGone(Row),
}

/// Reads one message; `None` for what does not matter here.
pub(super) fn notification(message: Message<'_>) -> Option<Notification> {
    match message.kind {
        libc::RTM_NEWLINK => link(message.body).map(Notification::Link),
        libc::RTM_DELLINK => link(message.body).map(|link| Notification::LinkGone(link.index)),
        libc::RTM_NEWNEIGH => row(message.body).map(Notification::Row),
        libc::RTM_DELNEIGH => row(message.body).map(Notification::RowGone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) {
        for message in messages(bytes) {
            let _ = (acknowledgement(message), notification(message), address(message.body));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            read_all(&bytes);
            link(&bytes);
            row(&bytes);
        }

        #[test]
        fn any_body_of_a_message_is_read_without_panic(
            kind in prop_oneof![2_u16..4, 16..30_u16],
            flags: u16,
            body in proptest::collection::vec(prop_oneof![Just(0_u8), 0..40_u8, any::<u8>()], 0..200),
        ) {
            let mut bytes = Vec::new();
            bytes.extend(((HEADER_LEN + body.len()) as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(flags.to_ne_bytes());
            bytes.extend([0; 8]);
            bytes.extend(body);
            read_all(&bytes);
        }
    }
}
