//! What happens in the host's namespace: the MTU towards other nodes, and who else uses VXLAN there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use tracing::{info, warn};

use super::socket::{EventSocket, Received, Socket};
use super::wire::{self, Link, LinkKind, Notification, Vxlan};
use super::{Linux, dump_links};
use crate::{Error, HostReport, MtuLimit, Observation};

/// An overlay that carries less is of no use to IPv4 (RFC 791: every host takes 576).
const OVERLAY_MTU_MIN: u32 = 576;
/// The largest MTU that a device accepts.
const MTU_MAX: u32 = 65_535;

/// Hears of the host's devices, and keeps what matters of them.
pub(super) struct HostWatch {
    events: EventSocket,
    vxlans: BTreeMap<u32, Link>,
    /// The interface that has the VTEP address, and its MTU.
    interface: (u32, u32),
}

/// What reading the notifications gave.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// Some were lost.
    lost: bool,
    /// The interface with the VTEP address has another MTU.
    resized: bool,
}

impl HostWatch {
    /// Hears everything from here on, in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Ok(Self { events: EventSocket::of_links()?, vxlans: BTreeMap::new(), interface: (0, 0) })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    fn hear(&mut self) -> Result<Heard, Error> {
        let mut heard = Heard::default();
        loop {
            let notifications: Vec<Notification> = match self.events.receive() {
                Ok(Received::Datagram(bytes)) => wire::messages(bytes).filter_map(wire::notification).collect(),
                Ok(Received::Overrun) => {
                    heard.lost = true;
                    continue;
                }
                Ok(Received::Empty) => return Ok(heard),
                Err(error) => return Err(Error::kernel("reading notifications of the host's namespace", error)),
            };
            for notification in notifications {
                match notification {
                    Notification::Link(link) => {
                        heard.resized |= link.index == self.interface.0 && link.mtu != self.interface.1;
                        self.take(link);
                    }
                    Notification::LinkGone(index) => _ = self.vxlans.remove(&index),
                    Notification::Row(_) | Notification::RowGone(_) => {}
                }
            }
        }
    }

    fn take(&mut self, link: Link) {
        if matches!(link.kind, LinkKind::Vxlan(_)) {
            self.vxlans.insert(link.index, link);
        }
    }

    fn replace(&mut self, links: Vec<Link>) {
        self.vxlans.clear();
        links.into_iter().for_each(|link| self.take(link));
    }

    /// Which VNIs of the UDP port are taken, and whether all are. A device in external mode has the port only while it
    /// is up; the VNI of another is taken as long as the device exists.
    fn taken(&self, report: &mut HostReport) {
        report.reserved.clear();
        report.port_taken_by = None;
        for link in self.vxlans.values() {
            match link.kind {
                LinkKind::Vxlan(Vxlan { port, external: true, .. }) if port == report.udp_port && link.up => {
                    report.port_taken_by = Some(link.name.clone());
                }
                LinkKind::Vxlan(Vxlan { port, vni: Some(vni), .. }) if port == report.udp_port => {
                    report.reserved.insert(vni, link.name.clone());
                }
                _ => {}
            }
        }
    }
}

/// What was found out of the underlay.
pub(super) struct Measured {
    pub limit: MtuLimit,
    /// The interface that has the VTEP address, and its MTU.
    pub interface: (u32, u32),
}

/// The largest packet that LANs carry over the underlay; its MTU is `given`, or that of the interface towards the others.
pub(super) fn measure(host: &mut Socket, vtep: IpAddr, given: Option<u32>) -> Result<Measured, Error> {
    let links = dump_links(host)?;
    let index = interface_of(host, vtep)?.ok_or(Error::AddressNotLocal { address: vtep })?;
    let interface = links.iter().find(|link| link.index == index);
    let underlay = match (given, interface) {
        (Some(mtu), _) => mtu,
        (None, Some(link)) if !link.loopback => link.mtu,
        // An address of the loopback is reached through whichever interface leads to the routers.
        (None, _) => smallest_uplink_mtu(host, &links, vtep)?,
    };
    let limit = MtuLimit { underlay: underlay.min(MTU_MAX), is_ipv6: vtep.is_ipv6() };
    if limit.most() < OVERLAY_MTU_MIN {
        return Err(Error::UnderlayMtu { mtu: underlay });
    }
    Ok(Measured { limit, interface: (index, interface.map_or(0, |link| link.mtu)) })
}

impl Linux {
    /// Reads the notifications of the host's namespace that wait.
    pub(super) fn drain_host(&mut self) -> Result<(), Error> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let heard = watch.hear()?;
        if heard.lost {
            return self.refresh_host();
        }
        if heard.resized {
            self.measure_again();
        }
        self.report_host()
    }

    /// Reads the host's devices anew.
    pub(super) fn refresh_host(&mut self) -> Result<(), Error> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        // What was notified until here is part of the dump.
        watch.hear()?;
        watch.replace(dump_links(&mut self.host)?);
        self.measure_again();
        self.report_host()
    }

    /// The underlay may carry more or less than before. Where it cannot be told any more, what was known stays.
    fn measure_again(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        match measure(&mut self.host, self.config.vtep, self.config.underlay_mtu) {
            Ok(Measured { limit, interface }) => {
                watch.interface = interface;
                self.report.mtu = Some(limit);
            }
            Err(error) => warn!(%error, "the underlay's MTU cannot be found out anew"),
        }
    }

    fn report_host(&mut self) -> Result<(), Error> {
        let most = self.report.mtu.map_or(self.mtu_max, MtuLimit::most);
        let is_resized = most != self.mtu_max;
        let mut report = self.report.clone();
        if let Some(watch) = &self.watch {
            watch.taken(&mut report);
        }
        if report == self.report && !is_resized {
            return Ok(());
        }
        self.report = report;
        self.table.observe(Observation::Host(self.report.clone()));
        if is_resized {
            self.mtu_max = most;
            info!(mtu = most, reason = ?self.report.mtu.map(|limit| limit.to_string()), "LANs carry packets of another size now");
            self.align_mtus()?;
        }
        Ok(())
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
