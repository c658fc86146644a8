//! Makes and removes devices: bridges, VXLAN, veth.
//!
//! Every device is born in the namespace where it lives, by one `RTM_NEWLINK` that names it, and never moved: a move
//! costs 18 ms under the lock that all network changes share, and shows the device to the host's udev on its way.
//! Devices are removed as one group, since each single removal waits for a grace period of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use bgp_core::types::{MacAddr, Vni};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoData, InfoKind, InfoPortKind, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::{LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};
use tracing::{debug, warn};

use super::socket::{Batch, Socket};
use super::wire::{Link, LinkKind};
use super::{Linux, bridge_name, pod, tunnel_name};
use crate::{AttachError, AttachRequest, Attached, ChangeError, Error, Existing, KernelError, Pod, PortId};

/// What crosses a port although it is addressed to the bridge group: everything but PAUSE, which the kernel never
/// forwards. So LLDP, LACP, STP and 802.1X cross the LAN. A bridge's own mask cannot do it.
const GROUP_FWD_MASK: u16 = 0xfffd;
/// Hops of the outer packet.
const OUTER_TTL: u8 = 64;
/// The group that devices join to be removed together.
const DOOMED_GROUP: u32 = 0x6d67_6c73;
/// The fewest bytes an IPv4 link may carry (RFC 791).
const MTU_MIN: u32 = 68;
/// The longest alias, in bytes.
const ALIAS_MAX: usize = 255;
const MODIFY: u16 = 0;
/// What breaks again while it is mended is mended at once, but not for ever.
const REPAIR_ROUNDS: usize = 4;

pub(super) fn set(message: LinkMessage) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(message)
}

fn new_link(batch: &mut Batch, message: LinkMessage) {
    batch.push(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
}

fn alias(name: &str, text: &str) -> RouteNetlinkMessage {
    set(LinkUnspec::new_with_name(name).alias(text).build())
}

/// How a port treats frames, and that it is up: the kernel sets the first before the second, so no frame passes
/// otherwise. `RTM_SETLINK` would ignore a port's settings without a word.
fn open_port(name: &str, settings: PortSettings<'_>) -> RouteNetlinkMessage {
    let port = LinkMessageBuilder::<LinkBridgePort>::default()
        .name(name)
        .set_port_kind(InfoPortKind::Bridge)
        .learning(settings.learning)
        .group_fwd_mask(GROUP_FWD_MASK)
        .neigh_suppress(settings.suppress)
        .up();
    let port = match settings.alias {
        Some(text) => port.alias(text),
        None => port,
    };
    RouteNetlinkMessage::NewLink(port.build())
}

/// See [`open_port`].
struct PortSettings<'a> {
    learning: bool,
    suppress: bool,
    alias: Option<&'a str>,
}

impl PortSettings<'_> {
    const LOCAL: Self = Self { learning: true, suppress: false, alias: None };
}

/// Cuts a text to the longest alias.
fn cut_alias(text: &str) -> &str {
    let mut end = text.len().min(ALIAS_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The first failure of a batch, with what was tried.
fn first_failure(
    results: Vec<Result<(), KernelError>>,
    actions: &[&'static str],
) -> Result<(), (&'static str, KernelError)> {
    for (at, result) in results.into_iter().enumerate() {
        result.map_err(|cause| (actions.get(at).copied().unwrap_or("configuring a device"), cause))?;
    }
    Ok(())
}

impl Linux {
    // ---- LANs ----

    /// Makes the bridge of a LAN where there is none, and gives it its human name.
    pub(super) fn ensure_bridge(&mut self, vni: Vni, lan: &str) -> Result<u32, AttachError> {
        let name = bridge_name(vni);
        let wanted_alias = cut_alias(lan);
        let mut batch = Batch::default();
        let existing = self.table.lan(vni).and_then(|lan| lan.bridge).and_then(|index| self.table.link(index));
        let exists = existing.is_some();
        if !exists && let Some(stranger) = self.table.link_named(&name).map(|link| link.index) {
            warn!(%vni, "{name} is no bridge: in the overlay namespace it is in the way and removed");
            if let Err(error) = self.remove_devices(&BTreeSet::from([stranger])) {
                warn!(%error, "cannot remove {name}");
            }
        }
        let existing = self.table.lan(vni).and_then(|lan| lan.bridge).and_then(|index| self.table.link(index));
        if existing.is_none() {
            let bridge = LinkBridge::new(&name).mcast_snooping(false).stp_state(BridgeStpState::Disabled).build();
            new_link(&mut batch, bridge);
        }
        if existing.is_none_or(|link| link.alias != wanted_alias) && !wanted_alias.is_empty() {
            batch.push(alias(&name, wanted_alias), MODIFY);
        }
        if existing.is_some_and(|link| !link.up) {
            batch.push(set(LinkUnspec::new_with_name(&name).up().build()), MODIFY);
        }
        if !batch.is_empty() {
            let results = self.overlay.transact(&mut batch);
            first_failure(results, &[])
                .map_err(|(_, cause)| AttachError::kernel(format!("making the bridge {name} of LAN {lan}"), cause))?;
            self.drain()?;
        }
        let index = self.table.lan(vni).and_then(|lan| lan.bridge);
        index.ok_or_else(|| AttachError::kernel(format!("finding the bridge {name}"), KernelError::new(libc::ENODEV)))
    }

    /// Makes the VXLAN devices of LANs, or repairs them; one result for each.
    pub(super) fn make_tunnels(&mut self, vnis: &[Vni]) -> BTreeMap<Vni, Result<(), ChangeError>> {
        let mut results: BTreeMap<Vni, Result<(), ChangeError>> = BTreeMap::new();
        let mut wanted = Vec::new();
        let mut unusable = BTreeSet::new();
        for &vni in vnis {
            let lan = self.table.lan(vni);
            match lan.and_then(|lan| lan.bridge) {
                None => _ = results.insert(vni, Err(ChangeError::NoLan { vni })),
                Some(_) if lan.is_some_and(|lan| lan.tunnel.is_some()) => _ = results.insert(vni, Ok(())),
                Some(bridge) => {
                    let leftover = self.table.link_named(&tunnel_name(vni)).map(|link| link.index);
                    unusable.extend(leftover);
                    wanted.push((vni, bridge));
                }
            }
        }
        // A device of that name with other settings, or taken down: its rows are gone or wrong in any case.
        if let Err(error) = self.remove_devices(&unusable) {
            warn!(%error, "cannot remove VXLAN devices that are not usable");
        }
        let created = self.create_tunnels(&wanted);
        results.extend(wanted.iter().map(|&(vni, _)| vni).zip(created));
        results
    }

    fn create_tunnels(&mut self, wanted: &[(Vni, u32)]) -> Vec<Result<(), ChangeError>> {
        let (mut births, mut settings) = (Batch::default(), Batch::default());
        for &(vni, bridge) in wanted {
            let name = tunnel_name(vni);
            new_link(&mut births, self.tunnel_message(vni, &name, bridge));
            let port = PortSettings { learning: false, suppress: self.config.suppress_neighbors, alias: None };
            settings.push(open_port(&name, port), MODIFY);
        }
        let born = self.host.transact(&mut births);
        let set_up = self.overlay.transact(&mut settings);
        let drained = self.drain();
        let mut failed = BTreeSet::new();
        let mut results = Vec::with_capacity(wanted.len());
        for ((&(vni, _), born), set_up) in wanted.iter().zip(born).zip(set_up) {
            let result = match (born, set_up) {
                (Err(cause), _) => Err(self.explain_tunnel(vni, cause)),
                // A device in external mode, or another program, has the port: that shows only now.
                (Ok(()), Err(cause)) => Err(self.explain_tunnel(vni, cause)),
                (Ok(()), Ok(())) if drained.is_ok() && self.table.lan(vni).is_none_or(|lan| lan.tunnel.is_none()) => {
                    let cause = KernelError { errno: libc::EAGAIN, explanation: "it was changed at once".to_owned() };
                    Err(ChangeError::Kernel { action: "making a VXLAN device", cause })
                }
                _ => Ok(()),
            };
            if result.is_err() {
                failed.extend(self.table.link_named(&tunnel_name(vni)).map(|link| link.index));
            }
            results.push(result);
        }
        if let Err(error) = self.remove_devices(&failed) {
            warn!(%error, "cannot remove VXLAN devices that failed half-way");
        }
        results
    }

    fn tunnel_message(&self, vni: Vni, name: &str, bridge: u32) -> LinkMessage {
        let vxlan = LinkVxlan::new(name, vni.get()).port(self.config.udp_port).learning(false).ttl(OUTER_TTL);
        let vxlan = match self.config.vtep {
            IpAddr::V4(local) => vxlan.local(local),
            IpAddr::V6(local) => vxlan.local6(local),
        };
        let vxlan = vxlan.mtu(self.mtu_max).controller(bridge);
        match &self.namespace {
            Some(namespace) => vxlan.setns_by_fd(namespace.as_raw_fd()).build(),
            None => vxlan.build(),
        }
    }

    /// Names who has the VNI where that is why a VXLAN device could not be made.
    fn explain_tunnel(&mut self, vni: Vni, cause: KernelError) -> ChangeError {
        if !matches!(cause.errno, libc::EEXIST | libc::EADDRINUSE) {
            return ChangeError::Kernel { action: "making a VXLAN device", cause };
        }
        if let Err(error) = self.refresh_host() {
            debug!(%error, "cannot look for VXLAN devices of the host's namespace");
        }
        let port = self.config.udp_port;
        let user = self
            .report
            .user_of(vni)
            .unwrap_or_else(|| format!("a VXLAN device of another network namespace, or another program ({cause})"));
        ChangeError::VniInUse { vni, port, user }
    }

    /// Gives tunnels that were made with another underlay the MTU of this one.
    pub(super) fn align_mtus(&mut self) -> Result<(), Error> {
        let mut batch = Batch::default();
        for (vni, lan) in self.table.lans() {
            let tunnel = lan.tunnel.and_then(|index| self.table.link(index));
            if let Some(link) = tunnel.filter(|link| link.mtu != self.mtu_max) {
                batch.push(set(LinkUnspec::new_with_index(link.index).mtu(self.mtu_max).build()), MODIFY);
            }
            let large = lan.ports.keys().filter_map(|&index| self.table.link(index)).find(|l| l.mtu > self.mtu_max);
            if let Some(port) = large {
                let (name, mtu, most) = (&port.name, port.mtu, self.mtu_max);
                warn!(%vni, "the port {name} has an MTU of {mtu}, but the underlay carries {most} now: attach it anew");
            }
        }
        let failed = self.overlay.transact(&mut batch).into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |cause| Err(Error::kernel("setting the MTU of VXLAN devices", cause)))
    }

    /// Removes the VXLAN devices of LANs.
    pub(super) fn remove_tunnels(&mut self, vnis: &[Vni]) -> Result<(), Error> {
        let named = vnis.iter().filter_map(|&vni| self.table.link_named(&tunnel_name(vni)));
        let indices = named.map(|link| link.index).collect();
        self.remove_devices(&indices)
    }

    /// The devices of LANs without members, and VXLAN devices without a bridge.
    pub(super) fn idle_devices(&self, leaving: &BTreeSet<u32>) -> BTreeSet<u32> {
        let mut idle = BTreeSet::new();
        for (vni, lan) in self.table.lans() {
            if lan.ports.keys().all(|index| leaving.contains(index)) {
                idle.extend(lan.bridge);
                idle.extend(self.table.link_named(&tunnel_name(vni)).map(|link| link.index));
            }
        }
        let stray = |link: &&Link| matches!(link.kind, LinkKind::Vxlan(_)) && link.master.is_none();
        idle.extend(self.table.links().filter(stray).map(|link| link.index));
        idle
    }

    /// Removes devices of the overlay namespace, all in one go. Done is done.
    pub(super) fn remove_devices(&mut self, indices: &BTreeSet<u32>) -> Result<(), Error> {
        if indices.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for &index in indices {
            batch.push(set(LinkUnspec::new_with_index(index).link_group(DOOMED_GROUP).build()), MODIFY);
        }
        let mut group = LinkMessage::default();
        group.attributes.push(LinkAttribute::Group(DOOMED_GROUP));
        batch.push(RouteNetlinkMessage::DelLink(group), MODIFY);
        self.table.doomed.extend(indices);
        let results = self.overlay.transact(&mut batch);
        let drained = self.drain();
        self.table.doomed.clear();
        drained?;
        let gone = |cause: &KernelError| cause.errno == libc::ENODEV;
        match results.into_iter().find_map(|result| result.err().filter(|cause| !gone(cause))) {
            Some(cause) => Err(Error::kernel("removing devices from the overlay namespace", cause)),
            None => Ok(()),
        }
    }

    // ---- members ----

    pub(super) fn attach_port(&mut self, request: AttachRequest) -> Result<Attached, AttachError> {
        self.drain_host()?;
        self.drain()?;
        let name = request.port.device_name();
        if self.table.link_named(&name).is_some() {
            match request.existing {
                Existing::Keep => return Err(AttachError::Exists { port: request.port }),
                Existing::Replace => self.detach_ports(std::slice::from_ref(&request.port))?,
            }
        }
        let mtu = self.check_request(&request)?;
        let AttachRequest { port, vni, lan, pod, interface, mac, addresses, routes, .. } = request;
        let Pod::Descriptors { namespace, netlink } = pod else {
            return Err(invalid("the pod", "a network namespace and a netlink socket inside it"));
        };
        let mut inside =
            Socket::from_pod(netlink).map_err(|error| AttachError::kernel("using the pod's netlink socket", error))?;
        let veth = Veth { name: &name, port: &port, mtu, interface: &interface, mac, namespace: &namespace };
        let made = self
            .ensure_bridge(vni, &lan)
            .and_then(|bridge| self.create_veth(bridge, &veth))
            .and_then(|()| self.index_of(&name))
            .and_then(|index| Ok((pod::configure(&mut inside, index, &interface, &addresses, &routes)?, index)))
            .map(|(mac, host_index)| Attached { mac, mtu, host_interface: name.clone(), host_index });
        if made.is_err() {
            let leaving = self.table.link_named(&name).map(|link| link.index).into_iter().collect();
            let idle = self.idle_devices(&leaving);
            if let Err(error) = self.remove_devices(&leaving.union(&idle).copied().collect()) {
                warn!(%error, "cannot remove the devices of an attachment that failed");
            }
        }
        made
    }

    fn check_request(&self, request: &AttachRequest) -> Result<u32, AttachError> {
        let valid = (1..=15).contains(&request.interface.len())
            && !request.interface.contains(['/', ':', '\0'])
            && !request.interface.contains(char::is_whitespace);
        if !valid {
            let what = format!("the interface name `{}`", request.interface);
            return Err(invalid(what, "1 to 15 bytes without `/`, `:` and spaces"));
        }
        if let Some(mac) = request.mac.filter(|mac| !mac.is_unicast()) {
            return Err(invalid(format!("the MAC address {mac}"), "one of a host: not zero and not a group's"));
        }
        if let Some(user) = self.report.user_of(request.vni) {
            return Err(AttachError::VniInUse { vni: request.vni, port: self.config.udp_port, user });
        }
        let most = self.mtu_max;
        match request.mtu {
            Some(wanted) if wanted > most => Err(AttachError::Mtu { wanted, most }),
            Some(wanted) if wanted < MTU_MIN => Err(invalid(format!("an MTU of {wanted}"), "68 or more")),
            wanted => Ok(wanted.unwrap_or(most)),
        }
    }

    /// Makes both ends, each in its own namespace, by one message.
    fn create_veth(&mut self, bridge: u32, veth: &Veth<'_>) -> Result<(), AttachError> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(veth.interface)
            .mtu(veth.mtu)
            .setns_by_fd(veth.namespace.as_raw_fd());
        let peer = match veth.mac {
            Some(MacAddr(octets)) => peer.address(octets.to_vec()),
            None => peer,
        };
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(veth.name)
            .mtu(veth.mtu)
            .controller(bridge)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        let mut batch = Batch::default();
        new_link(&mut batch, pair.build());
        let settings = PortSettings { alias: Some(veth.port.as_str()), ..PortSettings::LOCAL };
        batch.push(open_port(veth.name, settings), MODIFY);
        let results = self.overlay.transact(&mut batch);
        self.drain()?;
        first_failure(results, &["making a veth pair"]).map_err(|(action, cause)| match cause.errno {
            // The kernel names neither end; ours was looked for before.
            libc::EEXIST => AttachError::InterfaceExists { interface: veth.interface.to_owned() },
            _ => AttachError::kernel(format!("{action} for {}", veth.port), cause),
        })
    }

    fn index_of(&self, name: &str) -> Result<u32, AttachError> {
        let index = self.table.link_named(name).map(|link| link.index);
        index.ok_or_else(|| AttachError::kernel(format!("finding {name}"), KernelError::new(libc::ENODEV)))
    }

    pub(super) fn detach_ports(&mut self, ports: &[PortId]) -> Result<(), Error> {
        self.drain()?;
        let links = ports.iter().filter_map(|port| self.table.link_named(&port.device_name()));
        let leaving: BTreeSet<u32> = links.map(|link| link.index).collect();
        let idle = self.idle_devices(&leaving);
        self.remove_devices(&leaving.union(&idle).copied().collect())
    }

    /// Puts LANs in order again that somebody disturbed: makes the bridge anew, puts ports back into it.
    pub(super) fn repair(&mut self) -> Result<(), Error> {
        for _ in 0..REPAIR_ROUNDS {
            let broken = self.table.take_broken();
            if broken.is_empty() {
                break;
            }
            for vni in broken {
                self.repair_lan(vni)?;
            }
        }
        Ok(())
    }

    fn repair_lan(&mut self, vni: Vni) -> Result<(), Error> {
        let Some(lan) = self.table.lan(vni).filter(|lan| !lan.ports.is_empty()) else { return Ok(()) };
        let up = lan.bridge.and_then(|index| self.table.link(index)).is_some_and(|link| link.up);
        let resized = lan.tunnel.and_then(|index| self.table.link(index)).filter(|link| link.mtu != self.mtu_max);
        let resized = resized.map(|link| (link.index, link.mtu));
        if let Some((index, mtu)) = resized {
            warn!(%vni, mtu, wanted = self.mtu_max, "somebody changed the MTU of the VXLAN device: setting it again");
            let message = set(LinkUnspec::new_with_index(index).mtu(self.mtu_max).build());
            if let Err(cause) = self.overlay.request(message, MODIFY) {
                warn!(%vni, %cause, "cannot set the MTU of the VXLAN device");
            }
            self.drain()?;
        }
        let Some(lan) = self.table.lan(vni) else { return Ok(()) };
        let loose = self.table.loose_ports(vni);
        if up && loose.is_empty() {
            return Ok(());
        }
        warn!(%vni, ports = loose.len(), "somebody changed the bridge or its ports: putting them in order again");
        let name = lan.name.clone();
        if let Err(error) = self.ensure_bridge(vni, &name) {
            warn!(%vni, %error, "cannot make the bridge anew");
        }
        for index in loose {
            self.put_back(vni, index)?;
        }
        Ok(())
    }

    fn put_back(&mut self, vni: Vni, index: u32) -> Result<(), Error> {
        let bridge = self.table.lan(vni).and_then(|lan| lan.bridge);
        let Some((bridge, link)) = bridge.zip(self.table.link(index)) else {
            self.table.abandon_port(vni, index);
            return Ok(());
        };
        let name = link.name.clone();
        let mut batch = Batch::default();
        batch.push(set(LinkUnspec::new_with_index(index).controller(bridge).build()), MODIFY);
        batch.push(open_port(&name, PortSettings::LOCAL), MODIFY);
        let results = self.overlay.transact(&mut batch);
        self.drain()?;
        // A bridge that is being removed lets its ports go before it goes itself: then the next round makes another.
        let same_bridge = self.table.lan(vni).and_then(|lan| lan.bridge) == Some(bridge);
        if let Err((_, cause)) = first_failure(results, &[])
            && self.table.link(index).is_some()
            && same_bridge
        {
            warn!(%vni, %cause, "cannot put {name} back into its bridge");
            self.table.abandon_port(vni, index);
        }
        Ok(())
    }
}

pub(super) fn invalid(what: impl Into<String>, expected: &str) -> AttachError {
    AttachError::Invalid { what: what.into(), expected: expected.to_owned() }
}

/// What a pair is made of.
struct Veth<'a> {
    name: &'a str,
    port: &'a PortId,
    mtu: u32,
    interface: &'a str,
    mac: Option<MacAddr>,
    namespace: &'a OwnedFd,
}
