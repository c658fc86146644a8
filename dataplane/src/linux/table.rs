//! What the kernel is known to hold, kept up to date by its notifications, and what they mean.
//!
//! In: links and rows as dumps and notifications give them. Out: [`Observation`]s, unless the change is our own: the
//! writer changes this table itself as soon as the kernel has acknowledged, so that the notifications of its own writes
//! tell nothing new. All memory here is a copy of kernel state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use bgp_core::types::{MacAddr, Vni};
use evpn::forwarding::Key;
use tracing::warn;

use super::wire::{Link, LinkKind, Notification, Row, Vxlan};
use super::{bridge_name, tunnel_name};
use crate::{BridgeRow, HostReport, LanSnapshot, LocalMac, Observation, PortId, PortSnapshot, RemoteRow, Snapshot};

/// Observations that wait beyond this are replaced by one overrun.
const PENDING_MAX: usize = 64 * 1024;
/// Not in `libc` for this platform.
const NTF_STICKY: u8 = 0x40;

/// Whose devices these are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ownership {
    /// Ours: a LAN is a bridge with the name that we give.
    Ours,
    /// Somebody else's: a LAN is a VXLAN device in a bridge.
    Adopted,
}

/// One LAN.
#[derive(Debug, Default)]
pub(super) struct Lan {
    /// The human name: the alias that the bridge has, or last had.
    pub name: String,
    pub bridge: Option<u32>,
    /// The VXLAN device, if it is up, a port of the bridge, and set up as we would.
    pub tunnel: Option<u32>,
    pub ports: BTreeMap<u32, PortId>,
    pub flood: HashSet<IpAddr>,
    pub remote: HashMap<MacAddr, RemoteRow>,
    pub neighbors: HashMap<IpAddr, MacAddr>,
    /// Port and stickiness of each local MAC.
    pub local: HashMap<MacAddr, (u32, bool)>,
    /// MACs of the devices themselves, and those that an administrator has made addresses of this node.
    pub devices: BTreeSet<MacAddr>,
    /// MACs of permanent rows on local ports: a device's own, or an administrator's.
    permanent: BTreeSet<MacAddr>,
}

/// See the module.
pub(super) struct Table {
    ownership: Ownership,
    vtep: IpAddr,
    udp_port: u16,
    links: HashMap<u32, Link>,
    by_name: HashMap<String, u32>,
    by_master: HashMap<u32, BTreeSet<u32>>,
    /// What stands on each device.
    by_lower: HashMap<u32, BTreeSet<u32>>,
    /// VXLAN devices of each VNI, usable or not.
    vxlans: HashMap<Vni, BTreeSet<u32>>,
    lans: BTreeMap<Vni, Lan>,
    bridge_lan: HashMap<u32, Vni>,
    tunnel_lan: HashMap<u32, Vni>,
    /// Ports that somebody took out of their bridge.
    loose: HashMap<u32, Vni>,
    /// LANs whose bridge or ports somebody disturbed.
    broken: BTreeSet<Vni>,
    /// Devices that we are removing.
    pub doomed: HashSet<u32>,
    /// Rows that looked disturbed, with what they were before; judged when all notifications are read.
    suspects: HashMap<(Vni, MacAddr), Option<RemoteRow>>,
    /// The same for flood rows: whether they were there.
    flood_suspects: HashMap<(Vni, IpAddr), bool>,
    pending: Vec<Observation>,
}

impl Table {
    pub fn new(ownership: Ownership, vtep: IpAddr, udp_port: u16) -> Self {
        Self {
            ownership,
            vtep,
            udp_port,
            links: HashMap::new(),
            by_name: HashMap::new(),
            by_master: HashMap::new(),
            by_lower: HashMap::new(),
            vxlans: HashMap::new(),
            lans: BTreeMap::new(),
            bridge_lan: HashMap::new(),
            tunnel_lan: HashMap::new(),
            loose: HashMap::new(),
            broken: BTreeSet::new(),
            doomed: HashSet::new(),
            suspects: HashMap::new(),
            flood_suspects: HashMap::new(),
            pending: Vec::new(),
        }
    }

    pub fn lan(&self, vni: Vni) -> Option<&Lan> {
        self.lans.get(&vni)
    }

    pub fn lan_mut(&mut self, vni: Vni) -> Option<&mut Lan> {
        self.lans.get_mut(&vni)
    }

    pub fn lans(&self) -> impl Iterator<Item = (Vni, &Lan)> {
        self.lans.iter().map(|(&vni, lan)| (vni, lan))
    }

    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).and_then(|index| self.links.get(index))
    }

    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Takes the observations that wait, at most `most` of them.
    pub fn take_pending(&mut self, most: usize) -> Vec<Observation> {
        if self.pending.len() <= most {
            return std::mem::take(&mut self.pending);
        }
        self.pending.drain(..most).collect()
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn observe(&mut self, observation: Observation) {
        if self.pending.len() >= PENDING_MAX {
            // Whoever does not keep up starts anew, as after a loss in the kernel.
            self.pending.clear();
            self.pending.push(Observation::Overrun);
        }
        self.pending.push(observation);
    }

    /// Forgets what waits, where a snapshot includes it.
    pub fn clear_pending(&mut self) {
        self.pending.clear();
        self.suspects.clear();
        self.flood_suspects.clear();
    }

    pub fn notified(&mut self, notification: Notification) {
        match notification {
            Notification::Link(link) => self.link_changed(link),
            Notification::LinkGone(index) => self.link_gone(index),
            Notification::Row(row) => self.row_changed(row),
            Notification::RowGone(row) => self.row_gone(row),
        }
    }

    /// Ends a round of notifications: a row that is again as it was before was our own work, or needs none.
    pub fn settle(&mut self) {
        for ((vni, mac), before) in std::mem::take(&mut self.suspects) {
            let Some(lan) = self.lans.get(&vni) else { continue };
            if lan.remote.get(&mac).copied() != before {
                self.observe(Observation::RowDisturbed { key: Key::Mac(vni, mac) });
            }
        }
        for ((vni, vtep), before) in std::mem::take(&mut self.flood_suspects) {
            let Some(lan) = self.lans.get(&vni) else { continue };
            if lan.flood.contains(&vtep) != before {
                self.observe(Observation::RowDisturbed { key: Key::Flood(vni, vtep) });
            }
        }
    }

    // ---- links ----

    fn link_changed(&mut self, link: Link) {
        let is_resized = self.links.get(&link.index).is_some_and(|known| known.mtu != link.mtu);
        if let Some(&vni) = self.tunnel_lan.get(&link.index).filter(|_| is_resized) {
            // Ours has one MTU from its birth; that of another is its owner's matter.
            self.broken.extend((self.ownership == Ownership::Ours).then_some(vni));
        }
        let mut touched = self.unindex(link.index);
        touched.extend(self.lans_of(&link));
        self.by_name.insert(link.name.clone(), link.index);
        if let Some(master) = link.master {
            self.by_master.entry(master).or_default().insert(link.index);
        }
        if let Some(lower) = link.lower {
            self.by_lower.entry(lower).or_default().insert(link.index);
        }
        if let LinkKind::Vxlan(Vxlan { vni: Some(vni), .. }) = link.kind {
            self.vxlans.entry(vni).or_default().insert(link.index);
        }
        self.links.insert(link.index, link);
        self.reconsider(touched);
    }

    fn link_gone(&mut self, index: u32) {
        let touched = self.unindex(index);
        self.reconsider(touched);
    }

    /// Replaces all links by those of a dump.
    pub fn replace_links(&mut self, links: Vec<Link>) {
        let present: HashSet<u32> = links.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| !present.contains(index)).collect();
        gone.into_iter().for_each(|index| self.link_gone(index));
        links.into_iter().for_each(|link| self.link_changed(link));
    }

    /// Removes a link from the indices; the LANs that it was part of.
    fn unindex(&mut self, index: u32) -> BTreeSet<Vni> {
        let Some(link) = self.links.remove(&index) else { return BTreeSet::new() };
        let touched = self.lans_of(&link);
        if self.by_name.get(&link.name) == Some(&index) {
            self.by_name.remove(&link.name);
        }
        remove_from(&mut self.by_master, link.master, index);
        remove_from(&mut self.by_lower, link.lower, index);
        if let LinkKind::Vxlan(Vxlan { vni: Some(vni), .. }) = link.kind
            && let Some(twins) = self.vxlans.get_mut(&vni)
        {
            twins.remove(&index);
        }
        touched
    }

    /// The LANs that a link is or may become part of.
    fn lans_of(&self, link: &Link) -> BTreeSet<Vni> {
        let mut vnis = BTreeSet::new();
        vnis.extend(self.bridge_lan.get(&link.index));
        vnis.extend(self.tunnel_lan.get(&link.index));
        let beneath = [link.master, link.lower].into_iter().flatten();
        vnis.extend(beneath.filter_map(|index| self.bridge_lan.get(&index)));
        match link.kind {
            LinkKind::Vxlan(vxlan) => vnis.extend(vxlan.vni),
            LinkKind::Bridge => {
                vnis.extend(link.name.strip_prefix("br").and_then(|n| n.parse().ok()).and_then(Vni::new))
            }
            LinkKind::Veth => vnis.extend(self.loose.get(&link.index)),
            LinkKind::Other => {}
        }
        vnis
    }

    /// The bridge and the usable VXLAN device of a LAN, as the links show it.
    fn structure(&self, vni: Vni) -> (Option<u32>, Option<u32>) {
        let candidates = || self.vxlans.get(&vni).into_iter().flatten().filter_map(|index| self.links.get(index));
        match self.ownership {
            Ownership::Ours => {
                let named = self.link_named(&bridge_name(vni)).filter(|link| link.kind == LinkKind::Bridge);
                let bridge = named.map(|link| link.index);
                let usable = |link: &&Link| {
                    link.name == tunnel_name(vni) && link.up && link.master == bridge && self.is_as_ours(link)
                };
                (bridge, bridge.and_then(|_| candidates().find(usable)).map(|link| link.index))
            }
            Ownership::Adopted => {
                let usable = |link: &&Link| {
                    let bridge = link.master.and_then(|master| self.links.get(&master));
                    let free = link.master.and_then(|master| self.bridge_lan.get(&master)).is_none_or(|&of| of == vni);
                    link.up && free && self.is_servable(link) && bridge.is_some_and(|b| b.kind == LinkKind::Bridge)
                };
                let tunnel = candidates().find(usable);
                (tunnel.and_then(|link| link.master), tunnel.map(|link| link.index))
            }
        }
    }

    fn is_as_ours(&self, link: &Link) -> bool {
        matches!(link.kind, LinkKind::Vxlan(vxlan)
            if !vxlan.external && vxlan.port == self.udp_port && vxlan.local == Some(self.vtep))
    }

    fn is_servable(&self, link: &Link) -> bool {
        matches!(link.kind, LinkKind::Vxlan(vxlan)
            if !vxlan.external && vxlan.local.is_none_or(|local| local == self.vtep))
    }

    /// The identity of a port: its alias where the name proves that it is ours.
    fn port_id(link: &Link) -> PortId {
        let id = PortId::new(&link.alias);
        if id.device_name() == link.name { id } else { PortId::new(&link.name) }
    }

    fn reconsider(&mut self, vnis: BTreeSet<Vni>) {
        for vni in vnis {
            self.reconsider_lan(vni);
        }
    }

    fn reconsider_lan(&mut self, vni: Vni) {
        let (bridge, tunnel) = self.structure(vni);
        let existed = self.lans.contains_key(&vni);
        if !existed && bridge.is_none() {
            return;
        }
        let mut lan = self.lans.remove(&vni).unwrap_or_default();
        if lan.bridge != bridge {
            lan.bridge.map(|old| self.bridge_lan.remove(&old));
            bridge.map(|new| self.bridge_lan.insert(new, vni));
            lan.local.clear();
            lan.bridge = bridge;
        }
        if let Some(link) = bridge.and_then(|index| self.links.get(&index)) {
            lan.name.clone_from(&link.alias);
        }
        if lan.tunnel != tunnel {
            self.tunnel_changed(vni, &mut lan, tunnel);
        }
        self.reconsider_ports(vni, &mut lan);
        self.reconsider_devices(vni, &mut lan);
        let adopted = self.ownership == Ownership::Adopted;
        let down = bridge.and_then(|index| self.links.get(&index)).is_none_or(|link| !link.up);
        if !adopted && down && !bridge.is_some_and(|index| self.doomed.contains(&index)) {
            self.broken.insert(vni);
        }
        if lan.bridge.is_some() || !lan.ports.is_empty() {
            self.lans.insert(vni, lan);
            if adopted && !existed {
                self.observe(Observation::LanAppeared { vni });
            }
        } else if adopted {
            self.observe(Observation::LanGone { vni });
        }
    }

    fn tunnel_changed(&mut self, vni: Vni, lan: &mut Lan, tunnel: Option<u32>) {
        if let Some(old) = lan.tunnel {
            self.tunnel_lan.remove(&old);
            lan.flood.clear();
            lan.remote.clear();
            lan.neighbors.clear();
            // The rows went with the device: that says it all.
            self.suspects.retain(|&(of, _), _| of != vni);
            self.flood_suspects.retain(|&(of, _), _| of != vni);
            if self.ownership == Ownership::Ours && !self.doomed.contains(&old) {
                self.observe(Observation::TunnelGone { vni });
            }
        }
        tunnel.map(|new| self.tunnel_lan.insert(new, vni));
        lan.tunnel = tunnel;
    }

    fn reconsider_ports(&mut self, vni: Vni, lan: &mut Lan) {
        let members = lan.bridge.and_then(|bridge| self.by_master.get(&bridge));
        let is_port = |link: &&Link| !matches!(link.kind, LinkKind::Vxlan(_));
        let mut ports: BTreeMap<u32, PortId> = members
            .into_iter()
            .flatten()
            .filter_map(|index| self.links.get(index))
            .filter(is_port)
            .map(|link| (link.index, Self::port_id(link)))
            .collect();
        for (index, id) in std::mem::take(&mut lan.ports) {
            self.loose.remove(&index);
            if ports.contains_key(&index) {
                continue;
            }
            let link = self.links.get(&index);
            let ours = self.ownership == Ownership::Ours && id.device_name() == link.map_or("", |link| &link.name);
            if ours && link.is_some_and(|link| link.master.is_none()) && !self.doomed.contains(&index) {
                self.loose.insert(index, vni);
                self.broken.insert(vni);
                ports.insert(index, id);
                continue;
            }
            lan.local.retain(|_, &mut (port, _)| port != index);
            if self.ownership == Ownership::Adopted && lan.bridge.is_none() || self.doomed.contains(&index) {
                continue;
            }
            self.observe(Observation::PortGone { vni, port: id, index });
        }
        lan.ports = ports;
    }

    /// The bridge has an address of its own, so has each port, and so has what stands on the bridge: a gateway's MACVLAN.
    fn reconsider_devices(&mut self, vni: Vni, lan: &mut Lan) {
        let bridge = lan.bridge.and_then(|bridge| self.links.get(&bridge));
        let ports = lan.bridge.and_then(|bridge| self.by_master.get(&bridge)).into_iter().flatten();
        let upper = lan.bridge.and_then(|bridge| self.by_lower.get(&bridge)).into_iter().flatten();
        let others = ports.chain(upper).filter_map(|index| self.links.get(index));
        let of_links = bridge.into_iter().chain(others).filter_map(|link| link.mac);
        let devices = of_links.chain(lan.permanent.iter().copied()).filter(|mac| mac.is_unicast()).collect();
        let before = std::mem::replace(&mut lan.devices, devices);
        for &mac in before.difference(&lan.devices) {
            self.observe(Observation::DeviceMac { vni, mac, present: false });
        }
        for &mac in lan.devices.difference(&before) {
            self.observe(Observation::DeviceMac { vni, mac, present: true });
        }
    }

    /// The LANs that somebody disturbed since the last call.
    pub fn take_broken(&mut self) -> BTreeSet<Vni> {
        std::mem::take(&mut self.broken)
    }

    /// The ports of a LAN that are outside of its bridge.
    pub fn loose_ports(&self, vni: Vni) -> Vec<u32> {
        self.loose.iter().filter(|&(_, &of)| of == vni).map(|(&index, _)| index).collect()
    }

    /// Gives a port up that cannot be put back into its bridge.
    pub fn abandon_port(&mut self, vni: Vni, index: u32) {
        self.loose.remove(&index);
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if let Some(port) = lan.ports.remove(&index) {
            self.observe(Observation::PortGone { vni, port, index });
        }
    }

    // ---- rows ----

    /// Forgets all rows, before a dump tells them anew.
    pub fn clear_rows(&mut self) {
        for lan in self.lans.values_mut() {
            lan.flood.clear();
            lan.remote.clear();
            lan.neighbors.clear();
            lan.local.clear();
            lan.permanent.clear();
        }
    }

    fn row_changed(&mut self, row: Row) {
        if i32::from(row.family) != libc::AF_BRIDGE {
            return self.neighbor_changed(row);
        }
        let Some(mac) = row.mac else { return };
        if let Some(&vni) = self.tunnel_lan.get(&row.index) {
            if row.bridge.is_some() {
                self.tunnel_bridge_row(vni, mac, row);
            } else if let Some(vtep) = row.destination {
                self.tunnel_row(vni, mac, vtep);
            }
            return;
        }
        let Some(&vni) = row.bridge.and_then(|bridge| self.bridge_lan.get(&bridge)) else { return };
        if self.permanent_changed(vni, mac, row.state & libc::NUD_PERMANENT != 0) || !mac.is_unicast() {
            return;
        }
        let sticky = row.flags & NTF_STICKY != 0 || is_static(&row);
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        let Some(port) = lan.ports.get(&row.index).cloned() else { return };
        let known = lan.local.insert(mac, (row.index, sticky));
        let taken_over = lan.remote.get_mut(&mac).is_some_and(|remote| remote.bridge.take().is_some());
        if lan.remote.get(&mac) == Some(&RemoteRow::default()) {
            lan.remote.remove(&mac);
        }
        if taken_over {
            self.suspects.remove(&(vni, mac));
            self.observe(Observation::RowTakenOver { vni, mac, port, sticky });
        } else if known != Some((row.index, sticky)) {
            self.observe(Observation::LocalMac { vni, mac, port, sticky });
        }
    }

    /// Notes whether a MAC has a permanent row on a local port: it is an address of this node then, and no station's.
    /// Returns whether it has.
    fn permanent_changed(&mut self, vni: Vni, mac: MacAddr, present: bool) -> bool {
        let Some(lan) = self.lans.get_mut(&vni) else { return present };
        let is_news = if present { lan.permanent.insert(mac) } else { lan.permanent.remove(&mac) };
        let is_known = present && lan.devices.contains(&mac);
        if is_news && !is_known {
            self.reconsider_devices_of(vni);
        }
        present
    }

    fn reconsider_devices_of(&mut self, vni: Vni) {
        if let Some(mut lan) = self.lans.remove(&vni) {
            self.reconsider_devices(vni, &mut lan);
            self.lans.insert(vni, lan);
        }
    }

    /// All rows were told anew: permanent ones that were not are gone.
    pub fn rows_complete(&mut self) {
        let vnis: Vec<Vni> = self.lans.keys().copied().collect();
        vnis.into_iter().for_each(|vni| self.reconsider_devices_of(vni));
    }

    /// A bridge row that leads to the VXLAN port.
    fn tunnel_bridge_row(&mut self, vni: Vni, mac: MacAddr, row: Row) {
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if !mac.is_unicast() || row.state & libc::NUD_PERMANENT != 0 {
            return;
        }
        let kind = if row.flags & NTF_STICKY != 0 {
            BridgeRow::Sticky
        } else if row.flags & libc::NTF_EXT_LEARNED != 0 && row.state & libc::NUD_NOARP == 0 {
            BridgeRow::External
        } else {
            BridgeRow::Foreign
        };
        let was_local = lan.local.remove(&mac).and_then(|(index, _)| lan.ports.get(&index).cloned());
        let before = lan.remote.get(&mac).copied();
        lan.remote.entry(mac).or_default().bridge = Some(kind);
        if before.and_then(|remote| remote.bridge) != Some(kind) {
            self.suspects.entry((vni, mac)).or_insert(before);
        }
        if let Some(port) = was_local {
            self.observe(Observation::LocalMacGone { vni, mac, port });
        }
    }

    /// A row of the VXLAN device.
    fn tunnel_row(&mut self, vni: Vni, mac: MacAddr, vtep: IpAddr) {
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if mac == MacAddr::ZERO {
            if lan.flood.insert(vtep) {
                self.flood_suspects.entry((vni, vtep)).or_insert(false);
            }
        } else if mac.is_unicast() {
            let before = lan.remote.get(&mac).copied();
            lan.remote.entry(mac).or_default().vtep = Some(vtep);
            if before.and_then(|remote| remote.vtep) != Some(vtep) {
                self.suspects.entry((vni, mac)).or_insert(before);
            }
        }
    }

    fn row_gone(&mut self, row: Row) {
        if i32::from(row.family) != libc::AF_BRIDGE {
            return self.neighbor_gone(row);
        }
        let Some(mac) = row.mac else { return };
        if let Some(&vni) = self.tunnel_lan.get(&row.index) {
            return self.tunnel_row_gone(vni, mac, row);
        }
        let Some(&vni) = row.bridge.and_then(|bridge| self.bridge_lan.get(&bridge)) else { return };
        if row.state & libc::NUD_PERMANENT != 0 {
            self.permanent_changed(vni, mac, false);
            return;
        }
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if lan.local.get(&mac).is_none_or(|&(index, _)| index != row.index) {
            return;
        }
        lan.local.remove(&mac);
        if let Some(port) = lan.ports.get(&row.index).cloned() {
            self.observe(Observation::LocalMacGone { vni, mac, port });
        }
    }

    fn tunnel_row_gone(&mut self, vni: Vni, mac: MacAddr, row: Row) {
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if mac == MacAddr::ZERO {
            if let Some(vtep) = row.destination.filter(|vtep| lan.flood.remove(vtep)) {
                self.flood_suspects.entry((vni, vtep)).or_insert(true);
            }
            return;
        }
        let Some(remote) = lan.remote.get_mut(&mac) else { return };
        let before = *remote;
        if row.bridge.is_some() {
            remote.bridge = None;
        } else if row.destination.is_none() || row.destination == remote.vtep {
            remote.vtep = None;
        }
        if *remote == RemoteRow::default() {
            lan.remote.remove(&mac);
        }
        if lan.remote.get(&mac) != Some(&before) {
            self.suspects.entry((vni, mac)).or_insert(Some(before));
        }
    }

    fn neighbor_changed(&mut self, row: Row) {
        let Some((&vni, ip)) = self.bridge_lan.get(&row.index).zip(row.destination) else { return };
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if row.flags & libc::NTF_EXT_LEARNED == 0 {
            return;
        }
        if let Some(mac) = row.mac
            && lan.neighbors.insert(ip, mac) != Some(mac)
        {
            self.observe(Observation::RowDisturbed { key: Key::Neighbor(vni, ip) });
        }
    }

    fn neighbor_gone(&mut self, row: Row) {
        let Some((&vni, ip)) = self.bridge_lan.get(&row.index).zip(row.destination) else { return };
        let Some(lan) = self.lans.get_mut(&vni) else { return };
        if lan.neighbors.remove(&ip).is_some() {
            self.observe(Observation::RowDisturbed { key: Key::Neighbor(vni, ip) });
        }
    }

    // ---- out ----

    pub fn snapshot(&self, suppresses_neighbors: bool, host: HostReport) -> Snapshot {
        let lans = self.lans.iter().map(|(&vni, lan)| (vni, self.lan_snapshot(lan))).collect();
        Snapshot { lans, adopted: self.ownership == Ownership::Adopted, suppresses_neighbors, host }
    }

    fn lan_snapshot(&self, lan: &Lan) -> LanSnapshot {
        let bridge = lan.bridge.and_then(|index| self.links.get(&index));
        let local = |(&mac, &(index, sticky)): (&MacAddr, &(u32, bool))| {
            let port = lan.ports.get(&index)?.clone();
            Some((mac, LocalMac { port, sticky }))
        };
        let port = |(index, id): (&u32, &PortId)| {
            let link = self.links.get(index)?;
            let (interface, mtu, carrier) = (link.name.clone(), link.mtu, link.carrier);
            Some((id.clone(), PortSnapshot { interface, index: *index, mtu, carrier }))
        };
        LanSnapshot {
            name: lan.name.clone(),
            mtu: bridge.map_or(0, |link| link.mtu),
            tunnel: lan.tunnel.is_some(),
            flood: lan.flood.iter().copied().collect(),
            remote: lan.remote.iter().map(|(&mac, &row)| (mac, row)).collect(),
            neighbors: lan.neighbors.iter().map(|(&ip, &mac)| (ip, mac)).collect(),
            ports: lan.ports.iter().filter_map(port).collect(),
            local: lan.local.iter().filter_map(local).collect(),
            devices: lan.devices.clone(),
        }
    }

    /// Says which VXLAN devices are left alone in adopt mode, and why.
    pub fn warn_of_unserved(&self) {
        for link in self.links.values() {
            if let LinkKind::Vxlan(Vxlan { vni, local, external, .. }) = link.kind
                && !self.tunnel_lan.contains_key(&link.index)
            {
                let (name, vtep) = (&link.name, self.vtep);
                warn!(
                    ?vni,
                    ?local,
                    external,
                    up = link.up,
                    "VXLAN device {name} is not served: it must be up, in a bridge of its own, not in external mode, with local address {vtep}"
                );
            }
        }
    }
}

/// Takes a device off the list of those in, or on, another one.
fn remove_from(lists: &mut HashMap<u32, BTreeSet<u32>>, of: Option<u32>, index: u32) {
    let Some(of) = of else { return };
    if let Some(list) = lists.get_mut(&of) {
        list.remove(&index);
        if list.is_empty() {
            lists.remove(&of);
        }
    }
}

/// Set by an administrator: no frame has taught the bridge this row, and no control plane.
fn is_static(row: &Row) -> bool {
    row.state & libc::NUD_NOARP != 0 && row.flags & libc::NTF_EXT_LEARNED == 0
}
