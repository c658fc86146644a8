//! Writes rows: remote MACs, flood lists, neighbours.
//!
//! One message writes both rows of a remote MAC. Where it fails, the rows are written apart, since the kernel does the
//! bridge's row first and skips the other on an error. Removals are always apart, for the same reason. A row that must
//! change its kind (local to remote, sticky or not) is removed and added, or it would keep marks of what it was.

use std::net::IpAddr;

use bgp_core::types::{MacAddr, Vni};
use evpn::forwarding::{Desired, Key};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Linux;
use super::socket::Batch;
use super::table::{Lan, Table};
use crate::{BridgeRow, Change, ChangeError, KernelError, RemoteRow};

/// How many changes go out together. More saves nothing.
const CHANGES_PER_BATCH: usize = 128;
/// The most notifications that one change causes: two rows, each removed and added.
const NOTIFICATIONS_PER_CHANGE: usize = 4;
const NOT_AGEING: u16 = libc::NUD_NOARP | libc::NUD_REACHABLE;

/// What a message is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    /// Its failure is the change's.
    Write,
    /// On failure both rows are written apart.
    WriteBoth,
    /// Absence is success.
    Remove,
}

/// Messages with the change that each belongs to.
#[derive(Default)]
struct Plan {
    batch: Batch,
    of: Vec<(usize, Purpose)>,
}

impl Plan {
    fn push(&mut self, change: usize, purpose: Purpose, message: RouteNetlinkMessage, flags: u16) {
        self.batch.push(message, flags);
        self.of.push((change, purpose));
    }
}

impl Linux {
    /// Writes rows; the tunnels are there or not, but do not change meanwhile.
    pub(super) fn write_rows(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        let mut results = Vec::with_capacity(changes.len());
        // The notifications of a batch must fit their buffer, which is small where limits cannot be exceeded.
        let fitting = (self.events.capacity() / NOTIFICATIONS_PER_CHANGE).clamp(8, CHANGES_PER_BATCH);
        for part in changes.chunks(fitting) {
            results.extend(self.write_part(part));
        }
        results
    }

    fn write_part(&mut self, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        let mut plan = Plan::default();
        let mut results: Vec<Result<(), ChangeError>> = Vec::with_capacity(changes.len());
        for (at, change) in changes.iter().enumerate() {
            results.push(self.encode(&mut plan, at, change));
        }
        let mut apart = Plan::default();
        for (outcome, &(at, purpose)) in self.overlay.transact(&mut plan.batch).into_iter().zip(&plan.of) {
            let (Err(cause), Some(change), Some(result)) = (outcome, changes.get(at), results.get_mut(at)) else {
                continue;
            };
            if purpose == Purpose::WriteBoth && cause.errno != libc::ENODEV {
                self.encode_apart(&mut apart, at, change);
            } else if let Some(error) = judge(change.key, purpose, cause) {
                *result = Err(error);
            }
        }
        for (outcome, &(at, purpose)) in self.overlay.transact(&mut apart.batch).into_iter().zip(&apart.of) {
            let (Err(cause), Some(change), Some(result)) = (outcome, changes.get(at), results.get_mut(at)) else {
                continue;
            };
            if let Some(error) = judge(change.key, purpose, cause) {
                *result = Err(error);
            }
        }
        for (change, result) in changes.iter().zip(&results) {
            note(&mut self.table, change, result.is_ok());
        }
        // Now the notifications of these writes tell nothing new. A failure shows at the next poll.
        let _ = self.drain();
        results
    }

    fn encode(&self, plan: &mut Plan, at: usize, change: &Change) -> Result<(), ChangeError> {
        let key = change.key;
        let Some(lan) = self.table.lan(vni_of(key)) else { return absent(change) };
        let (Some(tunnel), Some(bridge)) = (lan.tunnel, lan.bridge) else { return absent(change) };
        match (key, change.desired) {
            (Key::Mac(_, mac), _) if !mac.is_unicast() => return Err(ChangeError::Invalid { key }),
            (Key::Mac(_, mac), Some(Desired::RemoteMac { vtep, sticky })) => {
                self.check_family(vtep)?;
                encode_remote(plan, at, lan, RemoteMac { tunnel, mac, vtep, sticky });
            }
            (Key::Mac(_, mac), None) => {
                let remove = |flags| forward_row(tunnel, mac, None, flags, libc::NUD_NONE);
                plan.push(at, Purpose::Remove, delete(remove(NeighbourFlags::Own)), 0);
                plan.push(at, Purpose::Remove, delete(remove(NeighbourFlags::Controller)), 0);
            }
            (Key::Flood(_, vtep), Some(Desired::Flood)) => {
                self.check_family(vtep)?;
                plan.push(at, Purpose::Write, new(flood_row(tunnel, vtep)), NLM_F_CREATE | NLM_F_APPEND);
            }
            (Key::Flood(_, vtep), None) => plan.push(at, Purpose::Remove, delete(flood_row(tunnel, vtep)), 0),
            // Accepted and not needed: nobody asks the bridge.
            (Key::Neighbor(..), _) if !self.config.suppress_neighbors => {}
            (Key::Neighbor(_, ip), Some(Desired::Neighbor { mac })) => {
                plan.push(at, Purpose::Write, new(neighbor(bridge, ip, Some(mac))), NLM_F_CREATE | NLM_F_REPLACE);
            }
            (Key::Neighbor(_, ip), None) => plan.push(at, Purpose::Remove, delete(neighbor(bridge, ip, None)), 0),
            _ => return Err(ChangeError::Invalid { key }),
        }
        Ok(())
    }

    /// Both rows of a remote MAC, each by its own message.
    fn encode_apart(&self, plan: &mut Plan, at: usize, change: &Change) {
        let (Key::Mac(vni, mac), Some(Desired::RemoteMac { vtep, .. })) = (change.key, change.desired) else { return };
        let Some(tunnel) = self.table.lan(vni).and_then(|lan| lan.tunnel) else { return };
        let row = |flags, vtep| new(forward_row(tunnel, mac, vtep, flags | EXTERNAL, libc::NUD_REACHABLE));
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        let remove = delete(forward_row(tunnel, mac, None, NeighbourFlags::Controller, libc::NUD_NONE));
        plan.push(at, Purpose::Remove, remove, 0);
        plan.push(at, Purpose::Write, row(NeighbourFlags::Controller, None), flags);
        plan.push(at, Purpose::Write, row(NeighbourFlags::Own, Some(vtep)), flags);
    }

    fn check_family(&self, vtep: IpAddr) -> Result<(), ChangeError> {
        let local = self.config.vtep;
        if vtep.is_ipv4() == local.is_ipv4() { Ok(()) } else { Err(ChangeError::AddressFamily { vtep, local }) }
    }
}

const EXTERNAL: NeighbourFlags = NeighbourFlags::ExtLearned;

struct RemoteMac {
    tunnel: u32,
    mac: MacAddr,
    vtep: IpAddr,
    sticky: bool,
}

fn encode_remote(plan: &mut Plan, at: usize, lan: &Lan, remote: RemoteMac) {
    let RemoteMac { tunnel, mac, vtep, sticky } = remote;
    let wanted = if sticky { BridgeRow::Sticky } else { BridgeRow::External };
    let known = lan.remote.get(&mac).and_then(|row| row.bridge);
    if let Some(&(port, _)) = lan.local.get(&mac) {
        let row = forward_row(port, mac, None, NeighbourFlags::Controller, libc::NUD_NONE);
        plan.push(at, Purpose::Remove, delete(row), 0);
    } else if known.is_some_and(|known| known != wanted) {
        let row = forward_row(tunnel, mac, None, NeighbourFlags::Controller, libc::NUD_NONE);
        plan.push(at, Purpose::Remove, delete(row), 0);
    }
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    if sticky {
        // The kernel ignores STICKY beside EXT_LEARNED.
        let own = forward_row(tunnel, mac, Some(vtep), NeighbourFlags::Own | EXTERNAL, libc::NUD_REACHABLE);
        let bridge = forward_row(tunnel, mac, None, NeighbourFlags::Controller | NeighbourFlags::Sticky, NOT_AGEING);
        plan.push(at, Purpose::Write, new(own), flags);
        plan.push(at, Purpose::Write, new(bridge), flags);
    } else {
        let both = NeighbourFlags::Own | NeighbourFlags::Controller | EXTERNAL;
        let row = forward_row(tunnel, mac, Some(vtep), both, libc::NUD_REACHABLE);
        plan.push(at, Purpose::WriteBoth, new(row), flags);
    }
}

/// Whether a change of a row whose tunnel is not there is done or refused.
fn absent(change: &Change) -> Result<(), ChangeError> {
    match change.desired {
        None => Ok(()),
        Some(_) => Err(ChangeError::NoTunnel { vni: vni_of(change.key) }),
    }
}

/// What a refusal means for the change.
fn judge(key: Key, purpose: Purpose, cause: KernelError) -> Option<ChangeError> {
    match (purpose, cause.errno) {
        (Purpose::Remove, libc::ENOENT | libc::ENODEV | libc::ESRCH) => None,
        (_, libc::ENODEV) => Some(ChangeError::NoTunnel { vni: vni_of(key) }),
        (Purpose::Remove, _) => Some(ChangeError::Kernel { action: "removing a row", cause }),
        _ => Some(ChangeError::Kernel { action: "writing a row", cause }),
    }
}

/// Enters into the table what the kernel has acknowledged.
fn note(table: &mut Table, change: &Change, done: bool) {
    let Some(lan) = table.lan_mut(vni_of(change.key)).filter(|lan| lan.tunnel.is_some()) else { return };
    match (change.key, change.desired) {
        (Key::Mac(_, mac), Some(Desired::RemoteMac { vtep, sticky })) if done => {
            lan.local.remove(&mac);
            let bridge = if sticky { BridgeRow::Sticky } else { BridgeRow::External };
            lan.remote.insert(mac, RemoteRow { vtep: Some(vtep), bridge: Some(bridge) });
        }
        // Half done, perhaps: the next try removes the bridge's row first.
        (Key::Mac(_, mac), Some(_)) if mac.is_unicast() => {
            lan.remote.entry(mac).or_default().bridge = Some(BridgeRow::Foreign);
        }
        (Key::Mac(_, mac), None) if done => _ = lan.remote.remove(&mac),
        (Key::Flood(_, vtep), Some(_)) if done => _ = lan.flood.insert(vtep),
        (Key::Flood(_, vtep), None) if done => _ = lan.flood.remove(&vtep),
        (Key::Neighbor(_, ip), Some(Desired::Neighbor { mac })) if done => _ = lan.neighbors.insert(ip, mac),
        (Key::Neighbor(_, ip), None) if done => _ = lan.neighbors.remove(&ip),
        _ => {}
    }
}

/// The LAN that a key is part of.
pub(super) fn vni_of(key: Key) -> Vni {
    let (Key::Tunnel(vni) | Key::Flood(vni, _) | Key::Mac(vni, _) | Key::Neighbor(vni, _)) = key;
    vni
}

fn new(message: NeighbourMessage) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewNeighbour(message)
}

fn delete(message: NeighbourMessage) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelNeighbour(message)
}

fn forward_row(index: u32, mac: MacAddr, vtep: Option<IpAddr>, flags: NeighbourFlags, state: u16) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.flags = flags;
    message.header.state = NeighbourState::Other(state);
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(vtep.map(|vtep| NeighbourAttribute::Destination(NeighbourAddress::from(vtep))));
    message
}

fn flood_row(tunnel: u32, vtep: IpAddr) -> NeighbourMessage {
    let state = libc::NUD_NOARP | libc::NUD_PERMANENT;
    forward_row(tunnel, MacAddr::ZERO, Some(vtep), NeighbourFlags::Own, state)
}

fn neighbor(bridge: u32, ip: IpAddr, mac: Option<MacAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = bridge;
    message.header.flags = EXTERNAL;
    message.header.state = NeighbourState::Noarp;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(ip)));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    message
}
