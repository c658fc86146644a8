//! One LAN in memory: a bridge that learns, and the VXLAN device in it.
//!
//! In: rows and frames. Out: where frames go, and what the kernel would notify. Follows the kernel's rules: a row that a
//! control plane wrote moves when its MAC speaks locally, a sticky one does not, and a MAC that the bridge sends to the
//! tunnel but the VXLAN device does not know is flooded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::types::{MacAddr, Vni};

use crate::{BridgeRow, LanSnapshot, LocalMac, Observation, PortId, PortSnapshot, RemoteRow};

/// Where a frame leaves a node.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Egress {
    /// Out of a local port.
    Port(PortId),
    /// In a tunnel to this VTEP.
    Vtep(IpAddr),
}

/// A row of the bridge.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Row {
    Local { port: PortId, sticky: bool },
    Tunnel(BridgeRow),
}

/// The VXLAN device.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    pub flood: BTreeSet<IpAddr>,
    pub rows: BTreeMap<MacAddr, IpAddr>,
}

/// A port that leads to a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalPort {
    pub index: u32,
    pub mtu: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lan {
    pub vni: Vni,
    pub name: String,
    pub tunnel: Option<Tunnel>,
    pub ports: BTreeMap<PortId, LocalPort>,
    pub neighbors: BTreeMap<IpAddr, MacAddr>,
    bridge: BTreeMap<MacAddr, Row>,
}

impl Lan {
    pub fn new(vni: Vni, name: String) -> Self {
        Self { vni, name, tunnel: None, ports: BTreeMap::new(), neighbors: BTreeMap::new(), bridge: BTreeMap::new() }
    }

    // ---- rows ----

    /// The bridge's row that leads to the tunnel.
    pub fn write_bridge_row(&mut self, mac: MacAddr, row: BridgeRow) {
        self.bridge.insert(mac, Row::Tunnel(row));
    }

    pub fn remove_bridge_row(&mut self, mac: MacAddr) {
        if matches!(self.bridge.get(&mac), Some(Row::Tunnel(_))) {
            self.bridge.remove(&mac);
        }
    }

    /// The rows of a remote MAC, if there is any.
    pub fn remote(&self, mac: MacAddr) -> Option<RemoteRow> {
        let vtep = self.tunnel.as_ref().and_then(|tunnel| tunnel.rows.get(&mac).copied());
        let bridge = match self.bridge.get(&mac) {
            Some(Row::Tunnel(row)) => Some(*row),
            _ => None,
        };
        (vtep.is_some() || bridge.is_some()).then_some(RemoteRow { vtep, bridge })
    }

    pub fn remove_tunnel(&mut self) -> bool {
        self.bridge.retain(|_, row| matches!(row, Row::Local { .. }));
        self.neighbors.clear();
        self.tunnel.take().is_some()
    }

    /// Removes a port with what was learned behind it: what it was, and the MACs.
    pub fn remove_port(&mut self, port: &PortId) -> Option<(LocalPort, Vec<MacAddr>)> {
        let removed = self.ports.remove(port)?;
        let behind = |row: &Row| matches!(row, Row::Local { port: of, .. } if of == port);
        let macs = self.bridge.iter().filter(|(_, row)| behind(row)).map(|(&mac, _)| mac).collect();
        self.bridge.retain(|_, row| !behind(row));
        Some((removed, macs))
    }

    /// Forgets a MAC behind a local port; the port.
    pub fn forget_local(&mut self, mac: MacAddr) -> Option<PortId> {
        match self.bridge.get(&mac)? {
            Row::Local { port, .. } => {
                let port = port.clone();
                self.bridge.remove(&mac);
                Some(port)
            }
            Row::Tunnel(_) => None,
        }
    }

    /// Enters a row on a local port, as an administrator does.
    pub fn write_local(&mut self, mac: MacAddr, port: PortId, sticky: bool) -> Option<Observation> {
        let vni = self.vni;
        let row = Row::Local { port: port.clone(), sticky };
        match self.bridge.insert(mac, row.clone()) {
            Some(old) if old == row => None,
            Some(Row::Tunnel(_)) => Some(Observation::RowTakenOver { vni, mac, port, sticky }),
            _ => Some(Observation::LocalMac { vni, mac, port, sticky }),
        }
    }

    // ---- frames ----

    /// Learns where a frame came from.
    pub fn learn(&mut self, port: &PortId, source: MacAddr) -> Option<Observation> {
        if !source.is_unicast() {
            return None;
        }
        match self.bridge.get(&source) {
            Some(Row::Local { sticky: true, .. } | Row::Tunnel(BridgeRow::Sticky)) => None,
            _ => self.write_local(source, port.clone(), false),
        }
    }

    /// Where a frame from a local port goes.
    pub fn forward(&self, from: &PortId, destination: MacAddr) -> Vec<Egress> {
        match self.bridge.get(&destination).filter(|_| destination.is_unicast()) {
            Some(Row::Local { port, .. }) if port == from => Vec::new(),
            Some(Row::Local { port, .. }) => vec![Egress::Port(port.clone())],
            Some(Row::Tunnel(_)) => self.encapsulate(destination),
            None => {
                let others = self.ports.keys().filter(|&port| port != from).cloned().map(Egress::Port);
                others.chain(self.encapsulate(destination)).collect()
            }
        }
    }

    /// What the VXLAN device does with a frame that the bridge gives it.
    fn encapsulate(&self, destination: MacAddr) -> Vec<Egress> {
        let Some(tunnel) = &self.tunnel else { return Vec::new() };
        match tunnel.rows.get(&destination) {
            Some(&vtep) => vec![Egress::Vtep(vtep)],
            None => tunnel.flood.iter().copied().map(Egress::Vtep).collect(),
        }
    }

    /// The ports that get a frame out of the tunnel: nothing goes back into it.
    pub fn deliver(&self, destination: MacAddr) -> Vec<PortId> {
        if self.tunnel.is_none() {
            return Vec::new();
        }
        match self.bridge.get(&destination).filter(|_| destination.is_unicast()) {
            Some(Row::Local { port, .. }) => vec![port.clone()],
            Some(Row::Tunnel(_)) => Vec::new(),
            None => self.ports.keys().cloned().collect(),
        }
    }

    // ---- out ----

    pub fn snapshot(&self, mtu_max: u32) -> LanSnapshot {
        let mut lan = LanSnapshot {
            name: self.name.clone(),
            mtu: self.ports.values().map(|port| port.mtu).min().unwrap_or(mtu_max),
            tunnel: self.tunnel.is_some(),
            neighbors: self.neighbors.clone(),
            ..LanSnapshot::default()
        };
        if let Some(tunnel) = &self.tunnel {
            lan.flood.clone_from(&tunnel.flood);
            lan.remote.extend(tunnel.rows.keys().filter_map(|&mac| Some((mac, self.remote(mac)?))));
        }
        for (&mac, row) in &self.bridge {
            match row {
                Row::Local { port, sticky } => {
                    lan.local.insert(mac, LocalMac { port: port.clone(), sticky: *sticky });
                }
                Row::Tunnel(_) => lan.remote.extend(self.remote(mac).map(|remote| (mac, remote))),
            }
        }
        for (id, &LocalPort { index, mtu }) in &self.ports {
            let port = PortSnapshot { interface: id.device_name(), index, mtu, carrier: true };
            lan.ports.insert(id.clone(), port);
        }
        lan
    }
}
